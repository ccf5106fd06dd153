import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import {
  AuthTokenStore,
  completePolicy,
  type IdentityProvider,
  ProviderMisconfiguredError,
  RefreshUnavailableError,
  type SealedToken,
  TokenManager,
} from '../src/index.js';
import { everythingPrinted } from './support/secrets.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

let database: TestDatabase;
let app: INestApplication;
let tokens: TokenManager;
let store: AuthTokenStore;
let refresh: () => Promise<unknown> = () => Promise.reject(new Error('not scripted'));
let revoke: () => Promise<unknown> = () => Promise.resolve({ kind: 'revoked' });

const provider = {
  policy: completePolicy({ exchangeTimeoutMs: 200, leaseMs: 2200 }),
  refresh: () => refresh(),
  revoke: () => revoke(),
} as IdentityProvider;

async function open(): Promise<INestApplication> {
  const opened = await createTokensApp({
    databaseUrl: database.url,
    options: { identityProviders: { own: provider }, refresh: { waitTimeoutMs: 4000, shutdownTimeoutMs: 500 } },
  });
  return opened.app;
}

beforeAll(async () => {
  database = await createTestDatabase();
  app = await open();
  tokens = app.get(TokenManager);
  store = app.get(AuthTokenStore);
});

afterAll(async () => {
  await app.close();
  await database.drop();
});

let user = '';
let users = 0;

beforeEach(async () => {
  user = `user-${++users}`;
  await tokens.storeIdpTokens(user, 'own', {
    accessToken: 'old',
    refreshToken: 'old-refresh',
    accessTokenExpiresAt: 1,
  });
});

async function row(): Promise<Record<string, unknown> | undefined> {
  const [found] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [user]);
  return found;
}

async function outcome(call: Promise<unknown>): Promise<unknown> {
  return call.catch((error: unknown) => error);
}

describe('a provider of the host', () => {
  it.each([
    ['a fraction', 3599.5, 3599],
    ['a text', '3600', 3600],
    ['far too much', 1e300, 1e10],
    ['no number', Number.NaN, undefined],
  ])('may name a lifetime that is %s: the pair is stored', async (_, accessTokenExpiresIn, seconds) => {
    refresh = () => Promise.resolve({ kind: 'success', tokens: { accessToken: 'new', accessTokenExpiresIn } });
    const token = await tokens.getIdpToken(user, 'own');
    expect(token.accessToken).toBe('new');
    const now = Math.floor(Date.now() / 1000);
    if (seconds === undefined) expect(token.expiresAt).toBe(0);
    else expect(Math.abs(token.expiresAt - now - seconds)).toBeLessThan(5);
    await expect(row()).resolves.toMatchObject({ lease_id: null, parent_version: expect.any(String) });
  });

  it.each<[string, () => Promise<unknown>]>([
    ['answers nonsense', () => Promise.resolve({ kind: 'nonsense' })],
    ['answers nothing', () => Promise.resolve(undefined)],
    ['rejects', () => Promise.reject(new Error('secret-in-the-message'))],
    [
      'throws',
      () => {
        throw new Error('secret-in-the-message');
      },
    ],
    ['gives an access token that is no text', () => Promise.resolve({ kind: 'success', tokens: { accessToken: 5 } })],
    ['gives no tokens', () => Promise.resolve({ kind: 'success' })],
    ['gives a code that is a message', () => Promise.resolve({ kind: 'ambiguous', code: 'secret-in-the-message!' })],
  ])('that %s harms nobody: a typed error, no secret in it, and the next lease works', async (_, answer) => {
    refresh = answer;
    const error = await outcome(tokens.getIdpToken(user, 'own'));
    expect(error).toBeInstanceOf(RefreshUnavailableError);
    expect(everythingPrinted(error)).not.toContain('secret-in-the-message');
    refresh = () => Promise.resolve({ kind: 'success', tokens: { accessToken: 'new' } });
    await database.query(
      'UPDATE auth_tokens SET lease_expires_at = now(), retry_at = NULL WHERE keycloak_user_id = $1',
      [user],
    );
    await expect(tokens.getIdpToken(user, 'own')).resolves.toMatchObject({ accessToken: 'new' });
  });

  it.each([
    ['not-redeemed', 'quota_exceeded', RefreshUnavailableError],
    ['not-redeemed', 'http_404', RefreshUnavailableError],
    ['configuration', 'BAD_CLIENT_2', ProviderMisconfiguredError],
  ])('that answers %s with the code %s means the same to those who come in the backoff', async (kind, code, error) => {
    refresh = () => Promise.resolve({ kind, code, retryAfterMs: 60_000 });
    await expect(tokens.getIdpToken(user, 'own')).rejects.toThrow(error);
    await expect(tokens.getIdpToken(user, 'own')).rejects.toThrow(error);
  });

  it('may give a refresh token that is no text: the old one is kept, and none is printed', async () => {
    refresh = () => Promise.resolve({ kind: 'success', tokens: { accessToken: 'new', refreshToken: 123456789 } });
    await expect(tokens.getIdpToken(user, 'own')).resolves.toMatchObject({ accessToken: 'new' });
  });

  it('that answers after its lease does not lock the user out, and its late success is stored', async () => {
    let answer: (answer: unknown) => void = () => undefined;
    refresh = () => new Promise((resolve) => (answer = resolve));
    await expect(tokens.getIdpToken(user, 'own')).rejects.toThrow(/did not answer within the lease/);
    answer({ kind: 'success', tokens: { accessToken: 'late' } });
    await until(async () => (await row())?.parent_version !== null);
    await expect(tokens.getIdpToken(user, 'own')).resolves.toMatchObject({ accessToken: 'late' });
  });

  it.each<[string, unknown, string]>([
    ['nothing', undefined, 'INVALID_ANSWER'],
    ['an answer of no kind', { kind: 'perhaps' }, 'INVALID_ANSWER'],
    ['a code that is a token', { kind: 'unavailable', code: 'secret token' }, 'UNNAMED'],
  ])(
    'that answers a revocation with %s is asked again later, and its answer is not repeated',
    async (_, answer, code) => {
      revoke = () => Promise.resolve(answer);
      await tokens.revokeIdpTokens(user, 'own');
      const left = () =>
        database.query('SELECT last_error_code FROM token_revocations WHERE keycloak_user_id = $1', [user]);
      await until(async () => (await left())[0]?.last_error_code === code);
      revoke = () => Promise.resolve({ kind: 'revoked' });
      await database.query('UPDATE token_revocations SET next_attempt_at = now()');
      await tokens.storeIdpTokens(user, 'own', { accessToken: 'again' });
      await tokens.revokeIdpTokens(user, 'own');
      await until(async () => (await left()).length === 0);
    },
  );

  it('that no process knows any more has its deleted pairs kept for 30 days, and no longer', async () => {
    await database.query(`INSERT INTO token_revocations (keycloak_user_id, identity_provider, access_token, refresh_token,
      created_at) VALUES ('young', 'gone', '', '', now() - interval '29 days'), ('old', 'gone', '', '', now() - interval '31 days')`);
    await tokens.revokeIdpTokens(user, 'own'); // wakes the outbox
    const left = () =>
      database.query("SELECT keycloak_user_id AS id FROM token_revocations WHERE identity_provider = 'gone'");
    await until(async () => (await left()).length === 1);
    await expect(left()).resolves.toEqual([{ id: 'young' }]);
  });

  it('that never answers does not keep the application from closing', async () => {
    const other = await open();
    await other
      .get(TokenManager)
      .storeIdpTokens(user, 'own', { accessToken: 'a', refreshToken: 'r', accessTokenExpiresAt: 1 });
    refresh = () => new Promise(() => undefined);
    revoke = () => new Promise(() => undefined);
    const call = outcome(other.get(TokenManager).getIdpToken(user, 'own'));
    await until(async () => (await row())?.lease_id !== null);
    const startedAt = performance.now();
    await other.close();
    expect(performance.now() - startedAt).toBeLessThan(3000);
    await call;
    revoke = () => Promise.resolve({ kind: 'revoked' });
  });
});

describe('a shutdown', () => {
  it('starts no refresh any more, and serves what still works', async () => {
    const other = await open();
    const manager = other.get(TokenManager);
    await manager.storeIdpTokens(user, 'own', { accessToken: 'a', refreshToken: 'r', accessTokenExpiresAt: 1 });
    let sent = 0;
    refresh = () => {
      sent++;
      return Promise.resolve({ kind: 'success', tokens: { accessToken: 'new' } });
    };
    const closing = other.close();
    await expect(manager.getIdpToken(user, 'own')).rejects.toMatchObject({ retryable: true });
    await closing;
    expect(sent).toBe(0);
  });
});

describe('AuthTokenStore.loadTokens beside getIdpToken', () => {
  it('decides for callers with a callback only', async () => {
    const key = { keycloakUserId: user, idp: 'own' };
    refresh = () => Promise.resolve({ kind: 'success', tokens: { accessToken: 'new', accessTokenExpiresIn: 3600 } });
    let decide: (decision: null) => void = () => undefined;
    const called = new Promise<void>((reached) => {
      void store.loadTokens(key, () => {
        reached();
        return new Promise((resolve) => (decide = resolve));
      });
    });
    await called;
    const token = tokens.getIdpToken(user, 'own');
    decide(null);
    await expect(token).resolves.toMatchObject({ accessToken: 'new' });
  });

  it('stores what a callback brings although its expiries are odd', async () => {
    const key = { keycloakUserId: user, idp: 'own' };
    const odd = { accessTokenExpiresAt: '1990000000.7', refreshTokenExpiresAt: 1_990_000_000_000 } as never as {
      accessTokenExpiresAt: number;
      refreshTokenExpiresAt: number;
    };
    const pair = { accessToken: 'sealed-a' as SealedToken, refreshToken: '' as const, ...odd };
    const stored = await store.loadTokens(key, () => Promise.resolve(pair));
    expect(stored).toMatchObject({ accessTokenExpiresAt: 1_990_000_000, refreshTokenExpiresAt: 1_990_000_000 });
  });
});
