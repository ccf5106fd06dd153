import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import { AuthTokenStore, InvalidTokenInputError, type SealedToken, type SealedTokens } from '../src/index.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const HOUR = 3600;

let database: TestDatabase;
let app: INestApplication;
let dataSource: DataSource;
let store: AuthTokenStore;

beforeAll(async () => {
  database = await createTestDatabase();
  ({ app, dataSource } = await createTokensApp({ databaseUrl: database.url }));
  store = app.get(AuthTokenStore);
});

afterEach(async () => {
  await until(() => connectionsInUse(dataSource) === 0);
});

afterAll(async () => {
  await app.close();
  await database.drop();
});

let users = 0;
function newKey() {
  return { keycloakUserId: `user-${++users}`, idp: 'github' };
}

/** Returns a pair as a caller of the store has it. Its texts are not sealed, but the store cannot see that. */
function pair(name: string, accessTokenExpiresIn = HOUR, refreshTokenExpiresIn = 24 * HOUR): SealedTokens {
  const now = Math.floor(Date.now() / 1000);
  return {
    accessToken: `sealed-access-${name}` as SealedToken,
    refreshToken: `sealed-refresh-${name}` as SealedToken,
    accessTokenExpiresAt: now + accessTokenExpiresIn,
    refreshTokenExpiresAt: now + refreshTokenExpiresIn,
  };
}

describe('AuthTokenStore.loadTokens', () => {
  it('resolves to null when nothing is stored', async () => {
    await expect(store.loadTokens(newKey())).resolves.toBeNull();
    await expect(store.loadTokens(newKey(), () => Promise.resolve(pair('new')))).resolves.toBeNull();
  });

  it('returns what is stored without a callback, expired or not', async () => {
    const key = newKey();
    const expired = pair('old', -HOUR, -HOUR);
    await store.storeTokens(key, expired);
    await expect(store.loadTokens(key)).resolves.toEqual({ ...expired, version: expect.stringMatching(/^\d+$/) });
  });

  it('does not call the callback while the access token is fresh', async () => {
    const key = newKey();
    await store.storeTokens(key, pair('fresh', 8 * HOUR));
    const refresh = jest.fn(() => Promise.resolve(pair('new')));
    await expect(store.loadTokens(key, refresh)).resolves.toMatchObject({ accessToken: 'sealed-access-fresh' });
    expect(refresh).not.toHaveBeenCalled();
  });

  it('does not call the callback for a token that does not expire', async () => {
    const key = newKey();
    await store.storeTokens(key, { ...pair('eternal'), accessTokenExpiresAt: 0 });
    const refresh = jest.fn(() => Promise.resolve(pair('new')));
    await expect(store.loadTokens(key, refresh)).resolves.toMatchObject({ accessToken: 'sealed-access-eternal' });
    expect(refresh).not.toHaveBeenCalled();
  });

  it('gives the callback the stored refresh token and expiries, stores its result and returns it', async () => {
    const key = newKey();
    const old = pair('old', -1);
    await store.storeTokens(key, old);
    const refresh = jest.fn(() => Promise.resolve(pair('new')));
    const returned = await store.loadTokens(key, refresh);
    expect(refresh.mock.calls).toEqual([
      ['github', 'sealed-refresh-old', old.accessTokenExpiresAt, old.refreshTokenExpiresAt],
    ]);
    expect(returned).toMatchObject({ accessToken: 'sealed-access-new', refreshToken: 'sealed-refresh-new' });
    await expect(store.loadTokens(key)).resolves.toEqual(returned);
  });

  it('calls the callback of one of many concurrent callers and gives its result to all', async () => {
    const key = newKey();
    await store.storeTokens(key, pair('old', -1));
    const refresh = jest.fn(() => Promise.resolve(pair('new')));
    const loaded = await Promise.all(Array.from({ length: 50 }, () => store.loadTokens(key, refresh)));
    expect(refresh).toHaveBeenCalledTimes(1);
    expect(new Set(loaded.map((tokens) => tokens?.accessToken))).toEqual(new Set(['sealed-access-new']));
  });

  it('returns the tokens of whoever refreshed meanwhile and does not call the callback', async () => {
    const key = newKey();
    await store.storeTokens(key, pair('old', -1));
    const other = await createTokensApp({ databaseUrl: database.url });
    let answer: (tokens: SealedTokens) => void = () => undefined;
    let called: () => void = () => undefined;
    const isCalled = new Promise<void>((resolve) => (called = resolve));
    const theirs = other.app.get(AuthTokenStore).loadTokens(key, () => {
      called();
      return new Promise((resolve) => (answer = resolve));
    });
    await isCalled;
    const refresh = jest.fn(() => Promise.resolve(pair('mine')));
    const mine = store.loadTokens(key, refresh);
    answer(pair('theirs'));
    await expect(mine).resolves.toMatchObject({ accessToken: 'sealed-access-theirs' });
    await expect(theirs).resolves.toMatchObject({ accessToken: 'sealed-access-theirs' });
    expect(refresh).not.toHaveBeenCalled();
    await other.app.close();
  });

  it('returns the stored tokens unchanged when the callback resolves to null', async () => {
    const key = newKey();
    await store.storeTokens(key, pair('old', -1));
    const stored = await store.loadTokens(key);
    await expect(store.loadTokens(key, () => Promise.resolve(null))).resolves.toEqual(stored);
    await expect(store.loadTokens(key)).resolves.toEqual(stored);
  });

  it('passes the rejection of the callback on, changes nothing, and lets the next caller try', async () => {
    const key = newKey();
    await store.storeTokens(key, pair('old', -1));
    const stored = await store.loadTokens(key);
    const failure = new Error('provider is down');
    await expect(store.loadTokens(key, () => Promise.reject(failure))).rejects.toBe(failure);
    await expect(store.loadTokens(key)).resolves.toEqual(stored);
    await expect(store.loadTokens(key, () => Promise.resolve(pair('new')))).resolves.toMatchObject({
      accessToken: 'sealed-access-new',
    });
  });
});

describe('AuthTokenStore.storeTokens', () => {
  it('lets two first stores of one key both succeed and leaves one row', async () => {
    for (let round = 0; round < 20; round++) {
      const key = newKey();
      await Promise.all([store.storeTokens(key, pair('a')), store.storeTokens(key, pair('b'))]);
      const rows = await database.query('SELECT access_token FROM auth_tokens WHERE keycloak_user_id = $1', [
        key.keycloakUserId,
      ]);
      expect(rows).toHaveLength(1);
      expect(['sealed-access-a', 'sealed-access-b']).toContain(rows[0]?.access_token);
    }
  });

  it('draws a new version with every store', async () => {
    const key = newKey();
    await store.storeTokens(key, pair('same'));
    const first = await store.loadTokens(key);
    await store.storeTokens(key, pair('same'));
    const second = await store.loadTokens(key);
    expect(second?.version).not.toBe(first?.version);
  });

  it('spends no identity value when it replaces a pair', async () => {
    const key = newKey();
    await store.storeTokens(key, pair('first'));
    const lastValue = "SELECT last_value FROM pg_sequences WHERE sequencename = 'auth_tokens_id_seq'";
    const [before] = await database.query(lastValue);
    for (let round = 0; round < 5; round++) await store.storeTokens(key, pair('again'));
    await expect(database.query(lastValue)).resolves.toEqual([before]);
  });

  it('makes a grant that had ended active again and forgets its failures', async () => {
    const key = newKey();
    await store.storeTokens(key, pair('old'));
    await database.query(
      `UPDATE auth_tokens SET status = 'reauthentication_required', failure_count = 3, lease_id = 1, open_leases = 2,
         lease_expires_at = now(), retry_at = now(), quarantined_until = now(), last_error_code = 'x', parent_version = 1
         WHERE keycloak_user_id = $1`,
      [key.keycloakUserId],
    );
    await store.storeTokens(key, pair('new'));
    const [row] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [key.keycloakUserId]);
    expect(row).toMatchObject({
      access_token: 'sealed-access-new',
      status: 'active',
      failure_count: 0,
      open_leases: 0,
      lease_id: null,
      lease_expires_at: null,
      retry_at: null,
      quarantined_until: null,
      last_error_code: null,
      parent_version: null,
    });
  });

  it.each([
    ['an empty user id', { keycloakUserId: '', idp: 'github' }, pair('x'), /user id must be a non-empty string/],
    ['a blank user id', { keycloakUserId: '  ', idp: 'github' }, pair('x'), /user id must be a non-empty string/],
    ['an empty provider', { keycloakUserId: 'user', idp: '' }, pair('x'), /identity provider must be a non-empty/],
    ['a user id with NUL', { keycloakUserId: 'a\0b', idp: 'github' }, pair('x'), /NUL/],
    ['a user id of 256 characters', { keycloakUserId: 'x'.repeat(256), idp: 'github' }, pair('x'), /Is it a token\?/],
    ['an empty access token', newKey(), { ...pair('x'), accessToken: '' as SealedToken }, /non-empty string/],
    ['a negative expiry', newKey(), { ...pair('x'), accessTokenExpiresAt: -1 }, /accessTokenExpiresAt .* it is -1/],
    [
      'a fractional expiry',
      newKey(),
      { ...pair('x'), refreshTokenExpiresAt: 1.5 },
      /refreshTokenExpiresAt .* it is 1.5/,
    ],
    ['an expiry that is not a number', newKey(), { ...pair('x'), accessTokenExpiresAt: NaN }, /it is NaN/],
    ['an expiry in milliseconds', newKey(), { ...pair('x'), accessTokenExpiresAt: 1.79e12 }, /milliseconds. Divide it/],
  ])('refuses %s and writes nothing', async (_, key, tokens, message) => {
    const count = 'SELECT count(*) FROM auth_tokens';
    const [before] = await database.query(count);
    const refusal = store.storeTokens(key, tokens);
    await expect(refusal).rejects.toThrow(InvalidTokenInputError);
    await expect(refusal).rejects.toThrow(message);
    await expect(database.query(count)).resolves.toEqual([before]);
  });
});

describe('AuthTokenStore validity', () => {
  it.each([
    ['valid', 'in 33 s', 33],
    ['invalid', 'in 29 s', 29],
    ['invalid', 'a second ago', -1],
  ])('calls tokens %s that expire %s', async (validity, _, expiresIn) => {
    const key = newKey();
    const isValid = validity === 'valid';
    await store.storeTokens(key, pair('x', expiresIn, expiresIn));
    await expect(store.isAccessTokenValid(key)).resolves.toBe(isValid);
    await expect(store.isRefreshTokenValid(key)).resolves.toBe(isValid);
  });

  it('calls tokens that do not expire valid', async () => {
    const key = newKey();
    await store.storeTokens(key, { ...pair('x'), accessTokenExpiresAt: 0, refreshTokenExpiresAt: 0 });
    await expect(store.isAccessTokenValid(key)).resolves.toBe(true);
    await expect(store.isRefreshTokenValid(key)).resolves.toBe(true);
  });

  it('calls missing tokens invalid', async () => {
    const key = newKey();
    await expect(store.isAccessTokenValid(key)).resolves.toBe(false);
    await expect(store.isRefreshTokenValid(key)).resolves.toBe(false);
    await store.storeTokens(key, { ...pair('x'), refreshToken: '', refreshTokenExpiresAt: 0 });
    await expect(store.isRefreshTokenValid(key)).resolves.toBe(false);
  });
});

describe('AuthTokenStore.deleteTokens and getInstance', () => {
  it('returns what it deleted, once', async () => {
    const key = newKey();
    await store.storeTokens(key, pair('gone'));
    await expect(store.deleteTokens(key)).resolves.toMatchObject({ accessToken: 'sealed-access-gone' });
    await expect(store.deleteTokens(key)).resolves.toBeNull();
    await expect(store.loadTokens(key)).resolves.toBeNull();
  });

  it.each([undefined, null, {}, [], ''])('gives no handle for the user %j', (userId) => {
    expect(() => store.getInstance(userId as never, 'gitlab')).toThrow(InvalidTokenInputError);
  });

  it.each([
    ['a number', 5],
    ['an object', { secret: 'x' }],
    ['a text with a NUL', 'a\0b'],
    ['half a surrogate pair', '\ud800'],
    ['a document', 'x'.repeat(128 * 1024 + 1)],
  ])('refuses %s for a sealed token, by a typed error that does not repeat it', async (_, token) => {
    for (const field of ['accessToken', 'refreshToken']) {
      const failure = store.storeTokens({ keycloakUserId: 'ada', idp: 'github' }, { ...pair('x'), [field]: token });
      await expect(failure).rejects.toThrow(InvalidTokenInputError);
      await expect(failure).rejects.not.toThrow(/secret|xxx/);
    }
    const nothing = store.storeTokens({ keycloakUserId: 'ada', idp: 'github' }, undefined as never);
    await expect(nothing).rejects.toThrow(InvalidTokenInputError);
  });

  it('binds a handle to one user and provider, with the id as text', async () => {
    const handle = store.getInstance(42, 'gitlab');
    expect([handle.keycloakUserId, handle.idp]).toEqual(['42', 'gitlab']);
    await handle.storeTokens(pair('handle'));
    await expect(handle.loadTokens()).resolves.toMatchObject({ accessToken: 'sealed-access-handle' });
    await expect(handle.isAccessTokenValid()).resolves.toBe(true);
    await expect(handle.isRefreshTokenValid()).resolves.toBe(true);
    await expect(store.loadTokens({ keycloakUserId: '42', idp: 'gitlab' })).resolves.not.toBeNull();
    await handle.deleteTokens();
    await expect(handle.loadTokens()).resolves.toBeNull();
  });
});
