import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import { AccountLinks, TokenManager } from '../../src/index.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp } from '../support/tokens-app.js';
import { until } from '../support/until.js';
import { type Doorkeeper, startDoorkeeper } from './doorkeeper.js';
import { isAccepted, REDIRECT_URI, type ServerUser } from './oauth-server.js';

const IDP = 'doorkeeper';

let server: Doorkeeper;
let database: TestDatabase;
let app: INestApplication;
let links: AccountLinks;
let tokens: TokenManager;
let userId: string;
let users = 0;

beforeAll(async () => {
  server = await startDoorkeeper();
  database = await createTestDatabase();
  const { client, authorizationEndpoint, tokenEndpoint, revocationEndpoint, resourceEndpoint } = server;
  const entry = {
    ...{ ...client, authorizationEndpoint, tokenEndpoint, revocationEndpoint },
    redirectUri: REDIRECT_URI,
    scopes: [server.scope],
    accountEndpoint: resourceEndpoint,
    readAccount: ({ name }: Record<string, unknown>) => ({ subject: String(name), name: String(name) }),
  };
  ({ app } = await createTokensApp({ databaseUrl: database.url, options: { identityProviders: { [IDP]: entry } } }));
  links = app.get(AccountLinks);
  tokens = app.get(TokenManager);
}, 120_000);

afterAll(async () => {
  await app.close();
  await database.drop();
  await server.stop();
});

beforeEach(() => {
  userId = `user-of-host-${++users}`;
});

/** Opens a page of Doorkeeper in the browser of a user, and returns the URL to which it sends the browser back. */
async function sentBack(url: string, { headers }: ServerUser, method = 'GET'): Promise<URL> {
  const response = await fetch(url, { method, headers, redirect: 'manual' });
  await response.arrayBuffer();
  return new URL(response.headers.get('location') ?? `about:${response.status}`);
}

async function link(user: ServerUser, options: Parameters<AccountLinks['begin']>[2] = {}) {
  const { authorizationUrl } = await links.begin(userId, IDP, options);
  return links.finish(userId, await sentBack(authorizationUrl, user), { idp: IDP });
}

function nameOf({ headers }: ServerUser): string {
  return headers['x-user'] ?? '';
}

describe('A link to an account at Doorkeeper', () => {
  it('stores tokens that work, their scopes and the account', async () => {
    const user = await server.newUser();
    await expect(link(user, { returnTo: '/done' })).resolves.toEqual({
      ...{ idp: IDP, account: '', scopes: ['api'], returnTo: '/done' },
      ...{ subject: nameOf(user), name: nameOf(user) },
    });
    const { accessToken } = await tokens.getIdpToken(userId, IDP);
    await expect(isAccepted(server, accessToken)).resolves.toBe(true);
  });

  it('is widened by a scope, whose tokens are refreshed', async () => {
    const user = await server.newUser();
    await link(user);
    await expect(link(user, { scopes: ['brief'] })).resolves.toMatchObject({ scopes: ['api', 'brief'] });
    const { accessToken } = await tokens.getIdpToken(userId, IDP);
    await until(async () => !(await isAccepted(server, accessToken)));
    const next = await tokens.getIdpToken(userId, IDP, { scopes: ['brief'] });
    expect(next.accessToken).not.toBe(accessToken);
    await expect(isAccepted(server, next.accessToken)).resolves.toBe(true);
  });

  it('takes no code of another attempt, because Doorkeeper checks the code verifier', async () => {
    const [user, mallory] = [await server.newUser(), await server.newUser()];
    const ofMallory = await links.begin('mallory', IDP);
    const stolen = await sentBack(ofMallory.authorizationUrl, mallory);
    const { authorizationUrl } = await links.begin(userId, IDP);
    const callback = await sentBack(authorizationUrl, user);
    callback.searchParams.set('code', stolen.searchParams.get('code') ?? '');
    await expect(links.finish(userId, callback, { idp: IDP })).rejects.toMatchObject({
      reason: 'provider_error',
      providerCode: 'invalid_grant',
    });
    await expect(links.list(userId)).resolves.toEqual([]);
  });

  it('takes no code twice', async () => {
    const user = await server.newUser();
    const first = await links.begin(userId, IDP);
    const callback = await sentBack(first.authorizationUrl, user);
    await links.finish(userId, callback, { idp: IDP });
    const second = await sentBack((await links.begin(userId, IDP)).authorizationUrl, user);
    second.searchParams.set('code', callback.searchParams.get('code') ?? '');
    await expect(links.finish(userId, second, { idp: IDP })).rejects.toMatchObject({ reason: 'provider_error' });
  });

  it('is refused by the user', async () => {
    const { authorizationUrl } = await links.begin(userId, IDP);
    const callback = await sentBack(authorizationUrl, await server.newUser(), 'DELETE'); // the button "Deny"
    await expect(links.finish(userId, callback, { idp: IDP })).rejects.toMatchObject({
      reason: 'denied',
      providerCode: 'access_denied',
    });
  });

  it('of another account is refused, and the new tokens end', async () => {
    const [owner, other] = [await server.newUser(), await server.newUser()];
    await link(owner);
    const { accessToken } = await tokens.getIdpToken(userId, IDP);
    await expect(link(other)).rejects.toMatchObject({ reason: 'account_mismatch' });
    await until(async () => (await database.query('SELECT FROM token_revocations')).length === 0);
    await expect(isAccepted(server, accessToken)).resolves.toBe(true);
    await expect(links.list(userId)).resolves.toMatchObject([{ subject: nameOf(owner) }]);
  });

  it('ends with its tokens', async () => {
    await link(await server.newUser());
    const { accessToken } = await tokens.getIdpToken(userId, IDP);
    await expect(links.unlink(userId, IDP)).resolves.toBe(true);
    await until(async () => !(await isAccepted(server, accessToken)));
  });
});
