import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import { authorize } from '../examples/support/authorization-code-flow.js';
import { type AuthorizationServer, startAuthorizationServer } from '../examples/support/authorization-server.js';
import { AccountLinks, TokenManager } from '../src/index.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const REDIRECT_URI = 'http://127.0.0.1:9/connections/certified/callback';
const USER = 'user-of-host';
const client = { clientId: 'tests', clientSecret: 'secret of the tests, long enough' };

let database: TestDatabase;
let server: AuthorizationServer;
let app: INestApplication;
let links: AccountLinks;
let manager: TokenManager;

beforeAll(async () => {
  database = await createTestDatabase();
  server = await startAuthorizationServer({ ...client, redirectUris: [REDIRECT_URI], accessTokenTtlSeconds: 2 });
  const certified = {
    ...client,
    issuer: server.issuer,
    redirectUri: REDIRECT_URI,
    scopes: ['openid', 'profile', 'offline_access'],
    authorizationParameters: { prompt: 'consent' },
  };
  ({ app } = await createTokensApp({ databaseUrl: database.url, options: { identityProviders: { certified } } }));
  links = app.get(AccountLinks);
  manager = app.get(TokenManager);
});

afterAll(async () => {
  await app.close();
  await server.stop();
  await database.drop();
});

async function userinfo(accessToken: string): Promise<Response> {
  return fetch(server.userinfoEndpoint, { headers: { authorization: `Bearer ${accessToken}` } });
}

async function link(login: string, options: Parameters<AccountLinks['begin']>[2] = {}) {
  const { authorizationUrl } = await links.begin(USER, 'certified', options);
  const callback = await authorize(authorizationUrl, { login, redirectUri: REDIRECT_URI });
  return { authorizationUrl, callback, linked: await links.finish(USER, callback) };
}

describe('A certified server that an entry names only by its issuer', () => {
  it('takes the pushed request, names itself in the answer, and its ID token tells the account', async () => {
    const { authorizationUrl, callback, linked } = await link('ada', { returnTo: '/done' });
    expect([...new URL(authorizationUrl).searchParams.keys()].sort()).toEqual(['client_id', 'request_uri']);
    expect(callback.searchParams.get('iss')).toBe(server.issuer);
    expect(linked).toEqual({
      ...{ idp: 'certified', account: '', subject: 'ada', name: 'ada', returnTo: '/done' },
      scopes: ['offline_access', 'openid', 'profile'],
    });
    const { accessToken } = await manager.getIdpToken(USER, 'certified');
    await expect((await userinfo(accessToken)).json()).resolves.toMatchObject({ sub: 'ada' });
  });

  it('refreshes at the endpoint that it names', async () => {
    const { accessToken } = await manager.getIdpToken(USER, 'certified');
    await until(async () => !(await userinfo(accessToken)).ok);
    const fresh = await manager.getIdpToken(USER, 'certified');
    expect(fresh.accessToken).not.toBe(accessToken);
    expect((await userinfo(fresh.accessToken)).status).toBe(200);
  });

  it('refuses a code that comes a second time, and the user keeps the tokens', async () => {
    const { authorizationUrl } = await links.begin(USER, 'certified');
    const first = await authorize(authorizationUrl, { login: 'ada', redirectUri: REDIRECT_URI });
    await links.finish(USER, first);
    const second = await links.begin(USER, 'certified');
    const callback = await authorize(second.authorizationUrl, { login: 'ada', redirectUri: REDIRECT_URI });
    callback.searchParams.set('code', first.searchParams.get('code') ?? '');
    await expect(links.finish(USER, callback)).rejects.toMatchObject({ reason: 'provider_error' });
  });

  it('refuses the code of an attempt of another user, because it checks the code verifier', async () => {
    const ofMallory = await links.begin('mallory-of-host', 'certified');
    const stolen = await authorize(ofMallory.authorizationUrl, { login: 'mallory', redirectUri: REDIRECT_URI });
    const { authorizationUrl } = await links.begin(USER, 'certified');
    const callback = await authorize(authorizationUrl, { login: 'ada', redirectUri: REDIRECT_URI });
    callback.searchParams.set('code', stolen.searchParams.get('code') ?? '');
    await expect(links.finish(USER, callback)).rejects.toMatchObject({
      reason: 'provider_error',
      providerCode: 'invalid_grant',
    });
    await expect(links.list(USER)).resolves.toMatchObject([{ subject: 'ada', state: 'active' }]);
  });

  it.each([
    ['has the name of another server', 'https://evil.example'],
    ['does not have its name', null],
  ])('is not asked about an answer that %s', async (_, iss) => {
    const { authorizationUrl } = await links.begin(USER, 'certified');
    const callback = await authorize(authorizationUrl, { login: 'ada', redirectUri: REDIRECT_URI });
    if (iss === null) callback.searchParams.delete('iss');
    else callback.searchParams.set('iss', iss);
    await expect(links.finish(USER, callback)).rejects.toMatchObject({ reason: 'issuer_mismatch' });
    // The code is unspent, so the user's browser could still bring it in the right answer. But the attempt is over.
    callback.searchParams.set('iss', server.issuer);
    await expect(links.finish(USER, callback)).rejects.toMatchObject({ reason: 'unknown_attempt' });
  });

  it('keeps the connected account if the user logs in with another one, whose tokens it revokes', async () => {
    await link('ada');
    const before = await server.countRequests();
    await expect(link('mallory')).rejects.toMatchObject({ reason: 'account_mismatch' });
    await until(async () => (await server.countRequests()).revocations === before.revocations + 1);
    await expect(links.list(USER)).resolves.toMatchObject([{ subject: 'ada' }]);
    await expect(link('mallory', { replaceAccount: true })).resolves.toMatchObject({ linked: { subject: 'mallory' } });
    await until(async () => (await server.countRequests()).revocations === before.revocations + 2);
  });

  it('revokes the tokens of a connection that ends', async () => {
    const { accessToken } = await manager.getIdpToken(USER, 'certified');
    await links.unlink(USER, 'certified');
    await until(async () => !(await userinfo(accessToken)).ok);
    await expect(links.list(USER)).resolves.toEqual([]);
  });
});
