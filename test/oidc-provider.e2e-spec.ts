import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import {
  allowInsecureRequests,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  calculatePKCECodeChallenge,
  type Configuration,
  discovery,
  randomPKCECodeVerifier,
} from 'openid-client';

import { authorize } from '../examples/support/authorization-code-flow.js';
import { type AuthorizationServer, startAuthorizationServer } from '../examples/support/authorization-server.js';
import { type IdpTokens, ReauthenticationRequiredError, TokenManager } from '../src/index.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp, newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

const client = {
  clientId: 'tests',
  clientSecret: 'secret of the tests, long enough',
  redirectUri: 'http://127.0.0.1:9/callback',
};
const keys = [{ id: 'test', secret: newKey() }];

let database: TestDatabase;
let server: AuthorizationServer;
let configuration: Configuration;
let apps: INestApplication[];
let managers: TokenManager[];

beforeAll(async () => {
  database = await createTestDatabase();
  server = await startAuthorizationServer({ ...client, redirectUris: [client.redirectUri], accessTokenTtlSeconds: 2 });
  configuration = await discovery(new URL(server.issuer), client.clientId, client.clientSecret, undefined, {
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- deprecated only as a warning; the server is on loopback
    execute: [allowInsecureRequests],
  });
  const identityProviders = {
    certified: {
      clientId: client.clientId,
      clientSecret: client.clientSecret,
      tokenEndpoint: server.tokenEndpoint,
      revocationEndpoint: server.revocationEndpoint,
    },
  };
  const created = await Promise.all(
    [1, 2, 3].map(() =>
      createTokensApp({ databaseUrl: database.url, options: { encryption: { keys }, identityProviders } }),
    ),
  );
  apps = created.map(({ app }) => app);
  managers = apps.map((app) => app.get(TokenManager));
});

afterAll(async () => {
  await Promise.all(apps.map((app) => app.close()));
  await server.stop();
  await database.drop();
});

let user = '';
let users = 0;
let manager: TokenManager;

beforeEach(async () => {
  user = `user-${++users}`;
  [manager = manager] = managers;
  await manager.storeIdpTokens(user, 'certified', await logIn());
});

afterEach(async () => {
  await manager.revokeIdpTokens(user, 'certified');
});

/** A real authorization-code flow with PKCE. */
async function logIn(): Promise<IdpTokens> {
  const verifier = randomPKCECodeVerifier();
  const url = buildAuthorizationUrl(configuration, {
    redirect_uri: client.redirectUri,
    scope: 'openid offline_access',
    prompt: 'consent',
    code_challenge: await calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  });
  const callback = await authorize(url, { login: user });
  const tokens = await authorizationCodeGrant(configuration, callback, { pkceCodeVerifier: verifier });
  return {
    accessToken: tokens.access_token,
    refreshToken: tokens.refresh_token,
    accessTokenExpiresAt: Math.floor(Date.now() / 1000) + (tokens.expires_in ?? 0),
  };
}

async function userinfo(accessToken: string): Promise<Response> {
  return fetch(server.userinfoEndpoint, { headers: { authorization: `Bearer ${accessToken}` } });
}

async function expire(): Promise<void> {
  const { accessToken } = await manager.getIdpToken(user, 'certified');
  await until(async () => !(await userinfo(accessToken)).ok);
}

describe('a certified server that rotates refresh tokens and revokes the grant on reuse', () => {
  it('accepts the token of its login', async () => {
    const { accessToken } = await manager.getIdpToken(user, 'certified');
    const answer = await userinfo(accessToken);
    expect(answer.status).toBe(200);
    await expect(answer.json()).resolves.toMatchObject({ sub: user });
  });

  it('is asked once by 3 instances × 50 callers who find the token expired, again and again', async () => {
    for (let round = 0; round < 3; round++) {
      await expire();
      const before = await server.countRequests();
      const calls = managers.flatMap((each) => Array.from({ length: 50 }, () => each.getIdpToken(user, 'certified')));
      const results = await Promise.all(calls);
      const after = await server.countRequests();
      expect(after.refreshGrants - before.refreshGrants).toBe(1);
      expect(after.refusedGrants).toBe(before.refusedGrants);
      expect(new Set(results.map(({ accessToken }) => accessToken)).size).toBe(1);
      expect((await userinfo(results[0]?.accessToken ?? '')).status).toBe(200);
    }
  });

  it('ends the grant when somebody else redeems the token twice, and the user is asked to connect again', async () => {
    const pair = await logIn();
    await manager.storeIdpTokens(user, 'certified', { ...pair, accessTokenExpiresAt: 1 });
    const body = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: pair.refreshToken ?? '' });
    const authorization = `Basic ${btoa(`${encodeURIComponent(client.clientId)}:${encodeURIComponent(client.clientSecret)}`)}`;
    const thief = await fetch(server.tokenEndpoint, { method: 'POST', body, headers: { authorization } });
    expect(thief.status).toBe(200);
    await expect(manager.getIdpToken(user, 'certified')).rejects.toThrow(ReauthenticationRequiredError);
    await manager.storeIdpTokens(user, 'certified', await logIn());
    const { accessToken } = await manager.getIdpToken(user, 'certified');
    expect((await userinfo(accessToken)).status).toBe(200);
  });

  it('revokes what is revoked here', async () => {
    const { accessToken } = await manager.getIdpToken(user, 'certified');
    const before = await server.countRequests();
    await manager.revokeIdpTokens(user, 'certified');
    await until(async () => (await server.countRequests()).revocations === before.revocations + 1);
    await until(async () => !(await userinfo(accessToken)).ok);
  });
});
