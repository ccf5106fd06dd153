import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import { ProviderMisconfiguredError, TokenManager, type TokensModuleOptions } from '../../src/index.js';
import { OutcomeTable } from '../support/outcome-table.js';
import { ScriptedProvider } from '../support/scripted-provider.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from '../support/token-endpoint.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { until } from '../support/until.js';

const keys = [{ id: 'test', secret: newKey() }];
const table = new OutcomeTable();

let database: TestDatabase;
let endpoint: TokenEndpoint;
const apps: INestApplication[] = [];
/** The client of each refresh token. */
const owners = new Map<string, string>();

async function startApp(acme: TokensModuleOptions['identityProviders'][string]): Promise<TokenManager> {
  const options = { encryption: { keys }, identityProviders: { acme } };
  const { app } = await createTokensApp({ databaseUrl: database.url, options });
  apps.push(app);
  return app.get(TokenManager);
}

/** Ends the running application and starts one with this client. */
async function restartAs(clientId: string): Promise<TokenManager> {
  await stopApps();
  return startApp({
    clientId,
    clientSecret: 'secret',
    clientAuthentication: 'client_secret_post',
    tokenEndpoint: endpoint.url,
    revocationEndpoint: `${endpoint.url}/revoke`,
  });
}

async function stopApps(): Promise<void> {
  await Promise.all(apps.splice(0).map((app) => app.close()));
}

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
});

afterAll(async () => {
  table.print();
  await endpoint.close();
  await database.drop();
});

let user = '';
let users = 0;

beforeEach(() => {
  user = `user-${++users}`;
  endpoint.redeemed.length = 0;
  endpoint.revoked.length = 0;
  endpoint.answer = (refreshToken, form) => {
    const clientId = form.get('client_id') ?? '';
    if (owners.get(refreshToken) !== clientId) return { status: 400, body: { error: 'invalid_grant' } };
    const pair = newPair();
    owners.set(String(pair.body.refresh_token), clientId);
    return pair;
  };
});

afterEach(async () => {
  await stopApps();
});

/** Stores a grant of client A by the application of client A, and returns the refresh token. */
async function connectAtA(accessTokenExpiresAt: number): Promise<string> {
  const refreshToken = `refresh-of-a-${users}`;
  owners.set(refreshToken, 'client-a');
  const manager = await restartAs('client-a');
  await manager.storeIdpTokens(user, 'acme', { accessToken: 'access-of-a', refreshToken, accessTokenExpiresAt });
  return refreshToken;
}

async function row(): Promise<Record<string, unknown>> {
  const [found] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [user]);
  return found ?? {};
}

function inSeconds(seconds: number): number {
  return Math.floor(Date.now() / 1000) + seconds;
}

describe('A grant of another client than the configured one', () => {
  it('is not sent when its access token has expired: the error names both, and the grant goes on when the client is back', async () => {
    const refreshToken = await connectAtA(1);
    const before = await row();
    const wrong = await restartAs('client-b');
    for (let time = 0; time < 3; time++) {
      const failure: unknown = await wrong.getIdpToken(user, 'acme').catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(ProviderMisconfiguredError);
      expect(String(failure)).toMatch(/"client-a".*"client-b"/);
    }
    expect(endpoint.redeemed).toEqual([]);
    await expect(row()).resolves.toEqual(before);
    const right = await restartAs('client-a');
    await expect(right.getIdpToken(user, 'acme')).resolves.toMatchObject({
      accessToken: expect.stringMatching(/^access-secret-/),
    });
    expect(endpoint.redeemed).toEqual([refreshToken]);
    await expect(row()).resolves.toMatchObject({ status: 'active', client_id: 'client-a' });
    table.add('another client configured for a while', { tried: 1, recovered: 1, reauthentication: 0, lost: 0 });
  });

  it('is not sent when its access token is stale but works: that is served', async () => {
    await connectAtA(inSeconds(600));
    await database.query(`UPDATE auth_tokens SET issued_at = now() - interval '10 days' WHERE keycloak_user_id = $1`, [
      user,
    ]);
    const wrong = await restartAs('client-b');
    await expect(wrong.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-of-a' });
    expect(endpoint.redeemed).toEqual([]);
    const rejectedVersion = String((await row()).token_version);
    await expect(wrong.getIdpToken(user, 'acme', { rejectedVersion })).rejects.toThrow(ProviderMisconfiguredError);
    expect(endpoint.redeemed).toEqual([]);
    await expect(row()).resolves.toMatchObject({ status: 'active', client_id: 'client-a' });
  });

  it('is replaced by a login at the configured one', async () => {
    await connectAtA(1);
    const manager = await restartAs('client-b');
    owners.set(`refresh-of-b-${users}`, 'client-b');
    const login = { accessToken: 'access-of-b', refreshToken: `refresh-of-b-${users}`, accessTokenExpiresAt: 1 };
    await manager.storeIdpTokens(user, 'acme', login);
    await manager.getIdpToken(user, 'acme');
    expect(endpoint.redeemed).toEqual([login.refreshToken]);
    await expect(row()).resolves.toMatchObject({ status: 'active', client_id: 'client-b' });
  });

  it('is not revoked by it: the outbox keeps the pair for the application of its client', async () => {
    const refreshToken = await connectAtA(1);
    const wrong = await restartAs('client-b');
    await expect(wrong.revokeIdpTokens(user, 'acme')).resolves.toBe(true);
    const attempt = async () => (await database.query('SELECT * FROM token_revocations'))[0] ?? {};
    await until(async () => Number((await attempt()).attempts) >= 1 && (await attempt()).last_error_code !== null);
    await expect(attempt()).resolves.toMatchObject({ last_error_code: 'OTHER_CLIENT', client_id: 'client-a' });
    expect(endpoint.revoked).toEqual([]);
    const right = await restartAs('client-a');
    await database.query('UPDATE token_revocations SET next_attempt_at = now()');
    await right.storeIdpTokens(`${user}-other`, 'acme', { accessToken: 'a', refreshToken: 'refresh-other' });
    await right.revokeIdpTokens(`${user}-other`, 'acme'); // wakes the outbox
    await until(() => endpoint.revoked.length === 2);
    expect(endpoint.revoked).toContain(refreshToken);
    await until(async () => (await database.query('SELECT FROM token_revocations')).length === 0);
  });
});

describe('A grant whose client is not known', () => {
  it('is sent, and gets the client with its first success', async () => {
    const refreshToken = await connectAtA(1);
    await database.query('UPDATE auth_tokens SET client_id = NULL WHERE keycloak_user_id = $1', [user]);
    owners.set(refreshToken, 'client-b');
    const manager = await restartAs('client-b');
    await manager.getIdpToken(user, 'acme');
    expect(endpoint.redeemed).toEqual([refreshToken]);
    await expect(row()).resolves.toMatchObject({ status: 'active', client_id: 'client-b' });
  });

  it('keeps it unknown when its provider is down', async () => {
    await connectAtA(1);
    await database.query('UPDATE auth_tokens SET client_id = NULL WHERE keycloak_user_id = $1', [user]);
    const manager = await restartAs('client-b');
    endpoint.answer = () => ({ status: 503 });
    await expect(manager.getIdpToken(user, 'acme')).rejects.toMatchObject({ code: 'ERR_TOKENS_REFRESH_UNAVAILABLE' });
    await expect(row()).resolves.toMatchObject({ status: 'active', client_id: null, open_leases: 0 });
  });
});

describe('A provider object without a client', () => {
  it('gets every grant, and keeps the client that it is stored with', async () => {
    const refreshToken = await connectAtA(1);
    await stopApps();
    const provider = new ScriptedProvider();
    const tokens = { accessToken: 'access-new', refreshToken: 'refresh-new', accessTokenExpiresIn: 3600 };
    provider.onRefresh(refreshToken, { kind: 'success', tokens });
    const manager = await startApp(provider);
    await expect(manager.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-new' });
    expect(provider.redeemed).toEqual([refreshToken]);
    await expect(row()).resolves.toMatchObject({ status: 'active', client_id: 'client-a' });
  });
});
