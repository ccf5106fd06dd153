import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import pg from 'pg';
import { DataSource } from 'typeorm';

import {
  AuthTokenStore,
  type EncryptionKeyOptions,
  InvalidTokenInputError,
  KeycloakSessions,
  KeyInUseError,
  OfflineTokenStore,
  QueryRunnerScope,
  type ResealProgress,
  TokenCipher,
  TokenKeyRotation,
  TokenManager,
  TokensConfigurationError,
  TokensUsageError,
} from '../src/index.js';
import { TextSealer } from '../src/key-rotation/text-sealer.js';
import { SealedTextsTable } from '../src/storage/sealed-texts/sealed-texts.table.js';
import { offlineTokenLocation } from '../src/storage/token-locations.js';
import { TokenRevoker } from '../src/token-manager/token-revoker.js';
import { fernet } from './support/fernet.js';
import { gate } from './support/gate.js';
import { KeycloakStandIn } from './support/keycloak-stand-in.js';
import { RowLock } from './support/row-lock.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp, newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

const LEGACY_SECRET = 'secret of the adopted system';
const older = { id: 'older', secret: newKey() };
const newer = { id: 'newer', secret: newKey(), algorithm: 'aes-256-gcm' as const };
const legacy = { id: 'legacy', legacyFernetSecret: LEGACY_SECRET };
const TABLES = ['auth_tokens', 'offline_tokens', 'token_revocations'] as const;

let database: TestDatabase;
let endpoint: TokenEndpoint;
let keycloak: KeycloakStandIn;
let apps: INestApplication[];
/** The application before the rotation. */
let before: INestApplication;
/** The application that has the new key in first place. */
let after: INestApplication;
let rotation: TokenKeyRotation;

async function open(
  keys: readonly EncryptionKeyOptions[],
  { connectionTimeoutMs = 10_000, isDirect = false } = {},
): Promise<INestApplication> {
  const acme = {
    clientId: 'client',
    clientSecret: 'client-secret',
    tokenEndpoint: endpoint.url,
    revocationEndpoint: `${endpoint.url}/revoke`,
  };
  const { app } = await createTokensApp({
    databaseUrl: database.url,
    isDirect,
    options: {
      encryption: { keys },
      identityProviders: { acme },
      keycloak: { serverUrl: keycloak.url, realm: 'app', clientId: 'backend', clientSecret: 'backend-secret' },
      connectionTimeoutMs,
    },
  });
  // Without its interval the revoker looks at the outbox only when something wakes it.
  app.get(TokenRevoker, { strict: false }).onModuleDestroy();
  apps.push(app);
  return app;
}

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  keycloak = new KeycloakStandIn();
  await keycloak.start();
});

afterAll(async () => {
  await keycloak.stop();
  await endpoint.close();
  await database.drop();
});

beforeEach(async () => {
  apps = [];
  for (const table of [...TABLES, 'token_keys']) await database.query(`DELETE FROM ${table}`);
  endpoint.answer = () => newPair();
  endpoint.answerRevocation = () => ({ status: 200 });
  endpoint.redeemed.length = 0;
  endpoint.revoked.length = 0;
  before = await open([older, newer, legacy]);
  after = await open([newer, older, legacy]);
  rotation = after.get(TokenKeyRotation);
});

afterEach(async () => {
  await Promise.all(apps.map((app) => app.close()));
});

/** Stores so many pairs, offline tokens and pairs to revoke with the older key. */
async function storeRows(count: number): Promise<void> {
  const tokens = before.get(TokenManager);
  for (let each = 0; each < count; each++) {
    await tokens.storeIdpTokens(`user-${each}`, 'acme', {
      accessToken: `access-${each}`,
      refreshToken: `refresh-${each}`,
    });
    await tokens.storeOfflineToken(`user-${each}`, `offline-${each}`);
  }
  await database.query(`INSERT INTO token_revocations
      (keycloak_user_id, identity_provider, client_id, access_token, refresh_token, next_attempt_at)
    SELECT keycloak_user_id, identity_provider, client_id, access_token, refresh_token, now() + interval '1 hour'
      FROM auth_tokens`);
}

/** Returns every column of every row but the sealed texts. */
async function otherColumns(): Promise<unknown[]> {
  const texts = ['access_token', 'refresh_token', 'offline_token'];
  return Promise.all(
    TABLES.map(async (table) => {
      const rows = await database.query(`SELECT * FROM ${table} ORDER BY 1`);
      return rows.map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => !texts.includes(name))));
    }),
  );
}

async function textsOf(key: string): Promise<number[]> {
  const { keys } = await rotation.status();
  const texts = keys.find(({ id }) => id === key)?.texts;
  return TABLES.map((table) => texts?.[table] ?? 0);
}

async function openAll(app: INestApplication, count: number): Promise<void> {
  const tokens = app.get(TokenManager);
  for (let each = 0; each < count; each++) {
    await expect(tokens.getIdpToken(`user-${each}`, 'acme')).resolves.toMatchObject({ accessToken: `access-${each}` });
    await expect(tokens.loadOfflineToken(`user-${each}`)).resolves.toBe(`offline-${each}`);
  }
}

describe('TokenKeyRotation.status', () => {
  it('counts the texts of each key and of none, for every key that anything names', async () => {
    await storeRows(3);
    await after.get(TokenManager).storeIdpTokens('user-0', 'acme', { accessToken: 'a', refreshToken: null });
    await database.query(`UPDATE auth_tokens SET access_token = 'v1.gone.x' WHERE keycloak_user_id = 'user-1'`);
    await database.query(`UPDATE offline_tokens SET offline_token = $1 WHERE user_id = 'user-2'`, [
      `{"tokens": "${fernet('{}', LEGACY_SECRET)}"}`,
    ]);
    await database.query(`INSERT INTO token_keys VALUES ('past', 'x', now(), '2026-01-02T03:04:05Z')`);
    const texts = (auth: number, offline: number, revocations: number) => ({
      auth_tokens: auth,
      offline_tokens: offline,
      token_revocations: revocations,
      link_attempts: 0,
    });
    const known = { isSealing: false, isInRing: true, isRegistered: true, retiredAt: null };
    await expect(rotation.status()).resolves.toEqual({
      keys: [
        { ...known, id: 'newer', isSealing: true, texts: texts(1, 0, 0) },
        { ...known, id: 'older', texts: texts(3, 2, 6) },
        { ...known, id: 'past', isInRing: false, retiredAt: new Date('2026-01-02T03:04:05Z'), texts: texts(0, 0, 0) },
        { ...known, id: 'gone', isInRing: false, isRegistered: false, texts: texts(1, 0, 0) },
      ],
      legacyTexts: texts(0, 1, 0),
    });
  });
});

describe('A count of a whole table', () => {
  it('is not ended by the statement_timeout of the role or of the pool', async () => {
    await storeRows(1);
    await database.query(`ALTER DATABASE ${database.name} SET statement_timeout = '200ms'`);
    const limited = await open([newer, older], { isDirect: true }); // a pooler has connections with the old setting
    const holder = new pg.Client({ connectionString: database.url });
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE auth_tokens IN ACCESS EXCLUSIVE MODE');
    const counting = limited.get(TokenKeyRotation).status();
    const read = limited.get(TokenManager).getIdpToken('user-0', 'acme');
    // The limit ends a read behind the same lock.
    await expect(read).rejects.toMatchObject({ sqlState: '57014' });
    await holder.end();
    await expect(counting).resolves.toMatchObject({
      keys: [{ id: 'newer' }, { id: 'older', texts: { auth_tokens: 2 } }],
    });
    // The connection is as it was.
    const [limit] = await limited.get(DataSource).query<{ statement_timeout: string }[]>('SHOW statement_timeout');
    expect(limit).toEqual({ statement_timeout: '200ms' });
    await database.query(`ALTER DATABASE ${database.name} RESET statement_timeout`);
  });
});

describe('TokenKeyRotation.reseal', () => {
  it('seals every text anew, changes no other column, and does nothing the second time', async () => {
    await storeRows(20);
    await database.query(
      `UPDATE auth_tokens SET access_token = $1, refresh_token = $2 WHERE keycloak_user_id = 'user-3'`,
      [fernet('access-3', LEGACY_SECRET), fernet('refresh-3', LEGACY_SECRET)],
    );
    await database.query(`UPDATE auth_tokens SET refresh_token = '' WHERE keycloak_user_id = 'user-4'`);
    await database.query(`UPDATE offline_tokens SET offline_token = $1 WHERE user_id = 'user-5'`, [
      `{"more": 1, "tokens": "${fernet('{"refresh_token":"offline-5"}', LEGACY_SECRET)}"}`,
    ]);
    const alone = before.get(TokenCipher).seal('a text of the host', offlineTokenLocation('host'));
    await before.get(OfflineTokenStore).storeToken('host', alone);
    const columns = await otherColumns();

    const rows = 20 + 21 + 20;
    await expect(rotation.reseal({ batchSize: 7 })).resolves.toEqual({
      resealed: rows,
      unchanged: 0,
      unreadable: [],
      isComplete: true,
    });
    await expect(otherColumns()).resolves.toEqual(columns);
    await expect(rotation.status()).resolves.toMatchObject({
      keys: [{ id: 'newer', texts: { auth_tokens: 39, offline_tokens: 21, token_revocations: 40 } }, { id: 'older' }],
      legacyTexts: { auth_tokens: 0, offline_tokens: 0, token_revocations: 0 },
    });
    await expect(textsOf('older')).resolves.toEqual([0, 0, 0]);
    await openAll(after, 20);
    await expect(after.get(OfflineTokenStore).loadToken('user-5')).resolves.toMatch(
      /^\{"more":1,"tokens":"v1\.newer\./,
    );
    const text = (await after.get(OfflineTokenStore).loadToken('host')) ?? '';
    expect(after.get(TokenCipher).open(text, offlineTokenLocation('host'))).toBe('a text of the host');
    await expect(
      database.query('SELECT count(*)::int AS pairs FROM token_revocations WHERE next_attempt_at > now()'),
    ).resolves.toEqual([{ pairs: 20 }]);

    const writes = () =>
      Promise.all(TABLES.map((table) => database.query(`SELECT xmin, ctid FROM ${table} ORDER BY ctid`)));
    const written = await writes();
    const again = { resealed: 0, unchanged: rows, unreadable: [], isComplete: true };
    await expect(rotation.reseal()).resolves.toEqual(again);
    await expect(writes()).resolves.toEqual(written);
  });

  it('names the texts that do not open, and leaves them as they are', async () => {
    await storeRows(4);
    await database.query(`UPDATE auth_tokens SET access_token = 'v1.gone.x' WHERE keycloak_user_id = 'user-0'`);
    await database.query(`UPDATE auth_tokens SET access_token = refresh_token WHERE keycloak_user_id = 'user-1'`);
    await database.query(`UPDATE offline_tokens SET offline_token = '{"tokens": "plain"}' WHERE user_id = 'user-2'`);
    await database.query(`UPDATE token_revocations SET access_token = 'x', refresh_token = 'gAAAA_'
      WHERE keycloak_user_id = 'user-3'`);
    const ids = Object.fromEntries(
      (
        await database.query(`SELECT 'auth ' || keycloak_user_id AS user, id FROM auth_tokens
          UNION ALL SELECT 'revocation ' || keycloak_user_id, id FROM token_revocations`)
      ).map(({ user, id }) => [user as string, String(id)]),
    );
    const unreadable = { table: 'auth_tokens', idp: 'acme', column: 'access_token', keyId: null };
    const revocation = {
      ...unreadable,
      table: 'token_revocations',
      id: ids['revocation user-3'],
      keycloakUserId: 'user-3',
    };
    for (const resealed of [10, 0]) {
      await expect(rotation.reseal()).resolves.toEqual({
        resealed,
        unchanged: 10 - resealed - (resealed ? 0 : 2),
        unreadable: [
          { ...unreadable, id: ids['auth user-0'], keycloakUserId: 'user-0', keyId: 'gone' },
          { ...unreadable, id: ids['auth user-1'], keycloakUserId: 'user-1', keyId: 'older' },
          {
            table: 'offline_tokens',
            id: 'user-2',
            keycloakUserId: 'user-2',
            idp: '',
            column: 'offline_token',
            keyId: null,
          },
          revocation,
          { ...revocation, column: 'refresh_token' },
        ],
        isComplete: true,
      });
    }
    await expect(textsOf('older')).resolves.toEqual([1, 0, 0]);
    await expect(
      database.query('SELECT access_token FROM auth_tokens WHERE id = $1', [ids['auth user-0']]),
    ).resolves.toEqual([{ access_token: 'v1.gone.x' }]);
  });

  it('does each row once when two processes reseal at once', async () => {
    await storeRows(60);
    const other = await open([newer, older]);
    const both = await Promise.all(
      [rotation, other.get(TokenKeyRotation)].map((each) => each.reseal({ batchSize: 5 })),
    );
    expect(both.map(({ isComplete, unreadable }) => [isComplete, unreadable])).toEqual([
      [true, []],
      [true, []],
    ]);
    expect(both.reduce((sum, { resealed }) => sum + resealed, 0)).toBe(180);
    await expect(textsOf('newer')).resolves.toEqual([120, 60, 120]);
    await openAll(other, 60);
  });

  it('ends between two batches by its signal, and the next call does the rest', async () => {
    await storeRows(10);
    const controller = new AbortController();
    const seen: ResealProgress[] = [];
    const onProgress = (progress: ResealProgress) => {
      seen.push(progress);
      controller.abort();
    };
    await expect(rotation.reseal({ batchSize: 4, signal: controller.signal, onProgress })).resolves.toEqual({
      resealed: 4,
      unchanged: 0,
      unreadable: [],
      isComplete: false,
    });
    expect(seen).toEqual([{ table: 'auth_tokens', done: 4, estimated: null }]);
    const aborted = { resealed: 0, unchanged: 0, unreadable: [], isComplete: false };
    await expect(rotation.reseal({ signal: controller.signal })).resolves.toEqual(aborted);
    await expect(rotation.reseal()).resolves.toMatchObject({ resealed: 26, unchanged: 4, isComplete: true });
  });

  it('says how far it is, by the estimate of the server', async () => {
    await storeRows(10);
    await database.query('ANALYZE auth_tokens');
    const seen: ResealProgress[] = [];
    await rotation.reseal({ batchSize: 6, onProgress: (progress) => seen.push(progress) });
    expect(seen.filter(({ table }) => table === 'auth_tokens')).toEqual([
      { table: 'auth_tokens', done: 6, estimated: 10 },
      { table: 'auth_tokens', done: 10, estimated: 10 },
    ]);
    await database.query('TRUNCATE auth_tokens'); // the server does not know the number of rows any more
  });

  it('is not faster than it may be', async () => {
    await storeRows(10);
    const start = performance.now();
    await rotation.reseal({ batchSize: 2, maxRowsPerSecond: 40 });
    // 30 rows at 40 a second, without the pause after the last batch of each table
    expect(performance.now() - start).toBeGreaterThan(3 * (8 / 40) * 1000 - 50);
  });

  it('waits for no locked row, and does it later if the lock is released', async () => {
    await storeRows(6);
    const lock = new RowLock(database.url, ['user-2']);
    await lock.take();
    await expect(rotation.reseal()).resolves.toMatchObject({ resealed: 17, isComplete: false });
    await expect(textsOf('older')).resolves.toEqual([2, 0, 0]);
    const released = rotation.reseal({
      onProgress: ({ table }) => {
        if (table === 'auth_tokens') void lock.release();
      },
    });
    await expect(released).resolves.toMatchObject({ resealed: 1, unchanged: 17, isComplete: true });
  });

  it('replaces only the text that the row still has', async () => {
    await storeRows(2);
    const texts = after.get(SealedTextsTable, { strict: false });
    const sealer = after.get(TextSealer, { strict: false });
    const { sealedPrefix } = sealer;
    const read = await texts.page('auth_tokens', { after: null, limit: 10, sealedPrefix });
    const changes = read.flatMap((row) => sealer.seal('auth_tokens', row).toReplace ?? []);
    expect(changes).toHaveLength(2);
    // Without a refresh token, the row keeps the one that it has.
    await before.get(TokenManager).storeIdpTokens('user-0', 'acme', { accessToken: 'a later login' });
    await expect(texts.replace('auth_tokens', changes)).resolves.toEqual(new Set([changes[1]?.id]));
    const [row] = await database.query("SELECT * FROM auth_tokens WHERE keycloak_user_id = 'user-0'");
    expect(row?.access_token).toMatch(/^v1\.older\./);
    expect(row?.refresh_token).toBe(changes[0]?.newSecond);
    await expect(after.get(TokenManager).getIdpToken('user-0', 'acme')).resolves.toMatchObject({
      accessToken: 'a later login',
    });
    await expect(texts.replace('auth_tokens', changes)).resolves.toEqual(new Set());
  });

  it('loses no store and no refresh beside it', async () => {
    const users = 40;
    await storeRows(users);
    const last = new Map<string, string>();
    let isOver = false;
    const write = async (app: INestApplication, part: number): Promise<number> => {
      const tokens = app.get(TokenManager);
      for (let round = 1; ; round++) {
        await Promise.all(
          Array.from({ length: users / 2 }, async (_, each) => {
            const user = `user-${2 * each + part}`;
            const accessToken = `stored-${user}-${round}`;
            await tokens.storeIdpTokens(user, 'acme', { accessToken, refreshToken: 'r', accessTokenExpiresAt: 1 });
            const { accessToken: refreshed } = await tokens.getIdpToken(user, 'acme');
            last.set(user, refreshed);
          }),
        );
        if (isOver) return round;
      }
    };
    const writers = [write(before, 0), write(after, 1)];
    const results = [];
    for (let time = 0; time < 5; time++) results.push(await rotation.reseal({ batchSize: 10 }));
    isOver = true;
    expect(Math.min(...(await Promise.all(writers)))).toBeGreaterThan(0);
    expect(results.flatMap(({ unreadable }) => unreadable)).toEqual([]);
    await expect(rotation.reseal()).resolves.toMatchObject({ isComplete: true, unreadable: [] });
    await expect(textsOf('older')).resolves.toEqual([0, 0, 0]);
    for (const [user, accessToken] of last) {
      await expect(after.get(TokenManager).getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken });
    }
    expect(last.size).toBe(users);
  });

  it('touches nothing in a process whose first key is retired, or has another secret than the registered one', async () => {
    await storeRows(2);
    await rotation.reseal();
    await rotation.retire('older', { pauseMs: 10 });
    await expect(before.get(TokenKeyRotation).reseal()).rejects.toThrow(TokensConfigurationError);
    await expect(before.get(TokenKeyRotation).reseal()).rejects.toThrow(/key "older" is retired since .* first/);
    await database.query("UPDATE token_keys SET check_text = 'v1.newer.x' WHERE id = 'newer'");
    await expect(rotation.reseal()).rejects.toThrow(/key "newer" .* has another secret/);
    await expect(textsOf('older')).resolves.toEqual([0, 0, 0]);
  });

  it('registers the first key, if the boot did not', async () => {
    await database.query('DELETE FROM token_keys');
    await rotation.reseal();
    await expect(database.query('SELECT id FROM token_keys')).resolves.toEqual([{ id: 'newer' }]);
  });

  it('walks every row, also one whose primary key is the least value, in batches of one row', async () => {
    await storeRows(3);
    const offline = before.get(TokenCipher).seal('{"refresh_token":"t"}', offlineTokenLocation(''));
    await database.query("INSERT INTO offline_tokens (user_id, offline_token) VALUES ('', $1)", [
      JSON.stringify({ tokens: offline }),
    ]);
    await database.query("UPDATE auth_tokens SET id = -2147483648 WHERE keycloak_user_id = 'user-1'");
    await expect(rotation.reseal({ batchSize: 1 })).resolves.toEqual({
      resealed: 10,
      unchanged: 0,
      unreadable: [],
      isComplete: true,
    });
    await expect(textsOf('older')).resolves.toEqual([0, 0, 0]);
  });

  it.each([
    ['batchSize', { batchSize: 0 }],
    ['batchSize', { batchSize: 1.5 }],
    ['batchSize', { batchSize: 10_001 }],
    ['maxRowsPerSecond', { maxRowsPerSecond: 0 }],
    ['maxRowsPerSecond', { maxRowsPerSecond: NaN }],
  ])('refuses a bad %s: %j', async (name, options) => {
    await expect(rotation.reseal(options)).rejects.toThrow(InvalidTokenInputError);
    await expect(rotation.reseal(options)).rejects.toThrow(name);
  });
});

describe('What is under way during a reseal', () => {
  it('a refresh stores its pair, and the provider gets one request', async () => {
    const asked = gate();
    const answer = gate();
    endpoint.answer = async () => {
      asked.open();
      await answer.passed;
      return newPair({ access_token: 'refreshed' });
    };
    const expired = { accessToken: 'old', refreshToken: 'to-redeem', accessTokenExpiresAt: 1 };
    await before.get(TokenManager).storeIdpTokens('ada', 'acme', expired);
    const call = before.get(TokenManager).getIdpToken('ada', 'acme');
    await asked.passed;
    const [leased] = await database.query('SELECT lease_id, open_leases, token_version, updated_at FROM auth_tokens');
    expect(leased).toMatchObject({ open_leases: 1 });
    await expect(rotation.reseal()).resolves.toMatchObject({ resealed: 1, isComplete: true });
    await expect(
      database.query('SELECT lease_id, open_leases, token_version, updated_at FROM auth_tokens'),
    ).resolves.toEqual([leased]);
    answer.open();
    await expect(call).resolves.toMatchObject({ accessToken: 'refreshed' });
    await expect(after.get(TokenManager).getIdpToken('ada', 'acme')).resolves.toMatchObject({
      accessToken: 'refreshed',
    });
    expect(endpoint.redeemed).toEqual(['to-redeem']);
    // The process has the older key in first place, so the text is found by the next reseal.
    await expect(textsOf('older')).resolves.toEqual([2, 0, 0]);
  });

  it('an offline redemption stores the successor, also when tokens are single-use', async () => {
    const user = keycloak.users.ada.id;
    keycloak.revokeRefreshToken = true;
    const code = await keycloak.logIn('ada', 'openid offline_access');
    const issued = await before.get(KeycloakSessions).getKeycloakTokens(code, 'http://localhost/callback');
    await before.get(TokenManager).storeOfflineToken(user, issued?.refreshToken ?? '');
    const asked = gate();
    const answer = gate();
    keycloak.beforeRefreshing = async () => {
      keycloak.beforeRefreshing = undefined;
      asked.open();
      await answer.passed;
    };
    const call = before.get(TokenManager).validateOfflineToken(user);
    await asked.passed;
    await expect(rotation.reseal()).resolves.toMatchObject({ resealed: 1 });
    answer.open();
    await expect(call).resolves.toBe(true);
    await expect(after.get(TokenManager).validateOfflineToken(user)).resolves.toBe(true);
    keycloak.revokeRefreshToken = false;
  });

  it('a revocation ends, once', async () => {
    const asked = gate();
    let answer = (): void => undefined;
    endpoint.answerRevocation = () => (response) => {
      answer = () => response.writeHead(200).end();
      asked.open();
    };
    const tokens = before.get(TokenManager);
    await tokens.storeIdpTokens('ada', 'acme', { accessToken: 'a', refreshToken: 'to-revoke' });
    await tokens.revokeIdpTokens('ada', 'acme');
    await asked.passed;
    await expect(rotation.reseal()).resolves.toMatchObject({ resealed: 1 });
    answer();
    await until(async () => (await database.query('SELECT FROM token_revocations')).length === 0);
    expect(endpoint.revoked).toEqual(['to-revoke']);
  });

  it('a pair that waits for its revocation is revoked by a process without the older key', async () => {
    endpoint.answerRevocation = () => ({ status: 503 });
    const tokens = before.get(TokenManager);
    await tokens.storeIdpTokens('ada', 'acme', { accessToken: 'a', refreshToken: 'to-revoke' });
    await tokens.revokeIdpTokens('ada', 'acme');
    await until(
      async () => (await database.query('SELECT FROM token_revocations WHERE last_error_code IS NOT NULL')).length > 0,
    );
    await rotation.reseal();
    await rotation.retire('older', { pauseMs: 10 });
    endpoint.answerRevocation = () => ({ status: 200 });
    endpoint.revoked.length = 0;
    await database.query('UPDATE token_revocations SET next_attempt_at = now()');
    (await open([newer])).get(TokenRevoker, { strict: false }).wake();
    await until(async () => (await database.query('SELECT FROM token_revocations')).length === 0);
    expect(endpoint.revoked).toEqual(['to-revoke']);
  });

  it('a handle of the host replaces the offline token that it has loaded, and not another one', async () => {
    const store = before.get(OfflineTokenStore);
    const seal = (token: string) =>
      JSON.stringify({
        tokens: before.get(TokenCipher).seal(JSON.stringify({ refresh_token: token }), offlineTokenLocation('ada')),
      });
    await store.storeToken('ada', seal('loaded'));
    const loaded = (await store.loadToken('ada')) ?? '';
    await rotation.reseal();
    await expect(after.get(OfflineTokenStore).replaceToken('ada', loaded, seal('successor'))).resolves.toBe(true);
    await expect(after.get(OfflineTokenStore).replaceToken('ada', loaded, seal('late'))).resolves.toBe(false);
    await rotation.reseal();
    await expect(after.get(OfflineTokenStore).replaceToken('ada', loaded, seal('late'))).resolves.toBe(false);
    await expect(after.get(TokenManager).loadOfflineToken('ada')).resolves.toBe('successor');
  });
});

describe('TokenKeyRotation.retire', () => {
  const NOW = { pauseMs: 10 };

  async function retiredAt(key: string): Promise<unknown> {
    const [row] = await database.query('SELECT retired_at FROM token_keys WHERE id = $1', [key]);
    return row?.retired_at;
  }

  it.each([
    ['the key that seals', 'newer', /is the first of encryption\.keys, so it seals\. Put another key first/],
    ['a legacy key', 'legacy', /is a legacyFernetSecret\. .* Call reseal\(\)/],
    ['a key that nothing names', 'unknown', /No encryption key has the id "unknown".*: newer, older\.$/],
  ])('refuses %s', async (_, key, message) => {
    await expect(rotation.retire(key, NOW)).rejects.toThrow(TokensUsageError);
    await expect(rotation.retire(key, NOW)).rejects.toThrow(message);
    await expect(retiredAt(key)).resolves.toBeFalsy();
  });

  it('refuses a key that texts name, with their number in each table, and what to run', async () => {
    await storeRows(2);
    await database.query('DELETE FROM offline_tokens');
    const start = performance.now();
    const error = await rotation.retire('older').catch((refusal: unknown) => refusal);
    expect(performance.now() - start).toBeLessThan(10_000); // before the pause
    expect(error).toBeInstanceOf(KeyInUseError);
    expect(error).toMatchObject({
      keyId: 'older',
      texts: { auth_tokens: 4, offline_tokens: 0, token_revocations: 4 },
      message: expect.stringMatching(/name it: 4 of auth_tokens, 4 of token_revocations\. Call reseal\(\)/) as unknown,
    });
    await expect(retiredAt('older')).resolves.toBeNull();
  });

  it('retires a key after a reseal: processes boot without it, and none has it in first place', async () => {
    await storeRows(5);
    await rotation.reseal();
    await rotation.retire('older', NOW);
    await expect(retiredAt('older')).resolves.toEqual(expect.any(Date));
    await expect(rotation.retire('older', NOW)).rejects.toThrow(/is retired already, since 2\d{3}-/);
    await openAll(await open([newer]), 5);
    await expect(open([older, newer])).rejects.toThrow(/key "older" is retired since .* Put another key first/);
  });

  it('registers a key that sealed before there was a registry as retired', async () => {
    await database.query("DELETE FROM token_keys WHERE id = 'older'");
    await rotation.retire('older', NOW);
    await expect(retiredAt('older')).resolves.toEqual(expect.any(Date));
    await expect(open([{ ...older, secret: newKey() }, newer])).rejects.toThrow(/another secret.*\n.*is retired since/);
  });

  it('takes longer than a statement can live', async () => {
    const quick = (await open([newer, older], { connectionTimeoutMs: 100 })).get(TokenKeyRotation);
    const start = performance.now();
    await quick.retire('older');
    expect(performance.now() - start).toBeGreaterThan(1190);
  });

  it('sees what a transaction had written before, however late it commits', async () => {
    const commit = gate();
    const written = gate();
    const transaction = before.get(QueryRunnerScope).run(async () => {
      await before.get(TokenManager).storeIdpTokens('ada', 'acme', { accessToken: 'late' });
      written.open();
      await commit.passed;
    });
    await written.passed;
    const retiring = rotation.retire('older', { pauseMs: 2000 }).catch((refusal: unknown) => refusal);
    await until(async () => {
      const looked = await database.query(`SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%held.virtualtransaction%'`);
      return looked.length > 0;
    }).finally(async () => {
      commit.open();
      await transaction;
    });
    await expect(retiring).resolves.toMatchObject({ name: 'KeyInUseError', texts: { auth_tokens: 1 } });
    await expect(retiredAt('older')).resolves.toBeNull();
  });

  it('waits for a statement that waits behind a lock on its table', async () => {
    const holder = new pg.Client({ connectionString: database.url });
    await holder.connect();
    await holder.query('BEGIN; LOCK TABLE token_revocations IN SHARE MODE');
    const writer = new pg.Client({ connectionString: database.url });
    await writer.connect();
    const writing = writer.query('DELETE FROM token_revocations');
    const isWaiting = async (): Promise<boolean> =>
      (await database.query('SELECT FROM pg_locks WHERE NOT granted AND locktype = $1', ['relation'])).length > 0;
    await until(isWaiting);
    const error = await rotation.retire('older', { pauseMs: 50 }).catch((refusal: unknown) => refusal);
    await holder.end();
    await writing;
    await writer.end();
    expect(error).toMatchObject({
      name: 'KeyInUseError',
      message: expect.stringMatching(/has written tokens or waits to do so, has been open since/) as unknown,
    });
    await rotation.retire('older', NOW);
  });

  it('refuses while a transaction that has written stays open, and says since when', async () => {
    const commit = gate();
    const written = gate();
    const transaction = before.get(QueryRunnerScope).run(async () => {
      await before.get(AuthTokenStore).deleteTokens({ keycloakUserId: 'nobody', idp: 'acme' });
      written.open();
      await commit.passed;
    });
    await written.passed;
    const error = await rotation.retire('older', { pauseMs: 50 }).catch((refusal: unknown) => refusal);
    commit.open();
    await transaction;
    expect(error).toMatchObject({
      name: 'KeyInUseError',
      message: expect.stringMatching(
        /server process \d+ has written tokens or waits to do so, has been open since 2\d{3}-/,
      ) as unknown,
    });
    await rotation.retire('older', NOW);
  });

  it('loses nothing that a process writes with a retired key: status finds it, and a reseal moves it', async () => {
    await rotation.retire('older', NOW);
    await before.get(TokenManager).storeIdpTokens('ada', 'acme', { accessToken: 'late' });
    const { keys } = await rotation.status();
    expect(keys.find(({ id }) => id === 'older')).toMatchObject({
      retiredAt: expect.any(Date) as unknown,
      texts: { auth_tokens: 1 },
    });
    await rotation.reseal();
    await expect((await open([newer])).get(TokenManager).getIdpToken('ada', 'acme')).resolves.toMatchObject({
      accessToken: 'late',
    });
  });

  it('does not call a retired key done while a text names it', async () => {
    await rotation.retire('older', NOW);
    await before.get(TokenManager).storeIdpTokens('ada', 'acme', { accessToken: 'late' });
    await expect(rotation.retire('older', NOW)).rejects.toThrow(KeyInUseError);
    await rotation.reseal();
    await expect(rotation.retire('older', NOW)).rejects.toThrow(/is retired already, .* Remove it/);
  });

  it.each([-1, NaN])('refuses a bad pause: %p', async (pauseMs) => {
    await expect(rotation.retire('older', { pauseMs })).rejects.toThrow(/pauseMs must be a number of milliseconds/);
  });
});
