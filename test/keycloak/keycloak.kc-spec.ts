import { createHmac, createPublicKey } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { decodeJwt } from 'jose';
import request from 'supertest';

import { authorize, type BrowserUser } from '../../examples/support/authorization-code-flow.js';
import { freePort } from '../../examples/support/free-port.js';
import { type KeycloakServer, startKeycloak } from '../../examples/support/keycloak.js';
import {
  AccountLinks,
  InvalidTokenInputError,
  KeycloakMisconfiguredError,
  type KeycloakModuleOptions,
  KeycloakSessionExpiredError,
  KeycloakSessions,
  type KeycloakTokens,
  KeycloakUnavailableError,
  KeycloakUsers,
  ReauthenticationRequiredError,
  TokenManager,
  TokensNotFoundError,
} from '../../src/index.js';
import { httpPlatforms, startHttpHost } from '../support/http-host.js';
import { askEverything } from '../support/keycloak-answers.js';
import { KeycloakMeController } from '../support/keycloak-me.controller.js';
import { everythingPrinted } from '../support/secrets.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { until } from '../support/until.js';
import { ADA, CLIENT, LOCAL, REDIRECT_URI, realms, UNREADABLE } from './realms.js';

const keys = [{ id: 'test', secret: newKey() }];

let keycloak: KeycloakServer;
let database: TestDatabase;
let apps: INestApplication[];
let app: INestApplication;
let tokens: TokenManager;
let sessions: KeycloakSessions;
let users: KeycloakUsers;

function realm(): KeycloakModuleOptions {
  return { serverUrl: keycloak.url, realm: 'app', ...CLIENT, timeoutMs: 5000 };
}

/**
 * Returns the options of the module. The module has the client of Keycloak's broker at the provider, so it can redeem
 * the tokens of the broker.
 */
function options(overrides: Partial<KeycloakModuleOptions> = {}) {
  return {
    encryption: { keys },
    keycloak: { ...realm(), ...overrides },
    identityProviders: {
      acme: {
        tokenEndpoint: `${keycloak.url}/realms/provider/protocol/openid-connect/token`,
        clientId: 'broker',
        clientSecret: 'broker-secret',
      },
    },
  };
}

async function startApp(overrides: Partial<KeycloakModuleOptions> = {}): Promise<INestApplication> {
  const { app } = await createTokensApp({ databaseUrl: database.url, options: options(overrides) });
  apps.push(app);
  return app;
}

beforeAll(async () => {
  keycloak = await startKeycloak(realms);
  database = await createTestDatabase();
  apps = [];
  app = await startApp();
  tokens = app.get(TokenManager);
  sessions = app.get(KeycloakSessions);
  users = app.get(KeycloakUsers);
}, 300_000);

afterAll(async () => {
  await Promise.all(apps.map((each) => each.close()));
  await database.drop();
  await keycloak.stop();
}, 60_000);

beforeEach(async () => {
  await database.query('DELETE FROM auth_tokens');
  await database.query('DELETE FROM offline_tokens');
  await database.query('DELETE FROM disconnected_accounts');
});

/** Logs in on the pages of Keycloak and returns the code. A user of another realm logs in at the brokered provider. */
async function logIn(
  user: BrowserUser,
  { scope = 'openid', client = CLIENT.clientId, server = keycloak.url } = {},
): Promise<string> {
  const url = new URL(`${server}/realms/app/protocol/openid-connect/auth`);
  const parameters = { client_id: client, response_type: 'code', redirect_uri: REDIRECT_URI, scope };
  url.search = new URLSearchParams(parameters).toString();
  if (user === ADA) url.searchParams.set('kc_idp_hint', 'acme');
  return (await authorize(url, user)).searchParams.get('code') ?? '';
}

async function tokensOf(user: BrowserUser, scope = 'openid'): Promise<KeycloakTokens> {
  const issued = await sessions.getKeycloakTokens(await logIn(user, { scope }), REDIRECT_URI);
  if (!issued) throw new Error('Keycloak issued no tokens.');
  return issued;
}

/** Ends the session of Ada at the provider, and waits until the broker's access token has expired. */
async function endSessionAtProvider(): Promise<void> {
  const found = (await keycloak.admin('GET', `provider/users?username=${ADA.login}&exact=true`)) as { id: string }[];
  await keycloak.admin('POST', `provider/users/${found[0]?.id ?? ''}/logout`);
  await delay(11_000); // the lifetime of the provider's access tokens in realms.json, and a second
}

function subject({ accessToken }: KeycloakTokens): string {
  return decodeJwt(accessToken).sub ?? '';
}

/** Stores an offline token for Ada and returns her id. */
async function adaOffline(): Promise<string> {
  const issued = await tokensOf(ADA, 'openid offline_access');
  await tokens.storeOfflineToken(subject(issued), issued.refreshToken);
  return subject(issued);
}

describe('a login', () => {
  it('brings tokens that print redacted, once for its code', async () => {
    const code = await logIn(ADA);
    const issued = await sessions.getKeycloakTokens(code, REDIRECT_URI);
    expect(decodeJwt(issued?.accessToken ?? '')).toMatchObject({ typ: 'Bearer', azp: 'backend' });
    expect(everythingPrinted(issued)).not.toMatch(/eyJ/);
    await expect(sessions.getKeycloakTokens(code, REDIRECT_URI)).rejects.toThrow(KeycloakSessionExpiredError);
  });

  it('fails with an error for the operator when the client secret is wrong', async () => {
    const other = await startApp({ clientSecret: 'wrong-secret' });
    const failure = other.get(KeycloakSessions).getKeycloakTokens('any', REDIRECT_URI);
    await expect(failure).rejects.toThrow(/refused client "backend".*unauthorized_client/);
    await expect(failure).rejects.toThrow(KeycloakMisconfiguredError);
  });

  it('fails with an error for the operator when there is no such realm', async () => {
    const other = await startApp({ realm: 'nowhere' });
    const failure = other.get(KeycloakSessions).getKeycloakTokens('any', REDIRECT_URI);
    await expect(failure).rejects.toThrow(/no realm at .*\/realms\/nowhere/);
    await expect(failure).rejects.toThrow(KeycloakMisconfiguredError);
  });
});

describe('a session', () => {
  it('tells its user', async () => {
    const { accessToken } = await tokensOf(ADA, 'openid email');
    await expect(sessions.getUserInfo(accessToken)).resolves.toMatchObject({ email: 'ada@example.com' });
    await expect(sessions.getUserInfo('')).resolves.toEqual({});
    await expect(sessions.getUserInfo('no token')).rejects.toThrow(KeycloakSessionExpiredError);
  });

  it('is verified as it is while its access token is good, and refreshed afterwards', async () => {
    const issued = await tokensOf(ADA);
    await expect(sessions.verifyKeycloakToken(issued.accessToken, issued.refreshToken)).resolves.toEqual(issued);
    const refreshed = await sessions.verifyKeycloakToken('expired', issued.refreshToken);
    expect(refreshed.accessToken).not.toBe(issued.accessToken);
    await expect(sessions.getUserInfo(refreshed.accessToken)).resolves.toMatchObject({ sub: subject(issued) });
  });

  it('is over after a logout, which may come twice', async () => {
    const issued = await tokensOf(ADA);
    await sessions.logout(issued.refreshToken);
    await sessions.logout(issued.refreshToken);
    await expect(sessions.refresh(issued.refreshToken)).rejects.toThrow(KeycloakSessionExpiredError);
    await expect(sessions.getUserInfo(issued.accessToken)).rejects.toThrow(KeycloakSessionExpiredError);
    await expect(sessions.verifyKeycloakToken(issued.accessToken, issued.refreshToken)).rejects.toThrow(
      KeycloakSessionExpiredError,
    );
  });

  it('is over when the administrator ends it', async () => {
    const issued = await tokensOf(ADA);
    await keycloak.admin('POST', `app/users/${subject(issued)}/logout`);
    await expect(sessions.refresh(issued.refreshToken)).rejects.toThrow(KeycloakSessionExpiredError);
    await expect(tokens.importIdpTokens(subject(issued), 'acme', issued.accessToken)).rejects.toThrow(
      KeycloakSessionExpiredError,
    );
  });
});

describe('an import', () => {
  it('takes the stored pair over with its absolute expiry, once', async () => {
    const issued = await tokensOf(ADA);
    await expect(tokens.importIdpTokens(subject(issued), 'acme', issued.accessToken)).resolves.toBe(true);
    const { accessToken, expiresAt } = await tokens.getIdpToken(subject(issued), 'acme');
    const claims = decodeJwt(accessToken);
    expect(claims).toMatchObject({ iss: `${keycloak.url}/realms/provider`, exp: expiresAt });
    await expect(tokens.importIdpTokens(subject(issued), 'acme', issued.accessToken)).resolves.toBe(false);
  });

  it('never overwrites a pair that was refreshed here since, and gives way to a newer login', async () => {
    const issued = await tokensOf(ADA);
    const user = subject(issued);
    await tokens.importIdpTokens(user, 'acme', issued.accessToken);
    const imported = await tokens.getIdpToken(user, 'acme');
    await delay(1100); // expiries are in whole seconds
    const refreshed = await tokens.getIdpToken(user, 'acme', { rejectedVersion: imported.version });
    expect(refreshed.accessToken).not.toBe(imported.accessToken);
    await expect(tokens.importIdpTokens(user, 'acme', issued.accessToken)).resolves.toBe(false);
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ version: refreshed.version });

    await delay(1100);
    const again = await tokensOf(ADA);
    await expect(tokens.importIdpTokens(user, 'acme', again.accessToken)).resolves.toBe(true);
  });

  it('has nothing to take over for a user without the brokered identity', async () => {
    const issued = await tokensOf(LOCAL);
    await expect(tokens.importIdpTokens(subject(issued), 'acme', issued.accessToken)).resolves.toBe(false);
    await expect(tokens.getIdpTokenForAccessToken(issued.accessToken, 'acme')).rejects.toThrow(TokensNotFoundError);
  });

  it('says which role is missing', async () => {
    const issued = await tokensOf(UNREADABLE);
    const failure = tokens.importIdpTokens(subject(issued), 'acme', issued.accessToken);
    await expect(failure).rejects.toThrow(/role read-token/);
    await expect(failure).rejects.toThrow(KeycloakMisconfiguredError);
  });

  it('says that Keycloak did not get a token from an alias that it does not know', async () => {
    const { app: other } = await createTokensApp({
      databaseUrl: database.url,
      options: { ...options(), identityProviders: { nope: options().identityProviders.acme } },
    });
    apps.push(other);
    const issued = await tokensOf(ADA);
    await expect(other.get(TokenManager).importIdpTokens(subject(issued), 'nope', issued.accessToken)).rejects.toThrow(
      KeycloakUnavailableError,
    );
  });

  it('says that the user must connect the account again when the provider refuses the refresh, and keeps the row', async () => {
    const other = (await startApp({ refreshOwner: 'keycloak' })).get(TokenManager);
    const issued = await tokensOf(ADA);
    await other.getIdpTokenForAccessToken(issued.accessToken, 'acme');
    await endSessionAtProvider();
    for (const call of [
      () => other.getIdpTokenForAccessToken(issued.accessToken, 'acme'),
      () => other.importIdpTokens(subject(issued), 'acme', issued.accessToken),
    ]) {
      const failure = call();
      await expect(failure).rejects.toThrow(ReauthenticationRequiredError);
      await expect(failure).rejects.toMatchObject({ reason: 'broker_refresh_failed' });
    }
    await expect(database.query('SELECT FROM auth_tokens')).resolves.toHaveLength(1);
    await other.importIdpTokens(subject(issued), 'acme', (await tokensOf(ADA)).accessToken);
    await expect(other.getIdpToken(subject(issued), 'acme')).resolves.toBeDefined();
  });

  it('does not happen by itself for an account that its user disconnected', async () => {
    const issued = await tokensOf(ADA, 'openid offline_access');
    const user = subject(issued);
    await tokens.importIdpTokens(user, 'acme', issued.accessToken);
    await expect(tokens.revokeIdpTokens(user, 'acme')).resolves.toBe(true);
    await expect(tokens.getIdpTokenForAccessToken(issued.accessToken, 'acme')).rejects.toThrow(TokensNotFoundError);
    await expect(tokens.getIdpTokenFromOfflineToken(issued.refreshToken, 'acme')).rejects.toThrow(TokensNotFoundError);
    await expect(tokens.importIdpTokens(user, 'acme', issued.accessToken)).resolves.toBe(true);
    await expect(tokens.getIdpTokenForAccessToken(issued.accessToken, 'acme')).resolves.toBeDefined();
  });

  it('refuses the access token of another user', async () => {
    const issued = await tokensOf(ADA);
    await expect(tokens.importIdpTokens('somebody else', 'acme', issued.accessToken)).rejects.toThrow(
      InvalidTokenInputError,
    );
  });

  it('happens by itself for whoever has an access token and nothing stored', async () => {
    const issued = await tokensOf(ADA);
    const found = await Promise.all(
      Array.from({ length: 20 }, () => tokens.getIdpTokenForAccessToken(issued.accessToken, 'acme')),
    );
    expect(new Set(found.map(({ version }) => version)).size).toBe(1);
    expect(decodeJwt(found[0]?.accessToken ?? '').iss).toBe(`${keycloak.url}/realms/provider`);
  });

  it('takes only access tokens where Keycloak refreshes, and takes a new one when it is stale', async () => {
    const other = (await startApp({ refreshOwner: 'keycloak' })).get(TokenManager);
    const issued = await tokensOf(ADA);
    const first = await other.getIdpTokenForAccessToken(issued.accessToken, 'acme');
    const [row] = await database.query(
      'SELECT refresh_token, refresh_token_expires_at::int AS expires FROM auth_tokens',
    );
    expect(row).toEqual({ refresh_token: '', expires: 0 });
    await expect(other.getIdpTokenForAccessToken(issued.accessToken, 'acme')).resolves.toMatchObject({
      version: first.version,
    });
    await delay(first.expiresAt * 1000 - Date.now() + 500);
    const second = await other.getIdpTokenForAccessToken(issued.accessToken, 'acme');
    expect(second.expiresAt).toBeGreaterThan(first.expiresAt);
    expect(decodeJwt(second.accessToken).sub).toBe(decodeJwt(first.accessToken).sub);
  });
});

describe.each([
  { rotation: 'off', revokeRefreshToken: false },
  { rotation: 'on', revokeRefreshToken: true },
])('an offline token, with Revoke Refresh Token $rotation', ({ revokeRefreshToken }) => {
  beforeAll(async () => {
    await keycloak.admin('PUT', 'app', { revokeRefreshToken, refreshTokenMaxReuse: 0 });
  });

  afterAll(async () => {
    await keycloak.admin('PUT', 'app', { revokeRefreshToken: false });
  });

  it('is active, and valid again and again, with its successor stored each time', async () => {
    const user = await adaOffline();
    const seen = new Set([await tokens.loadOfflineToken(user)]);
    for (let round = 0; round < 3; round++) {
      await expect(tokens.checkOfflineTokenIsActive(user)).resolves.toBe(true);
      await expect(tokens.validateOfflineToken(user)).resolves.toBe(true);
      seen.add(await tokens.loadOfflineToken(user));
    }
    expect(seen.size).toBe(4);
  });

  it('gets the token of a provider, by itself and by the id of the user there', async () => {
    const user = await adaOffline();
    const offlineToken = (await tokens.loadOfflineToken(user)) ?? '';
    const found = await tokens.getIdpTokenFromOfflineToken(offlineToken, 'acme');
    const idpUserId = decodeJwt(found.accessToken).sub ?? '';
    await expect(tokens.getIdpTokenFromIdpUserId(idpUserId, 'acme')).resolves.toMatchObject({
      version: found.version,
    });
    await expect(tokens.getIdpTokenFromIdpUserId('nobody', 'acme')).rejects.toThrow(TokensNotFoundError);
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(true);
  });

  it('is stored when it is passed and none is, and survives', async () => {
    const issued = await tokensOf(ADA, 'openid offline_access');
    await tokens.getIdpTokenFromOfflineToken(issued.refreshToken, 'acme');
    await expect(tokens.checkOfflineTokenIsActive(subject(issued))).resolves.toBe(true);
  });

  it('survives that callers of two applications redeem it at once', async () => {
    const user = await adaOffline();
    const others = [tokens, (await startApp()).get(TokenManager)];
    for (let round = 0; round < 3; round++) {
      const valid = await Promise.all(
        others.flatMap((manager) => Array.from({ length: 10 }, () => manager.validateOfflineToken(user))),
      );
      expect(new Set(valid)).toEqual(new Set([true]));
    }
    await expect(tokens.checkOfflineTokenIsActive(user)).resolves.toBe(true);
  });

  it('is neither active nor valid when its session was revoked', async () => {
    const user = await adaOffline();
    const offlineToken = (await tokens.loadOfflineToken(user)) ?? '';
    const { sid } = decodeJwt<{ sid: string }>(offlineToken);
    await keycloak.admin('DELETE', `app/sessions/${sid}?isOffline=true`);
    await expect(tokens.checkOfflineTokenIsActive(user)).resolves.toBe(false);
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(false);
    await expect(tokens.getIdpTokenFromOfflineToken(offlineToken, 'acme')).rejects.toThrow(KeycloakSessionExpiredError);
    await expect(tokens.loadOfflineToken(user)).resolves.toBe(offlineToken);
  });
});

describe('a user without an offline token', () => {
  it('has none that is active or valid', async () => {
    await expect(tokens.checkOfflineTokenIsActive('nobody')).resolves.toBe(false);
    await expect(tokens.validateOfflineToken('nobody')).resolves.toBe(false);
  });
});

describe('users', () => {
  it('are found by their exact email address, in whatever case', async () => {
    const user = subject(await tokensOf(ADA));
    await expect(users.getUserIdFromUserEmail('ada@example.com')).resolves.toBe(user);
    await expect(users.getUserIdFromUserEmail('Ada@Example.com')).resolves.toBe(user);
    for (const email of ['da@example.com', 'ada@example.co', '*', '%', 'nobody@example.com']) {
      await expect(users.getUserIdFromUserEmail(email)).resolves.toBeNull();
    }
  });

  it('are found by their id at a provider, and by nothing else', async () => {
    const issued = await tokensOf(ADA);
    const found = await tokens.getIdpTokenForAccessToken(issued.accessToken, 'acme');
    const idpUserId = decodeJwt(found.accessToken).sub ?? '';
    await expect(users.getUserIdFromIdpUserId(idpUserId, 'acme')).resolves.toBe(subject(issued));
    for (const id of [idpUserId.slice(0, -1), 'nobody', `${idpUserId} other:thing`, 'a b', ':', 'a"b', 'a\\']) {
      await expect(users.getUserIdFromIdpUserId(id, 'acme')).resolves.toBeNull();
    }
    await expect(users.getUserIdFromIdpUserId(idpUserId, 'nope')).resolves.toBeNull();
    const byAttribute = (await startApp({ idpUserIdAttribute: '{idp}_id' })).get(KeycloakUsers);
    await expect(byAttribute.getUserIdFromIdpUserId(idpUserId, 'acme')).resolves.toBe(subject(issued));
    await expect(byAttribute.getUserIdFromIdpUserId('nobody', 'acme')).resolves.toBeNull();
    await expect(byAttribute.getUserIdFromIdpUserId('a"b', 'acme')).rejects.toThrow(InvalidTokenInputError);
  });

  it('tell what Keycloak keeps about them', async () => {
    const user = subject(await tokensOf(ADA));
    await expect(users.getUserInfoFromUserId(user)).resolves.toMatchObject({ id: user, email: 'ada@example.com' });
    await expect(users.getUserInfoFromUserId('nobody')).resolves.toBeNull();
  });

  it('cannot be looked up by a client whose service account may not', async () => {
    const other = await startApp({ clientId: 'other', clientSecret: 'other-secret' });
    const failure = other.get(KeycloakUsers).getUserIdFromUserEmail('ada@example.com');
    await expect(failure).rejects.toThrow(/role view-users/);
    await expect(failure).rejects.toThrow(KeycloakMisconfiguredError);
  });
});

describe.each(httpPlatforms)('KeycloakAuthGuard on $platform', ({ createApplication }) => {
  let host: INestApplication;
  let url: string;

  beforeAll(async () => {
    const started = await startHttpHost({
      databaseUrl: database.url,
      options: options(),
      createApplication,
      controllers: [KeycloakMeController],
    });
    ({ app: host, url } = started);
  });

  afterAll(async () => {
    await host.close();
  });

  const get = (path: string, token?: string) =>
    request(url)
      .get(path)
      .set(token === undefined ? {} : { authorization: `Bearer ${token}` });

  it('lets the user of the realm pass, and IdpTokenGuard works behind it', async () => {
    const issued = await tokensOf(ADA);
    await get('/me', issued.accessToken).expect(200, { sub: subject(issued) });
    await get('/acme', issued.accessToken).expect(403);
    await tokens.importIdpTokens(subject(issued), 'acme', issued.accessToken);
    await get('/acme', issued.accessToken).expect(200);
  });

  it('answers everything else with 401 problem+json', async () => {
    const issued = await tokensOf(ADA);
    const [header = '', payload = '', signature = ''] = issued.accessToken.split('.');
    const forged = (head: object, claims: object = {}) => {
      const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
      return `${part(head)}.${part({ ...decodeJwt(issued.accessToken), ...claims })}`;
    };
    const publicKey = createPublicKey({ key: (await realmKey()) as never, format: 'jwk' });
    const pem = publicKey.export({ type: 'spki', format: 'pem' });
    const { kid } = await realmKey();
    const signed = forged({ alg: 'HS256', kid });
    const hs256 = `${signed}.${createHmac('sha256', pem).update(signed).digest('base64url')}`;
    const other = await fetch(`${keycloak.url}/realms/app/protocol/openid-connect/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'authorization_code',
        client_id: 'other',
        client_secret: 'other-secret',
        redirect_uri: REDIRECT_URI,
        code: await logIn(ADA, { client: 'other' }),
      }),
    }).then(async (response) => (await response.json()) as { access_token: string; id_token: string });
    await keycloak.admin('PUT', 'app', { accessTokenLifespan: 1 });
    const brief = await tokensOf(ADA);
    await keycloak.admin('PUT', 'app', { accessTokenLifespan: 300 });
    await tokens.importIdpTokens(subject(issued), 'acme', issued.accessToken);
    const { accessToken: ofProvider } = await tokens.getIdpToken(subject(issued), 'acme');
    await delay(2000);

    const none = await get('/me').expect(401);
    expect(none.body).toMatchObject({ code: 'ERR_TOKENS_AUTHENTICATION_REQUIRED' });
    expect(none.headers['www-authenticate']).toBe('Bearer');
    const bad: Record<string, string> = {
      garbage: 'garbage',
      empty: '',
      expired: brief.accessToken,
      'wrong audience': other.access_token,
      'wrong issuer': ofProvider,
      'alg none': `${forged({ alg: 'none' })}.`,
      'HS256 with the public key': hs256,
      'altered payload': `${header}.${forged({}, { sub: 'root' }).split('.')[1] ?? ''}.${signature}`,
      'no signature': `${header}.${payload}.`,
      'a refresh token': issued.refreshToken,
    };
    for (const [what, token] of Object.entries(bad)) {
      const response = await get('/me', token);
      const { code } = response.body as { code: string };
      expect({ what, status: response.status, type: response.type, code }).toEqual({
        what,
        status: 401,
        type: 'application/problem+json',
        code: 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED',
      });
      expect(response.headers['www-authenticate']).toBe('Bearer error="invalid_token"');
    }
    await get('/me', issued.accessToken).expect(200);
  });

  it('takes tokens that are signed with a new key of the realm', async () => {
    const before = await tokensOf(ADA);
    await get('/me', before.accessToken).expect(200);
    await keycloak.admin('POST', 'app/components', {
      name: `new-key-${Date.now()}`,
      providerId: 'rsa-generated',
      providerType: 'org.keycloak.keys.KeyProvider',
      config: {
        priority: [String(Date.now() % 1_000_000_000)],
        enabled: ['true'],
        active: ['true'],
        algorithm: ['RS256'],
      },
    });
    const after = await tokensOf(ADA);
    await delay(5500); // the module fetches keys every 5 s at most
    await get('/me', after.accessToken).expect(200);
    await get('/me', before.accessToken).expect(200);
  });

  async function realmKey(): Promise<{ kid: string }> {
    const response = await fetch(`${keycloak.url}/realms/app/protocol/openid-connect/certs`);
    const { keys: published } = (await response.json()) as { keys: { kid: string; use: string; alg: string }[] };
    const key = published.find(({ use, alg }) => use === 'sig' && alg === 'RS256');
    if (!key) throw new Error('The realm has no key.');
    return key;
  }
});

describe('Keycloak as a provider of account links', () => {
  const idp = 'keycloak';
  const redirectUri = 'https://host.example/connections/keycloak/callback';
  const GRACE = { login: 'grace-at-provider', password: 'grace-password' };
  const user = 'user-of-host';
  let links: AccountLinks;
  let linked: TokenManager;

  beforeAll(async () => {
    await keycloak.admin('POST', 'provider/users', {
      ...{ username: GRACE.login, enabled: true, email: 'grace@example.com', firstName: 'Grace', lastName: 'Hopper' },
      credentials: [{ type: 'password', value: GRACE.password, temporary: false }],
    });
    const entry = {
      ...{ clientId: 'broker', clientSecret: 'broker-secret', redirectUri, scopes: ['openid', 'profile'] },
      issuer: `${keycloak.url}/realms/provider`,
    };
    const { app: host } = await createTokensApp({
      databaseUrl: database.url,
      options: { encryption: { keys }, identityProviders: { [idp]: entry } },
    });
    apps.push(host);
    links = host.get(AccountLinks);
    linked = host.get(TokenManager);
  });

  async function callbackOf(login: BrowserUser, options: Parameters<AccountLinks['begin']>[2] = {}): Promise<URL> {
    const { authorizationUrl } = await links.begin(user, idp, options);
    expect([...new URL(authorizationUrl).searchParams.keys()].sort()).toEqual(['client_id', 'request_uri']);
    return authorize(authorizationUrl, { ...login, redirectUri });
  }

  async function link(login: BrowserUser, options: Parameters<AccountLinks['begin']>[2] = {}) {
    return links.finish(user, await callbackOf(login, options), { idp });
  }

  async function userinfo(accessToken: string): Promise<Response> {
    const url = `${keycloak.url}/realms/provider/protocol/openid-connect/userinfo`;
    return fetch(url, { headers: { authorization: `Bearer ${accessToken}` } });
  }

  async function subjectOf(login: string): Promise<string | undefined> {
    const [found] = (await keycloak.admin('GET', `provider/users?username=${login}&exact=true`)) as { id: string }[];
    return found?.id;
  }

  /** Returns the number of sessions that a user has there. A revocation ends the one of its tokens, and may end others. */
  async function sessionCount({ login }: BrowserUser): Promise<number> {
    return ((await keycloak.admin('GET', `provider/users/${await subjectOf(login)}/sessions`)) as unknown[]).length;
  }

  it('is known by its issuer: it takes the pushed request, names itself, and its ID token tells the account', async () => {
    const callback = await callbackOf(ADA, { returnTo: '/settings' });
    expect(callback.searchParams.get('iss')).toBe(`${keycloak.url}/realms/provider`);
    await expect(links.finish(user, callback, { idp })).resolves.toEqual({
      ...{ idp, account: '', returnTo: '/settings', scopes: ['email', 'openid', 'profile'] },
      ...{ subject: await subjectOf(ADA.login), name: ADA.login },
    });
    const { accessToken, expiresAt } = await linked.getIdpToken(user, idp);
    // The module counts from the moment in which it sent the code, so it never takes a token for longer than it lives.
    const { exp = 0, iat = 0 } = decodeJwt(accessToken);
    expect(expiresAt).toBeLessThanOrEqual(exp);
    expect(expiresAt).toBeGreaterThan(iat);
    await expect((await userinfo(accessToken)).json()).resolves.toMatchObject({ preferred_username: ADA.login });
    await expect(links.finish(user, callback, { idp })).rejects.toMatchObject({ reason: 'unknown_attempt' });
  });

  it('refreshes at the endpoint that it names', async () => {
    await link(ADA);
    const { accessToken, version } = await linked.getIdpToken(user, idp);
    const fresh = await linked.getIdpToken(user, idp, { rejectedVersion: version });
    expect(fresh.accessToken).not.toBe(accessToken);
    expect((await userinfo(fresh.accessToken)).status).toBe(200);
  });

  it('gives further scopes in addition to those of before', async () => {
    await link(ADA);
    await expect(link(ADA, { scopes: ['phone'] })).resolves.toMatchObject({
      scopes: ['email', 'openid', 'phone', 'profile'],
    });
    await expect(linked.getIdpToken(user, idp, { scopes: ['phone'] })).resolves.toBeDefined();
  });

  it.each([
    ['the name of another server', { iss: 'https://evil.example' }, 'issuer_mismatch'],
    ['an empty name', { iss: '' }, 'issuer_mismatch'],
    ['another code', { code: 'guessed' }, 'provider_error'],
  ])('is not believed with %s', async (_, changes, reason) => {
    const callback = await callbackOf(ADA);
    for (const [name, value] of Object.entries(changes)) callback.searchParams.set(name, value);
    await expect(links.finish(user, callback, { idp })).rejects.toMatchObject({ reason });
    await expect(links.list(user)).resolves.toEqual([]);
  });

  it('refuses the code of another attempt, because it checks the code verifier', async () => {
    const stolen = (await callbackOf(GRACE)).searchParams.get('code') ?? '';
    const callback = await callbackOf(ADA);
    callback.searchParams.set('code', stolen);
    await expect(links.finish(user, callback, { idp })).rejects.toMatchObject({ reason: 'provider_error' });
  });

  it('ends the tokens of another account than the connected one, and those of a connection that ends', async () => {
    const ofAda = await sessionCount(ADA);
    await link(ADA);
    const ofGrace = await sessionCount(GRACE);
    await expect(link(GRACE)).rejects.toMatchObject({ reason: 'account_mismatch' });
    await until(async () => (await sessionCount(GRACE)) <= ofGrace);
    const { accessToken } = await linked.getIdpToken(user, idp);
    await expect((await userinfo(accessToken)).json()).resolves.toMatchObject({ preferred_username: ADA.login });
    expect(await sessionCount(ADA)).toBe(ofAda + 1);

    const left = await sessionCount(GRACE);
    await expect(link(GRACE, { replaceAccount: true })).resolves.toMatchObject({ name: GRACE.login });
    await until(async () => (await sessionCount(ADA)) <= ofAda);
    expect(await sessionCount(GRACE)).toBe(left + 1);
    await expect(links.unlink(user, idp)).resolves.toBe(true);
    await until(async () => (await sessionCount(GRACE)) <= left);
    await expect(links.list(user)).resolves.toEqual([]);
  });
});

describe('Keycloak', () => {
  it('may stop: an outage is an error that loses nothing, and everything goes on when it is back', async () => {
    const user = await adaOffline();
    const issued = await tokensOf(ADA);
    await tokens.importIdpTokens(user, 'acme', issued.accessToken);
    const offlineToken = (await tokens.loadOfflineToken(user)) ?? '';
    await keycloak.halt();
    try {
      const calls = [
        () => sessions.getKeycloakTokens('code', REDIRECT_URI),
        () => sessions.verifyKeycloakToken(issued.accessToken, issued.refreshToken),
        () => sessions.getUserInfo(issued.accessToken),
        () => sessions.refresh(issued.refreshToken),
        () => sessions.logout(issued.refreshToken),
        () => tokens.importIdpTokens(user, 'acme', issued.accessToken),
        () => tokens.getIdpTokenForAccessToken(issued.accessToken, 'acme'),
        () => tokens.getIdpTokenFromOfflineToken(offlineToken, 'acme'),
        () => tokens.getIdpTokenFromIdpUserId('anybody', 'acme'),
        () => tokens.validateOfflineToken(user),
        () => tokens.checkOfflineTokenIsActive(user),
        () => users.getUserIdFromUserEmail('ada@example.com'),
        () => users.getUserInfoFromUserId(user),
      ];
      for (const call of calls) {
        const failure = await call().then(
          () => undefined,
          (error: unknown) => error,
        );
        expect({ call: String(call), failure }).toEqual({
          call: String(call),
          failure: expect.any(KeycloakUnavailableError),
        });
        expect(everythingPrinted(failure)).not.toMatch(/eyJ|backend-secret/);
      }
      await expect(tokens.getIdpToken(user, 'acme')).resolves.toBeDefined();
    } finally {
      await keycloak.resume();
    }
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(true);
    await expect(tokens.checkOfflineTokenIsActive(user)).resolves.toBe(true);
    await expect(users.getUserIdFromUserEmail('ada@example.com')).resolves.toBe(user);
  }, 120_000);
});

describe('a Keycloak with a fixed hostname', () => {
  it.each(httpPlatforms.slice(0, 1))(
    'is asked by its serverUrl only, and its tokens are good by their issuer',
    async (platform) => {
      const port = await freePort();
      const publicUrl = `http://localhost:${port}`; // another host for fetch, and the same server
      const fixed = await startKeycloak(realms, port, publicUrl);
      const split = { serverUrl: fixed.url, issuer: `${publicUrl}/realms/app` };
      const asked: string[] = [];
      const { fetch } = globalThis;
      let spy: { mockRestore(): void } | undefined;
      try {
        const { app: host, url } = await startHttpHost({
          databaseUrl: database.url,
          options: {
            encryption: { keys },
            keycloak: { ...realm(), ...split },
            identityProviders: options().identityProviders,
          },
          createApplication: platform.createApplication,
          controllers: [KeycloakMeController],
        });
        apps.push(host);
        const code = await logIn(LOCAL, { scope: 'openid offline_access', server: publicUrl });
        spy = jest.spyOn(globalThis, 'fetch').mockImplementation((...request) => {
          asked.push(new URL(request[0]).origin);
          return fetch(...request);
        });
        const issued = await host.get(KeycloakSessions).getKeycloakTokens(code, REDIRECT_URI);
        const { accessToken = '', refreshToken = '' } = issued ?? {};
        expect(decodeJwt(accessToken).iss).toBe(split.issuer);
        await request(url)
          .get('/me')
          .set({ authorization: `Bearer ${accessToken}` })
          .expect(200);
        await expect(host.get(KeycloakSessions).getUserInfo(accessToken)).resolves.toBeDefined();
        const user = decodeJwt(accessToken).sub ?? '';
        await host.get(TokenManager).storeOfflineToken(user, refreshToken);
        await expect(host.get(TokenManager).checkOfflineTokenIsActive(user)).resolves.toBe(true);
        await expect(host.get(TokenManager).validateOfflineToken(user)).resolves.toBe(true);
        await expect(host.get(KeycloakUsers).getUserIdFromUserEmail('local@example.com')).resolves.toBe(user);
        const stored = (await host.get(TokenManager).loadOfflineToken(user)) ?? '';
        await host.get(KeycloakSessions).logout(stored);
        await expect(host.get(TokenManager).validateOfflineToken(user)).resolves.toBe(false);
        expect(new Set(asked)).toEqual(new Set([fixed.url]));
      } finally {
        spy?.mockRestore();
        await fixed.stop();
      }
    },
    200_000,
  );
});

describe('the answers of Keycloak', () => {
  it('are those of answers.json, by which the stand-in of the other suites goes', async () => {
    const who = { ada: ADA, local: LOCAL, unreadable: UNREADABLE };
    const answers = await askEverything({
      url: keycloak.url,
      logIn: (user, scope, client) => logIn(who[user], { scope, client }),
      endSessionAtProvider,
    });
    const file = new URL('./answers.json', import.meta.url);
    if (process.env.KEYCLOAK_RECORD) await writeFile(file, `${JSON.stringify(answers, null, 2)}\n`);
    expect(answers).toEqual(JSON.parse(await readFile(file, 'utf8')));
  });
});
