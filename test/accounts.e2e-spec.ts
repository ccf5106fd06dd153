import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { DataSource } from 'typeorm';

import {
  runTokenMigrations,
  TokenKeyRotation,
  TokenManager,
  type TokensModuleOptions,
  tokensMigrations,
} from '../src/index.js';
import type { Statement } from '../src/postgres/statement.js';
import { authTokensLookups } from '../src/storage/auth-tokens/auth-tokens-lookup.statements.js';
import { createLegacyTables, legacyRows } from './support/legacy-tables.js';
import { createTestDatabase, openDataSource, type TestDatabase } from './support/test-database.js';
import { startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp, newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

const LEGACY_INDEX = 'idx_auth_tokens_keycloak_user_identity_provider';

let database: TestDatabase;
let dataSource: DataSource;

beforeEach(async () => {
  database = await createTestDatabase({ empty: true });
  dataSource = await openDataSource(database.url, { migrations: tokensMigrations });
});

afterEach(async () => {
  jest.restoreAllMocks();
  await dataSource.destroy();
  await database.drop();
});

async function indexes(): Promise<unknown[]> {
  const rows = await database.query("SELECT indexname FROM pg_indexes WHERE tablename = 'auth_tokens' ORDER BY 1");
  return rows.map(({ indexname }) => indexname);
}

async function drift(): Promise<unknown[]> {
  return (await dataSource.driver.createSchemaBuilder().log()).upQueries;
}

/** Inserts a pair as the adopted system does. */
function insertLegacy(user: string, accessToken: string): Promise<unknown> {
  return database.query(
    `INSERT INTO auth_tokens (keycloak_user_id, identity_provider, access_token, refresh_token, access_token_expires_at,
       refresh_token_expires_at) VALUES ($1, 'acme', $2, '', 0, 0)`,
    [user, accessToken],
  );
}

async function undoAll(): Promise<void> {
  for (let left = tokensMigrations.length; left > 0; left--) await dataSource.undoLastMigration();
}

/** Returns the error of the revert. It mutes the console, because TypeORM also reports the error there. */
async function refusal(): Promise<unknown> {
  jest.spyOn(console, 'log').mockImplementation(() => undefined);
  return undoAll().catch((error: unknown) => error);
}

describe('the statements of the adopted system', () => {
  it('work beside the module, which sees their rows as default accounts with unknown scopes', async () => {
    await createLegacyTables(database);
    await runTokenMigrations(dataSource);
    const find = () =>
      database.query(
        'SELECT id, access_token FROM auth_tokens WHERE keycloak_user_id = $1 AND identity_provider = $2',
        ['ada', 'acme'],
      );
    await expect(find()).resolves.toEqual([]);
    await insertLegacy('ada', 'inserted');
    const [row] = await find();
    expect(row).toMatchObject({ access_token: 'inserted' });
    await database.query('UPDATE auth_tokens SET access_token = $2 WHERE id = $1', [row?.id, 'updated']);
    await expect(find()).resolves.toEqual([{ id: row?.id, access_token: 'updated' }]);
    await expect(
      database.query("SELECT account, scopes FROM auth_tokens WHERE keycloak_user_id = 'ada'"),
    ).resolves.toEqual([{ account: '', scopes: null }]);
    await expect(insertLegacy('ada', 'twice')).rejects.toThrow(`${LEGACY_INDEX}_account`);
  });
});

describe('the migrations', () => {
  it('replace the unique index of an adopted table, and give it back when they are reverted', async () => {
    await createLegacyTables(database);
    const before = await legacyRows(database);
    await runTokenMigrations(dataSource);
    await expect(indexes()).resolves.toEqual([
      'auth_tokens_pkey',
      'idx_auth_tokens_keycloak_user_id',
      `${LEGACY_INDEX}_account`,
    ]);
    await undoAll();
    await expect(indexes()).resolves.toEqual(['auth_tokens_pkey', 'idx_auth_tokens_keycloak_user_id', LEGACY_INDEX]);
    await expect(legacyRows(database)).resolves.toEqual(before);
    await runTokenMigrations(dataSource);
    await expect(drift()).resolves.toEqual([]);
  });

  it('replace it also if a unique constraint has it', async () => {
    await createLegacyTables(database);
    await database.query(`ALTER TABLE auth_tokens ADD CONSTRAINT ${LEGACY_INDEX} UNIQUE USING INDEX ${LEGACY_INDEX}`);
    await runTokenMigrations(dataSource);
    await expect(indexes()).resolves.not.toContain(LEGACY_INDEX);
    await expect(drift()).resolves.toEqual([]);
  });

  it('are not reverted while rows name an account, and nothing is changed', async () => {
    await runTokenMigrations(dataSource);
    await insertLegacy('ada', 'default');
    await insertLegacy('grace', 'named');
    await database.query("UPDATE auth_tokens SET account = 'work' WHERE keycloak_user_id = 'grace'");
    await expect(refusal()).resolves.toMatchObject({
      code: 'ERR_TOKENS_CONFIGURATION',
      message: expect.stringMatching(/is not reverted, because 1 rows of "public"\."auth_tokens" name an account/),
    });
    await expect(drift()).resolves.toEqual([]);
    await database.query("DELETE FROM auth_tokens WHERE account = 'work'");
    await undoAll();
    await expect(indexes()).resolves.toContain(LEGACY_INDEX);
  });

  it('find a table in place that TypeORM synchronised and that has two accounts of a user', async () => {
    await dataSource.synchronize();
    await insertLegacy('ada', 'default');
    await database.query("UPDATE auth_tokens SET account = 'work'");
    await insertLegacy('ada', 'default');
    await expect(runTokenMigrations(dataSource)).resolves.toHaveLength(tokensMigrations.length);
    await expect(drift()).resolves.toEqual([]);
  });
});

describe('a lookup', () => {
  it('of a key is one look into the unique index, and so is the list of accounts', async () => {
    await createLegacyTables(database);
    await runTokenMigrations(dataSource);
    await database.query('ANALYZE auth_tokens');
    const { accessTokens, rows, accounts } = authTokensLookups('auth_tokens');
    const plan = async (statement: Statement<never, unknown>, ...values: unknown[]) => {
      const explained = await database.query(`EXPLAIN ${statement.text}`, values);
      return explained.map((line) => line['QUERY PLAN']).join('\n');
    };
    const ofKey =
      /Index Scan using \S+_account on auth_tokens[^]*Index Cond: [^\n]*keycloak_user_id[^\n]*identity_provider[^\n]*account[^\n]*\n/;
    await expect(plan(accessTokens.one, 'user-7', 'github', '')).resolves.toMatch(ofKey);
    await expect(plan(rows.one, 'user-7', 'github', '')).resolves.toMatch(
      /Index Scan using \S+_account on auth_tokens/,
    );
    // By users alone, because the planner expects one provider of each.
    await expect(plan(accessTokens.ofOneIdp, ['user-7', 'user-8'], 'github', '')).resolves.not.toContain('Seq Scan');
    await expect(plan(accounts, 'user-7', 'github')).resolves.toMatch(/Index (Only )?Scan using \S+ on auth_tokens/);
  });
});

describe('several accounts in PostgreSQL', () => {
  const older = { id: 'older', secret: newKey() };
  const newer = { id: 'newer', secret: newKey(), algorithm: 'aes-256-gcm' as const };
  let endpoint: TokenEndpoint;

  beforeEach(async () => {
    endpoint = await startTokenEndpoint();
    await runTokenMigrations(dataSource);
  });

  afterEach(async () => {
    await endpoint.close();
  });

  const open = (options: Partial<TokensModuleOptions> = {}, isDirect = false) =>
    createTokensApp({
      databaseUrl: database.url,
      isDirect,
      options: {
        identityProviders: {
          acme: { clientId: 'client', clientSecret: 'secret', tokenEndpoint: endpoint.url },
        },
        ...options,
      },
    });

  it('are sealed for their account, and a text of another account does not open', async () => {
    const { app } = await open();
    const manager = app.get(TokenManager);
    for (const account of ['', 'work']) {
      await manager.storeIdpTokens('ada', 'acme', { accessToken: `of ${account}` }, { account });
    }
    await database.query(`UPDATE auth_tokens AS stored SET access_token = other.access_token FROM auth_tokens AS other
      WHERE stored.account = '' AND other.account = 'work'`);
    await expect(manager.getIdpToken('ada', 'acme', { account: 'work' })).resolves.toMatchObject({
      accessToken: 'of work',
    });
    await expect(manager.getIdpToken('ada', 'acme')).rejects.toMatchObject({ code: 'ERR_TOKENS_DECRYPTION' });
    await app.close();
  });

  it('move to another key, those that are still to be revoked too', async () => {
    const revocable = {
      clientId: 'client',
      clientSecret: 'secret',
      tokenEndpoint: endpoint.url,
      revocationEndpoint: `${endpoint.url}/revoke`,
    };
    endpoint.answerRevocation = () => ({ status: 503 });
    const { app: before } = await open({ encryption: { keys: [older] }, identityProviders: { acme: revocable } });
    const stored = before.get(TokenManager);
    for (const account of ['', 'work', 'old']) {
      await stored.storeIdpTokens('ada', 'acme', { accessToken: `of ${account}`, refreshToken: account }, { account });
    }
    await stored.revokeIdpTokens('ada', 'acme', { account: 'old' });
    await before.close();
    const { app } = await open({ encryption: { keys: [newer, older] } });
    const rotation = app.get(TokenKeyRotation);
    await expect(rotation.reseal()).resolves.toMatchObject({ resealed: 3, unreadable: [], isComplete: true });
    await rotation.retire('older', { pauseMs: 1 });
    await app.close();
    const { app: after } = await open({ encryption: { keys: [newer] }, identityProviders: { acme: revocable } });
    for (const account of ['', 'work']) {
      await expect(after.get(TokenManager).getIdpToken('ada', 'acme', { account })).resolves.toMatchObject({
        accessToken: `of ${account}`,
      });
    }
    await database.query("UPDATE auth_tokens SET access_token = 'v1.older.x' WHERE account = 'work'");
    await expect(after.get(TokenKeyRotation).reseal()).resolves.toMatchObject({
      unreadable: [{ keycloakUserId: 'ada', idp: 'acme', account: 'work', column: 'access_token', keyId: 'older' }],
    });
    await after.close();
  });

  it('are written in heap-only updates, also if a refresh narrows the scopes', async () => {
    endpoint.answer = () => ({ body: { access_token: 'new', refresh_token: 'r', expires_in: 3600, scope: 'user' } });
    const { app } = await open({}, true); // the connections of a pooler live on
    const manager = app.get(TokenManager);
    const pair = { accessToken: 'old', refreshToken: 'r', accessTokenExpiresAt: 1, scopes: 'repo user' };
    await manager.storeIdpTokens('ada', 'acme', pair, { account: 'work' });
    const updates = async () => {
      await database.query('SELECT pg_stat_clear_snapshot()');
      const [counted] = await database.query(
        "SELECT pg_stat_get_tuples_updated(oid)::int AS all, pg_stat_get_tuples_hot_updated(oid)::int AS hot FROM pg_class WHERE relname = 'auth_tokens'",
      );
      return counted;
    };
    await manager.getIdpToken('ada', 'acme', { account: 'work', scopes: ['user'] });
    await expect(database.query('SELECT account, scopes FROM auth_tokens')).resolves.toEqual([
      { account: 'work', scopes: 'user' },
    ]);
    await app.close(); // the statistics of a connection arrive after its end
    await until(async () => Number((await updates())?.all) >= 2);
    await expect(updates()).resolves.toEqual({ all: 2, hot: 2 });
  });

  it('cost a caller that names the default account one statement, and others a list only if there is none', async () => {
    const { app, dataSource: source } = await open();
    const manager = app.get(TokenManager);
    await manager.storeIdpTokens('ada', 'acme', { accessToken: 'default' });
    await manager.storeIdpTokens('ada', 'acme', { accessToken: 'work' }, { account: 'work' });
    await manager.storeIdpTokens('grace', 'acme', { accessToken: 'work' }, { account: 'work' });
    const pool = (
      source.driver as unknown as { master: { on(event: string, listener: (client: unknown) => void): void } }
    ).master;
    const names: string[] = [];
    pool.on('acquire', (client) => {
      const queried = client as { query: (...args: unknown[]) => unknown; isWatched?: boolean };
      if (queried.isWatched) return;
      queried.isWatched = true;
      const query = queried.query.bind(client);
      queried.query = (...args) => {
        const [config] = args as [{ name?: string; text?: string }];
        const text = config.text ?? '';
        if (text.includes('auth_tokens')) names.push(text.startsWith('SELECT stored.account ') ? 'accounts' : 'lookup');
        return query(...args);
      };
    });
    await manager.getIdpToken('ada', 'acme');
    await manager.getIdpToken('ada', 'acme', { account: 'work' });
    expect(names.splice(0)).toEqual(['lookup', 'lookup']);
    await manager.getIdpToken('grace', 'acme');
    expect(names.splice(0)).toEqual(['lookup', 'lookup', 'accounts', 'lookup']);
    await manager.getIdpToken('nobody', 'acme', { account: 'work' }).catch(() => undefined);
    expect(names).toEqual(['lookup', 'lookup']);
    await app.close();
  });
});
