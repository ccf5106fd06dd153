import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import {
  type IdpTokens,
  InvalidTokenInputError,
  OfflineTokenStore,
  QueryRunnerScope,
  TokenDecryptionError,
  TokenManager,
  TokensNotFoundError,
  UnsupportedProviderError,
} from '../src/index.js';
import { fernet } from './support/fernet.js';
import { everythingPrinted } from './support/secrets.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp, newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

const firstKey = { id: 'first', secret: newKey() };
const legacySecret = 'secret of the adopted system';

let database: TestDatabase;
let endpoint: TokenEndpoint;
let app: INestApplication;
let dataSource: DataSource;
let tokens: TokenManager;

function openApp(keys: object[]): Promise<{ app: INestApplication; dataSource: DataSource }> {
  return createTokensApp({
    databaseUrl: database.url,
    options: {
      encryption: { keys: keys as never },
      identityProviders: {
        acme: {
          clientId: 'client',
          clientSecret: 'client-secret',
          tokenEndpoint: endpoint.url,
          revocationEndpoint: `${endpoint.url}/revoke`,
        },
        github: { clientId: 'client', clientSecret: 'client-secret', baseUrl: 'http://127.0.0.1:9' },
        unrevocable: { clientId: 'client', clientSecret: 'client-secret', tokenEndpoint: endpoint.url },
      },
    },
  });
}

/**
 * Runs work with a manager that has other keys and the same rows. No key is registered meanwhile, because the application
 * would not boot with some of them.
 */
async function withKeys<T>(keys: object[], work: (manager: TokenManager) => Promise<T>): Promise<T> {
  await database.query('DELETE FROM token_keys');
  const other = await openApp(keys);
  try {
    return await work(other.app.get(TokenManager));
  } finally {
    await other.app.close();
    await database.query('DELETE FROM token_keys');
  }
}

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  ({ app, dataSource } = await openApp([firstKey, { id: 'legacy', legacyFernetSecret: legacySecret }]));
  tokens = app.get(TokenManager);
});

let user = '';
let users = 0;

beforeEach(() => {
  user = `user-${++users}`;
  endpoint.redeemed.length = 0;
  endpoint.revoked.length = 0;
  endpoint.answer = () => newPair();
  endpoint.answerRevocation = () => ({ status: 200 });
});

afterEach(async () => {
  await until(() => connectionsInUse(dataSource) === 0);
});

afterAll(async () => {
  await app.close();
  await endpoint.close();
  await database.drop();
});

async function rowOf(userId: string): Promise<Record<string, string> | undefined> {
  const [row] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [userId]);
  return row as Record<string, string> | undefined;
}

describe('TokenManager.storeIdpTokens and getIdpToken', () => {
  it('store sealed texts and give the plaintext back', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'plain-access', refreshToken: 'plain-refresh' });
    const row = await rowOf(user);
    expect(row?.access_token).toMatch(/^v1\.first\.[\w-]+$/);
    expect(row?.refresh_token).toMatch(/^v1\.first\.[\w-]+$/);
    expect(JSON.stringify(row)).not.toContain('plain-');
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({
      accessToken: 'plain-access',
      expiresAt: 0,
    });
  });

  it('accept tokens without a refresh token and without expiries', async () => {
    await tokens.storeIdpTokens(user, 'github', { accessToken: 'gho_only', refreshToken: null });
    await expect(rowOf(user)).resolves.toMatchObject({
      refresh_token: '',
      access_token_expires_at: '0',
      refresh_token_expires_at: '0',
    });
    await expect(tokens.getIdpToken(user, 'github')).resolves.toMatchObject({ accessToken: 'gho_only' });
  });

  it('hold tokens of 64 KiB', async () => {
    const accessToken = 'x'.repeat(64 * 1024);
    await tokens.storeIdpTokens(user, 'acme', { accessToken });
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken });
  });

  it('hand out a token that prints redacted', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'plain-access' });
    const token = await tokens.getIdpToken(user, 'acme');
    expect(token.accessToken).toBe('plain-access');
    const { expiresAt, version } = token;
    expect(JSON.parse(JSON.stringify(token))).toEqual({ accessToken: '[redacted]', expiresAt, version });
    expect(everythingPrinted([token])).not.toContain('plain-access');
  });

  it('answer a user without tokens by TokensNotFoundError', async () => {
    const missing = tokens.getIdpToken(user, 'acme');
    await expect(missing).rejects.toThrow(TokensNotFoundError);
    await expect(missing).rejects.toThrow(`User "${user}", identity provider "acme" has no stored tokens`);
  });

  it('roll back with the surrounding transaction', async () => {
    const run = app.get(QueryRunnerScope).run(async () => {
      await tokens.storeIdpTokens(user, 'acme', { accessToken: 'plain' });
      await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'plain' });
      throw new Error('rolled back on purpose');
    });
    await expect(run).rejects.toThrow('rolled back on purpose');
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(TokensNotFoundError);
  });

  it('refuse a provider that is not configured, and name those that are', async () => {
    const stored = tokens.storeIdpTokens(user, 'gitlab', { accessToken: 'x' });
    await expect(stored).rejects.toThrow(UnsupportedProviderError);
    await expect(stored).rejects.toThrow(/"gitlab" is not configured. Configured: acme, github, unrevocable/);
    await expect(tokens.getIdpToken(user, 'gitlab')).rejects.toThrow(UnsupportedProviderError);
    await expect(tokens.revokeIdpTokens(user, 'gitlab')).rejects.toThrow(UnsupportedProviderError);
  });

  it.each<[string, Partial<IdpTokens>, RegExp]>([
    ['an empty access token', { accessToken: '' }, /The access token must be a non-empty string/],
    ['an access token that is no text', { accessToken: 5 as never }, /The access token must be a non-empty string/],
    [
      'an access token over 64 KiB',
      { accessToken: 'ü'.repeat(32 * 1024 + 1) },
      /The access token is larger than 64 KiB/,
    ],
    ['a refresh token over 64 KiB', { refreshToken: 'x'.repeat(65_537) }, /The refresh token is larger than 64 KiB/],
    ['a negative expiry', { accessTokenExpiresAt: -5 }, /accessTokenExpiresAt must be whole epoch seconds.* it is -5/],
    [
      'a fractional expiry',
      { refreshTokenExpiresAt: 1790000000.5 },
      /refreshTokenExpiresAt must be whole epoch seconds/,
    ],
    ['an expiry in milliseconds', { accessTokenExpiresAt: Date.now() }, /looks like milliseconds. Divide it by 1000/],
    ['an expiry that is a text', { accessTokenExpiresAt: '1790000000' as never }, /whole epoch seconds.* it is string/],
  ])('refuse %s with a typed error that holds no token, and write nothing', async (_, fault, message) => {
    const stored = tokens.storeIdpTokens(user, 'acme', { accessToken: 'secret-a', refreshToken: 'secret-r', ...fault });
    const error: unknown = await stored.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(InvalidTokenInputError);
    expect(error).toMatchObject({ message: expect.stringMatching(message), retryable: false });
    expect(everythingPrinted(error)).not.toMatch(/secret-|xxxxx|üüüü/);
    await expect(rowOf(user)).resolves.toBeUndefined();
  });

  it.each([NaN, Infinity, -1])('refuse a minValiditySeconds of %s', async (minValiditySeconds) => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'x' });
    await expect(tokens.getIdpToken(user, 'acme', { minValiditySeconds })).rejects.toThrow(InvalidTokenInputError);
  });

  it('refuse an empty user id everywhere', async () => {
    const calls = [
      tokens.storeIdpTokens('', 'acme', { accessToken: 'x' }),
      tokens.getIdpToken('', 'acme'),
      tokens.revokeIdpTokens('', 'acme'),
      tokens.storeOfflineToken('', 'x'),
      tokens.loadOfflineToken(''),
    ];
    for (const call of calls) await expect(call).rejects.toThrow(InvalidTokenInputError);
  });
});

describe('sealed tokens', () => {
  it('open after a key was put in front, and are sealed with it by the next write', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'old', refreshToken: 'r', accessTokenExpiresAt: 1 });
    await withKeys([{ id: 'second', secret: newKey() }, firstKey], async (manager) => {
      endpoint.answer = () => newPair({ refresh_token: undefined });
      await manager.getIdpToken(user, 'acme');
      const row = await rowOf(user);
      expect(row?.access_token).toMatch(/^v1\.second\./);
      expect(row?.refresh_token).toMatch(/^v1\.second\./);
    });
  });

  it('name the key that is missing, and send nothing to the provider when the refresh token does not open', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'old', refreshToken: 'r' });
    await withKeys([{ id: 'second', secret: newKey() }], async (manager) => {
      const read = manager.getIdpToken(user, 'acme');
      await expect(read).rejects.toThrow(TokenDecryptionError);
      await expect(read).rejects.toMatchObject({ keyId: 'first', message: expect.stringContaining('"first"') });
      const refresh = manager.getIdpToken(user, 'acme', { rejectedVersion: (await rowOf(user))?.token_version });
      await expect(refresh).rejects.toMatchObject({ keyId: 'first' });
    });
    expect(endpoint.redeemed).toEqual([]);
    await expect(rowOf(user)).resolves.toMatchObject({ status: 'active', lease_id: null, open_leases: 0 });
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'old' });
  });

  it('do not open with another secret of the same id', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'old' });
    await withKeys([{ id: 'first', secret: newKey() }], async (manager) => {
      await expect(manager.getIdpToken(user, 'acme')).rejects.toThrow(TokenDecryptionError);
    });
  });

  it('do not open when copied to another user, provider or column', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'mine', refreshToken: 'refresh' });
    await tokens.storeIdpTokens(`${user}-thief`, 'acme', { accessToken: 'theirs' });
    await tokens.storeIdpTokens(user, 'unrevocable', { accessToken: 'elsewhere' });
    const copy = (column: string, toUser: string, toIdp: string) =>
      database.query(
        `UPDATE auth_tokens SET access_token = (SELECT ${column} FROM auth_tokens WHERE keycloak_user_id = $1 AND
           identity_provider = 'acme') WHERE keycloak_user_id = $2 AND identity_provider = $3`,
        [user, toUser, toIdp],
      );
    await copy('access_token', `${user}-thief`, 'acme');
    await expect(tokens.getIdpToken(`${user}-thief`, 'acme')).rejects.toThrow(TokenDecryptionError);
    await copy('access_token', user, 'unrevocable');
    await expect(tokens.getIdpToken(user, 'unrevocable')).rejects.toThrow(TokenDecryptionError);
    await copy('refresh_token', user, 'acme');
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(TokenDecryptionError);
  });

  it('fail one caller of a shared read, not the others', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'good' });
    await tokens.storeIdpTokens(`${user}-bad`, 'acme', { accessToken: 'bad' });
    await database.query("UPDATE auth_tokens SET access_token = 'plaintext' WHERE keycloak_user_id = $1", [
      `${user}-bad`,
    ]);
    const results = await Promise.allSettled([
      tokens.getIdpToken(user, 'acme'),
      tokens.getIdpToken(`${user}-bad`, 'acme'),
      tokens.getIdpToken(`${user}-none`, 'acme'),
    ]);
    expect(results.map((result) => (result.status === 'rejected' ? (result.reason as Error).name : 'token'))).toEqual([
      'token',
      'TokenDecryptionError',
      'TokensNotFoundError',
    ]);
  });

  it('may be Fernet texts of the adopted system, which the next write seals anew', async () => {
    await database.query(
      `INSERT INTO auth_tokens (keycloak_user_id, identity_provider, access_token, refresh_token,
         access_token_expires_at, refresh_token_expires_at) VALUES ($1, 'acme', $2, $3, 0, 0)`,
      [user, fernet('legacy-access', legacySecret), fernet('legacy-refresh', legacySecret)],
    );
    const token = await tokens.getIdpToken(user, 'acme');
    expect(token.accessToken).toBe('legacy-access');
    endpoint.answer = () => newPair({ refresh_token: undefined });
    await tokens.getIdpToken(user, 'acme', { rejectedVersion: token.version });
    expect(endpoint.redeemed).toEqual(['legacy-refresh']);
    const row = await rowOf(user);
    expect([row?.access_token, row?.refresh_token]).toEqual([
      expect.stringMatching(/^v1\.first\./),
      expect.stringMatching(/^v1\.first\./),
    ]);
    await withKeys([firstKey], (manager) => manager.getIdpToken(user, 'acme'));
  });
});

describe('offline tokens', () => {
  it('are stored sealed in the form of the adopted system and come back', async () => {
    await tokens.storeOfflineToken(user, 'offline-1');
    await tokens.storeOfflineToken(user, 'offline-2');
    const stored = await app.get(OfflineTokenStore).loadToken(user);
    expect(JSON.parse(stored ?? '')).toEqual({ tokens: expect.stringMatching(/^v1\.first\./) });
    await expect(tokens.loadOfflineToken(user)).resolves.toBe('offline-2');
    await expect(tokens.loadOfflineToken(`${user}-none`)).resolves.toBeNull();
  });

  it('open as the adopted system sealed them', async () => {
    const stored = JSON.stringify({
      tokens: fernet(JSON.stringify({ refresh_token: 'legacy-offline' }), legacySecret),
    });
    const handle = app.get(OfflineTokenStore).getInstance(user);
    await handle.storeToken(stored);
    await expect(tokens.loadOfflineToken(user)).resolves.toBe('legacy-offline');
    await expect(handle.loadToken()).resolves.toBe(stored);
    await expect(handle.deleteToken()).resolves.toBe(true);
    await expect(handle.deleteToken()).resolves.toBe(false);
  });

  it.each(['offline-plaintext', '{"tokens": 5}', '{}', 'null'])('never open as is: %s', async (stored) => {
    await app.get(OfflineTokenStore).storeToken(user, stored);
    await expect(tokens.loadOfflineToken(user)).rejects.toThrow(TokenDecryptionError);
  });

  it('do not open for another user', async () => {
    await tokens.storeOfflineToken(user, 'offline');
    await app.get(OfflineTokenStore).storeToken(`${user}-2`, (await app.get(OfflineTokenStore).loadToken(user)) ?? '');
    await expect(tokens.loadOfflineToken(`${user}-2`)).rejects.toThrow(TokenDecryptionError);
  });

  it('give way to a successor once: whoever replaces what is no longer stored, fails', async () => {
    const store = app.get(OfflineTokenStore);
    await store.storeToken(user, 'first');
    const replaced = await Promise.all(
      Array.from({ length: 10 }, (_, n) => store.replaceToken(user, 'first', `successor-${n}`)),
    );
    expect(replaced.filter(Boolean)).toHaveLength(1);
    await expect(store.loadToken(user)).resolves.toBe(`successor-${replaced.indexOf(true)}`);
    await store.deleteToken(user);
    await expect(store.replaceToken(user, 'first', 'x')).resolves.toBe(false);
    await expect(store.loadToken(user)).resolves.toBeNull();
  });

  it('keep a successor whatever becomes of the surrounding transaction: its predecessor is dead', async () => {
    const store = app.get(OfflineTokenStore);
    await store.storeToken(user, 'first');
    const run = app.get(QueryRunnerScope).run(async () => {
      await expect(store.replaceToken(user, 'first', 'successor')).resolves.toBe(true);
      throw new Error('rolled back on purpose');
    });
    await expect(run).rejects.toThrow('rolled back on purpose');
    await expect(store.loadToken(user)).resolves.toBe('successor');
  });

  it('refuse an empty token', async () => {
    await expect(tokens.storeOfflineToken(user, '')).rejects.toThrow(InvalidTokenInputError);
    await expect(app.get(OfflineTokenStore).storeToken(user, '')).rejects.toThrow(InvalidTokenInputError);
    await expect(tokens.loadOfflineToken(user)).resolves.toBeNull();
  });
});

describe('TokenManager.revokeIdpTokens', () => {
  it('deletes at once and revokes the refresh token at the provider afterwards', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'a', refreshToken: 'to-be-revoked' });
    await expect(tokens.revokeIdpTokens(user, 'acme')).resolves.toBe(true);
    await expect(rowOf(user)).resolves.toBeUndefined();
    await until(() => endpoint.revoked.length > 0);
    expect(endpoint.revoked).toEqual(['to-be-revoked']);
    await until(async () => (await database.query('SELECT FROM token_revocations')).length === 0);
    await expect(tokens.revokeIdpTokens(user, 'acme')).resolves.toBe(false);
  });

  it('deletes although the provider is down, and keeps the sealed pair until it is revoked', async () => {
    endpoint.answerRevocation = () => ({ status: 503 });
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'a', refreshToken: 'plain-late' });
    await tokens.revokeIdpTokens(user, 'acme');
    await until(
      async () =>
        (await database.query('SELECT FROM token_revocations WHERE last_error_code IS NOT NULL')).length === 1,
    );
    const [noted] = await database.query('SELECT * FROM token_revocations');
    expect(noted).toMatchObject({ attempts: 1, last_error_code: 'http_503', keycloak_user_id: user });
    expect(JSON.stringify(noted)).not.toContain('plain-late');

    endpoint.answerRevocation = () => ({ status: 200 });
    await database.query('UPDATE token_revocations SET next_attempt_at = now()');
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'a', refreshToken: 'another' });
    await tokens.revokeIdpTokens(user, 'acme'); // wakes the outbox
    await until(() => endpoint.revoked.length === 3);
    expect(endpoint.revoked.slice(1).sort()).toEqual(['another', 'plain-late']);
    await until(async () => (await database.query('SELECT FROM token_revocations')).length === 0);
  });

  it('neither deletes nor revokes when the surrounding transaction rolls back', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'kept', refreshToken: 'kept' });
    const run = app.get(QueryRunnerScope).run(async () => {
      await tokens.revokeIdpTokens(user, 'acme');
      throw new Error('no');
    });
    await expect(run).rejects.toThrow('no');
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'kept' });
    await expect(database.query('SELECT FROM token_revocations')).resolves.toEqual([]);
    expect(endpoint.revoked).toEqual([]);
  });

  it('never revokes a pair that stays: the transaction ends while the deletion is under way', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'kept', refreshToken: 'kept' });
    let revocation: Promise<unknown> = Promise.resolve();
    const run = app.get(QueryRunnerScope).run(() => {
      revocation = tokens.revokeIdpTokens(user, 'acme');
      return Promise.all([revocation, Promise.reject(new Error('sooner'))]);
    });
    await expect(run).rejects.toThrow('sooner');
    await revocation.catch(() => undefined);
    const isThere = (await rowOf(user)) !== undefined;
    const noted = await database.query('SELECT FROM token_revocations WHERE keycloak_user_id = $1', [user]);
    expect({ isThere, noted: noted.length + endpoint.revoked.length }).toEqual({ isThere, noted: isThere ? 0 : 1 });
  });

  it('deletes and notes in one, also on a runner of the host without a transaction', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'kept', refreshToken: 'kept' });
    await database.query('ALTER TABLE token_revocations RENAME COLUMN attempts TO hidden');
    await database.query('ALTER TABLE token_revocations ALTER COLUMN refresh_token TYPE varchar(3)');
    const runner = dataSource.createQueryRunner();
    try {
      const revoke = app.get(QueryRunnerScope).join(runner, () => tokens.revokeIdpTokens(user, 'acme'));
      await expect(revoke).rejects.toMatchObject({ sqlState: '22001' });
    } finally {
      await runner.release();
      await database.query('ALTER TABLE token_revocations ALTER COLUMN refresh_token TYPE varchar');
      await database.query('ALTER TABLE token_revocations RENAME COLUMN hidden TO attempts');
    }
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'kept' });
  });

  it('only deletes where the provider cannot revoke', async () => {
    await tokens.storeIdpTokens(user, 'unrevocable', { accessToken: 'a' });
    await expect(tokens.revokeIdpTokens(user, 'unrevocable')).resolves.toBe(true);
    await expect(database.query('SELECT FROM token_revocations')).resolves.toEqual([]);
  });

  it('is not undone by a refresh under way, whose new pair is revoked too', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'a', refreshToken: 'old', accessTokenExpiresAt: 1 });
    endpoint.answer = async () => {
      await tokens.revokeIdpTokens(user, 'acme');
      return newPair({ refresh_token: 'successor' });
    };
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(TokensNotFoundError);
    await expect(rowOf(user)).resolves.toBeUndefined();
    await database.query('UPDATE token_revocations SET next_attempt_at = now()');
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'a', refreshToken: 'later' });
    await tokens.revokeIdpTokens(user, 'acme'); // wakes the outbox
    await until(() => endpoint.revoked.length === 3);
    expect([...endpoint.revoked].sort()).toEqual(['later', 'old', 'successor']);
  });
});
