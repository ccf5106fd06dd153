import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import {
  AuthTokenStore,
  type IdpTokens,
  QueryRunnerScope,
  ReauthenticationRequiredError,
  RefreshUnavailableError,
  type SealedToken,
  TokenManager,
} from '../src/index.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp, newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

const HOUR = 3600;
const DAY = 24 * HOUR;
const CLIENT = { clientId: 'client', clientSecret: 'client-secret' };

let database: TestDatabase;
let endpoint: TokenEndpoint;
/** A userinfo endpoint that calls every access token alive. */
let witness: TokenEndpoint;
let asked = 0;
let app: INestApplication;
let tokens: TokenManager;
let store: AuthTokenStore;
/** The same database with another client at the providers. */
let otherClient: INestApplication;

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  witness = await startTokenEndpoint();
  witness.answer = () => {
    asked++;
    return { status: 200 };
  };
  const tokenEndpoint = endpoint.url;
  const keys = [{ id: 'test', secret: newKey() }];
  const options = (clientId: string) => ({
    encryption: { keys },
    identityProviders: {
      acme: { ...CLIENT, clientId, tokenEndpoint },
      hourly: { ...CLIENT, clientId, tokenEndpoint, assumedLifetimeSeconds: HOUR },
      ending: {
        ...CLIENT,
        clientId,
        tokenEndpoint,
        userinfoEndpoint: `${witness.url}/userinfo`,
        policy: { refreshEndsAccessToken: true, takeoverDelayMs: 0 },
      },
    },
    refresh: { waitTimeoutMs: 3000, backoffBaseMs: 300 },
  });
  ({ app } = await createTokensApp({ databaseUrl: database.url, poolSize: 5, options: options('client') }));
  ({ app: otherClient } = await createTokensApp({ databaseUrl: database.url, options: options('client-2') }));
  tokens = app.get(TokenManager);
  store = app.get(AuthTokenStore);
});

afterAll(async () => {
  await app.close();
  await otherClient.close();
  await endpoint.close();
  await witness.close();
  await database.drop();
});

let user = '';
let users = 0;

beforeEach(() => {
  user = `user-${++users}`;
  endpoint.redeemed.length = 0;
  asked = 0;
  endpoint.answer = () => newPair();
});

function epoch(offset: number): number {
  return Math.floor(Date.now() / 1000) + offset;
}

function storePair(idp: string, extra: Partial<IdpTokens> = {}, manager = tokens): Promise<void> {
  return manager.storeIdpTokens(user, idp, {
    accessToken: 'access-old',
    refreshToken: 'refresh-old',
    accessTokenExpiresAt: epoch(-1),
    ...extra,
  });
}

async function row(): Promise<Record<string, unknown>> {
  const [found] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [user]);
  return found ?? {};
}

async function backdateIssue(seconds: number): Promise<void> {
  await database.query(
    `UPDATE auth_tokens SET issued_at = issued_at - $2 * interval '1 second' WHERE keycloak_user_id = $1`,
    [user, seconds],
  );
}

describe('The expiry of a refresh token', () => {
  it.each<[string, Record<string, unknown>]>([
    ['does not name', {}],
    ['calls 0', { refresh_expires_in: 0 }],
    ['calls 0 under the other name', { refresh_token_expires_in: 0 }],
  ])('is not known for a new one whose lifetime the answer %s', async (_, lifetime) => {
    await storePair('acme', { refreshTokenExpiresAt: epoch(DAY) });
    endpoint.answer = () => newPair(lifetime);
    await tokens.getIdpToken(user, 'acme');
    await expect(row()).resolves.toMatchObject({ refresh_token_expires_at: '0' });
  });

  it.each<[string, Record<string, unknown>]>([
    ['leaves out', { refresh_token: undefined }],
    ['repeats', { refresh_token: 'refresh-old' }],
  ])('stays for one that the answer %s', async (_, refreshToken) => {
    const refreshTokenExpiresAt = epoch(DAY);
    await storePair('acme', { refreshTokenExpiresAt });
    endpoint.answer = () => newPair(refreshToken);
    await tokens.getIdpToken(user, 'acme');
    await expect(row()).resolves.toMatchObject({ refresh_token_expires_at: String(refreshTokenExpiresAt) });
  });

  it('does not log a user out who uses the application every day', async () => {
    const loggedInFor = 101 * DAY;
    await storePair('acme', { refreshTokenExpiresAt: epoch(100 * DAY) });
    await tokens.getIdpToken(user, 'acme');
    await database.query(
      `UPDATE auth_tokens SET access_token_expires_at = 1, issued_at = issued_at - $2 * interval '1 second',
         refresh_token_expires_at = greatest(refresh_token_expires_at - $2, 0) WHERE keycloak_user_id = $1`,
      [user, loggedInFor],
    );
    await tokens.getIdpToken(user, 'acme');
    expect(endpoint.redeemed).toHaveLength(2);
  });

  it('stays for one that a callback keeps', async () => {
    const key = { keycloakUserId: user, idp: 'acme' };
    const refreshTokenExpiresAt = epoch(DAY);
    await storePair('acme', { refreshTokenExpiresAt });
    const accessToken = 'sealed-new' as SealedToken;
    const pair = {
      accessToken,
      refreshToken: '',
      accessTokenExpiresAt: epoch(HOUR),
      refreshTokenExpiresAt: 0,
    } as const;
    await expect(store.loadTokens(key, () => Promise.resolve(pair))).resolves.toMatchObject({ refreshTokenExpiresAt });
  });
});

describe('An access token without an expiry', () => {
  it('is refreshed when the assumed lifetime of its provider is over, and has its end', async () => {
    await storePair('hourly', { accessTokenExpiresAt: 0 });
    const { expiresAt } = await tokens.getIdpToken(user, 'hourly');
    expect(Math.abs(expiresAt - epoch(HOUR))).toBeLessThan(5);
    await backdateIssue(HOUR - 60);
    await tokens.getIdpToken(user, 'hourly');
    expect(endpoint.redeemed).toEqual(['refresh-old']);
  });

  it('is refreshed for many callers and in a transaction too', async () => {
    await storePair('hourly', { accessTokenExpiresAt: 0 });
    await storePair('acme', { accessTokenExpiresAt: 0 });
    await backdateIssue(2 * HOUR);
    const results = await Promise.all(['hourly', 'acme', 'hourly'].map((idp) => tokens.getIdpToken(user, idp)));
    expect(endpoint.redeemed).toEqual(['refresh-old']);
    expect(results.map(({ accessToken }) => accessToken === 'access-old')).toEqual([false, true, false]);
    expect(results[1]?.expiresAt).toBe(0);
  });

  it('is served for ever if no refresh token can replace it', async () => {
    await storePair('hourly', { accessTokenExpiresAt: 0, refreshToken: null });
    await expect(tokens.getIdpToken(user, 'hourly')).resolves.toMatchObject({ expiresAt: 0 });
    await backdateIssue(2 * HOUR);
    await expect(tokens.getIdpToken(user, 'hourly')).resolves.toMatchObject({
      accessToken: 'access-old',
      expiresAt: 0,
    });
  });

  it('is not served while its refresh fails, when the assumed lifetime is over', async () => {
    await storePair('hourly', { accessTokenExpiresAt: 0 });
    endpoint.answer = () => ({ status: 503 });
    await backdateIssue(HOUR - 10);
    await expect(tokens.getIdpToken(user, 'hourly')).resolves.toMatchObject({ accessToken: 'access-old' });
    await backdateIssue(10);
    await expect(tokens.getIdpToken(user, 'hourly')).rejects.toThrow(RefreshUnavailableError);
  });

  it('has the end of its lifetime for a refresh callback, which may take 0 for "never"', async () => {
    await storePair('hourly', { accessTokenExpiresAt: 0 });
    await backdateIssue(2 * HOUR);
    const expiries: number[] = [];
    const callback = (_idp: string, _token: SealedToken, accessTokenExpiresAt: number) => {
      expiries.push(accessTokenExpiresAt);
      return Promise.resolve(null);
    };
    await store.loadTokens({ keycloakUserId: user, idp: 'hourly' }, callback);
    expect(expiries).toHaveLength(1);
    expect(Math.abs((expiries[0] ?? 0) - epoch(-HOUR))).toBeLessThan(5);
  });

  it('is stored as it was given', async () => {
    await storePair('hourly', { accessTokenExpiresAt: 0 });
    const key = { keycloakUserId: user, idp: 'hourly' };
    await expect(store.loadTokens(key)).resolves.toMatchObject({ accessTokenExpiresAt: 0 });
    await expect(store.isAccessTokenValid(key)).resolves.toBe(true);
    await backdateIssue(HOUR);
    await expect(store.isAccessTokenValid(key)).resolves.toBe(false);
  });
});

describe('A login without a refresh token', () => {
  /** Stores what a second login brings. */
  const again = (extra: Partial<IdpTokens> = {}, manager = tokens) =>
    storePair(
      'acme',
      { accessToken: 'access-2', refreshToken: undefined, accessTokenExpiresAt: epoch(HOUR), ...extra },
      manager,
    );
  const expire = () =>
    database.query('UPDATE auth_tokens SET access_token_expires_at = 1 WHERE keycloak_user_id = $1', [user]);

  it.each([
    ['left out', undefined],
    ['empty', ''],
  ])('keeps the stored one with its expiry: %s', async (_, refreshToken) => {
    const refreshTokenExpiresAt = epoch(DAY);
    await storePair('acme', { refreshTokenExpiresAt });
    const before = await row();
    await again({ refreshToken });
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-2' });
    expect(await row()).toMatchObject({
      refresh_token: before.refresh_token,
      refresh_token_expires_at: String(refreshTokenExpiresAt),
      client_id: 'client',
      status: 'active',
    });
    await expire();
    await tokens.getIdpToken(user, 'acme');
    expect(endpoint.redeemed).toEqual(['refresh-old']);
  });

  it('keeps it for many users who log in at once', async () => {
    const logins = ['a', 'b', 'c', 'd'];
    const storeAll = (pair: object) =>
      Promise.all(logins.map((name) => tokens.storeIdpTokens(`${user}-${name}`, 'acme', pair as IdpTokens)));
    await storeAll({ accessToken: 'access-old', refreshToken: 'refresh-old', accessTokenExpiresAt: 1 });
    await storeAll({ accessToken: 'access-2', accessTokenExpiresAt: epoch(HOUR) });
    const rows = await database.query(
      "SELECT refresh_token <> '' AS kept FROM auth_tokens WHERE starts_with(keycloak_user_id, $1)",
      [`${user}-`],
    );
    expect(rows).toEqual(logins.map(() => ({ kept: true })));
    const [first] = await Promise.all(logins.map((name) => tokens.getIdpToken(`${user}-${name}`, 'acme')));
    expect(first?.accessToken).toBe('access-2');
    await storeAll({ accessToken: 'access-3', refreshToken: null });
    await expect(
      database.query("SELECT 1 FROM auth_tokens WHERE starts_with(keycloak_user_id, $1) AND refresh_token <> ''", [
        `${user}-`,
      ]),
    ).resolves.toEqual([]);
  });

  it('drops it for null', async () => {
    await storePair('acme');
    await again({ refreshToken: null });
    await expect(row()).resolves.toMatchObject({ refresh_token: '', refresh_token_expires_at: '0' });
    await expire();
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(ReauthenticationRequiredError);
  });

  it('drops the one of a grant that has ended', async () => {
    await storePair('acme');
    endpoint.answer = () => ({ status: 400, body: { error: 'invalid_grant' } });
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(ReauthenticationRequiredError);
    await again();
    await expect(row()).resolves.toMatchObject({ refresh_token: '', status: 'active' });
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-2' });
  });

  it('drops the one of another client, which could not be redeemed', async () => {
    await storePair('acme');
    await again({}, otherClient.get(TokenManager));
    await expect(row()).resolves.toMatchObject({ refresh_token: '', client_id: 'client-2' });
  });

  it('stores a pair for a user who had none', async () => {
    await again();
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-2' });
  });

  it.each(['acme', 'ending'])('loses nothing of a refresh that is under way at %s', async (idp) => {
    await storePair(idp);
    let answer = (): void => undefined;
    const answered = new Promise<void>((resolve) => (answer = resolve));
    endpoint.answer = async () => {
      await answered;
      return newPair({ access_token: 'access-3', refresh_token: 'refresh-3' });
    };
    const refreshed = tokens.getIdpToken(user, idp);
    await until(() => endpoint.redeemed.length === 1);
    await storePair(idp, { accessToken: 'access-2', refreshToken: undefined, accessTokenExpiresAt: epoch(HOUR) });
    answer();
    await expect(refreshed).resolves.toMatchObject({ accessToken: 'access-3' });
    await expire();
    endpoint.answer = () => newPair();
    await tokens.getIdpToken(user, idp);
    expect(endpoint.redeemed).toEqual(['refresh-old', 'refresh-3']);
  });

  it('is not refreshed because of a late report about the access token before it', async () => {
    await storePair('acme', { accessTokenExpiresAt: epoch(HOUR) });
    const { version: rejectedVersion } = await tokens.getIdpToken(user, 'acme');
    await again();
    await expect(tokens.getIdpToken(user, 'acme', { rejectedVersion })).resolves.toMatchObject({
      accessToken: 'access-2',
    });
    expect(endpoint.redeemed).toEqual([]);
  });

  it.each(['acme', 'ending'])('is served although the refresh before it is rejected at %s', async (idp) => {
    await storePair(idp);
    let answer = (): void => undefined;
    const answered = new Promise<void>((resolve) => (answer = resolve));
    endpoint.answer = async () => {
      await answered;
      return { status: 400, body: { error: 'invalid_grant' } };
    };
    const refreshed = tokens.getIdpToken(user, idp);
    await until(() => endpoint.redeemed.length === 1);
    await storePair(idp, { accessToken: 'access-2', refreshToken: undefined, accessTokenExpiresAt: epoch(HOUR) });
    answer();
    await expect(refreshed).resolves.toMatchObject({ accessToken: 'access-2' });
    await expect(row()).resolves.toMatchObject({ status: 'active', refresh_token: '', open_leases: 0 });
    await expire();
    await expect(tokens.getIdpToken(user, idp)).rejects.toMatchObject({ reason: 'no_refresh_token' });
    expect(endpoint.redeemed).toHaveLength(1);
  });

  it('is served although the outcome of the exchange before it is unknown, and is no witness of it', async () => {
    await storePair('ending', { accessTokenExpiresAt: epoch(HOUR) });
    await database.query(
      'UPDATE auth_tokens SET open_leases = 1, first_leased_at = now() WHERE keycloak_user_id = $1',
      [user],
    );
    await storePair('ending', { accessToken: 'access-2', refreshToken: undefined, accessTokenExpiresAt: epoch(HOUR) });
    await expect(tokens.getIdpToken(user, 'ending')).resolves.toMatchObject({ accessToken: 'access-2' });
    expect(endpoint.redeemed).toEqual([]);
    expect(asked).toBe(0);
    await expire();
    await tokens.getIdpToken(user, 'ending');
    expect([endpoint.redeemed, asked]).toEqual([['refresh-old'], 0]);
  });

  it('is committed or rolled back with the transaction around it', async () => {
    await storePair('acme', { accessTokenExpiresAt: epoch(HOUR) });
    const scope = app.get(QueryRunnerScope);
    await expect(
      scope.run(async () => {
        await again({ accessTokenExpiresAt: epoch(-1) });
        await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(/stored in the current transaction/);
        throw new Error('roll back');
      }),
    ).rejects.toThrow('roll back');
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-old' });
    await scope.run(() => again());
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-2' });
    expect(endpoint.redeemed).toEqual([]);
  });
});
