import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { DataSource } from 'typeorm';

import { runTokenMigrations, tokensMigrations } from '../src/index.js';
import { createLegacyTables, legacyRows } from './support/legacy-tables.js';
import { connectionsInUse, createTestDatabase, openDataSource, type TestDatabase } from './support/test-database.js';
import { until } from './support/until.js';

const NAMES = tokensMigrations.map(({ name }) => name);

let database: TestDatabase;
let dataSource: DataSource;

beforeEach(async () => {
  database = await createTestDatabase({ empty: true });
  dataSource = await openDataSource(database.url, { migrations: tokensMigrations });
});

afterEach(async () => {
  await until(() => connectionsInUse(dataSource) === 0);
  await dataSource.destroy();
  await database.drop();
});

async function undoAll(): Promise<void> {
  for (let left = NAMES.length; left > 0; left--) await dataSource.undoLastMigration();
}

describe('runTokenMigrations', () => {
  it('applies every migration of the module once and says which', async () => {
    await expect(runTokenMigrations(dataSource)).resolves.toEqual(NAMES);
    await expect(runTokenMigrations(dataSource)).resolves.toEqual([]);
  });

  it('applies all or nothing', async () => {
    // This constraint has the name that one of the last statements needs for its primary key.
    await database.query('CREATE TABLE other (id integer CONSTRAINT token_revocations_pkey PRIMARY KEY)');
    const log = jest.spyOn(console, 'log').mockImplementation(() => undefined); // TypeORM also reports the error there
    await expect(runTokenMigrations(dataSource)).rejects.toThrow(/SQLSTATE 42P07.*token_revocations_pkey/);
    log.mockRestore();
    await expect(database.query("SELECT to_regclass('auth_tokens') AS found")).resolves.toEqual([{ found: null }]);
  });

  it('leaves the migrations of the host alone', async () => {
    class HostMigration1700000000000 {
      up(): Promise<void> {
        return Promise.reject(new Error('not to be run here'));
      }
      down(): Promise<void> {
        return Promise.reject(new Error('not to be run here'));
      }
    }
    const host = await openDataSource(database.url, { migrations: [HostMigration1700000000000] });
    await expect(runTokenMigrations(host)).resolves.toEqual(NAMES);
    await host.destroy();
  });

  it('records what it applied in the migrations table of the data source', async () => {
    await database.query('CREATE SCHEMA tokens');
    const named = { schema: 'tokens', entityPrefix: 'app_', migrationsTableName: 'applied' };
    const host = await openDataSource(database.url, named);
    await runTokenMigrations(host);
    await expect(runTokenMigrations(host)).resolves.toEqual([]);
    await host.destroy();
    await expect(database.query('SELECT id, "timestamp", name FROM tokens.applied ORDER BY id')).resolves.toEqual(
      NAMES.map((name, position) => ({ id: position + 1, timestamp: name.slice(-13), name })),
    );
  });

  it('puts the tables into the schema of the data source, where the stores find them', async () => {
    await database.query('CREATE SCHEMA tokens');
    const inSchema = await openDataSource(database.url, { schema: 'tokens' });
    await runTokenMigrations(inSchema);
    await inSchema.destroy();
    const [found] = await database.query(`SELECT to_regclass('tokens.auth_tokens')::text AS inside,
      to_regclass('public.auth_tokens')::text AS outside`);
    expect(found).toEqual({ inside: 'tokens.auth_tokens', outside: null });
  });

  it('gives the tables the prefix of the data source', async () => {
    const prefixed = await openDataSource(database.url, { entityPrefix: 'app_' });
    await runTokenMigrations(prefixed);
    const { upQueries } = await prefixed.driver.createSchemaBuilder().log();
    expect(upQueries).toEqual([]);
    await prefixed.destroy();
    const [found] = await database.query(`SELECT to_regclass('app_auth_tokens') IS NOT NULL AS prefixed,
      to_regclass('auth_tokens') AS plain`);
    expect(found).toEqual({ prefixed: true, plain: null });
  });

  it('says that a data source is not initialised, and what the server says when it refuses', async () => {
    const closed = new DataSource({ type: 'postgres', url: database.url });
    await expect(runTokenMigrations(closed)).rejects.toThrow(/not initialised. Await dataSource.initialize/);
  });
});

describe('the migrations', () => {
  it('revert on populated tables without losing a token, and apply again', async () => {
    await createLegacyTables(database);
    await runTokenMigrations(dataSource);
    const before = await legacyRows(database);
    await undoAll();
    await expect(legacyRows(database)).resolves.toEqual(before);
    const columns = await database.query(
      "SELECT column_name FROM information_schema.columns WHERE table_name = 'auth_tokens'",
    );
    expect(columns).toHaveLength(7);

    await expect(runTokenMigrations(dataSource)).resolves.toEqual(NAMES);
    await expect(legacyRows(database)).resolves.toEqual(before);
  });

  it('leave an adopted table where it was when they are reverted, also an empty one', async () => {
    await createLegacyTables(database);
    await database.query('DELETE FROM offline_tokens');
    await runTokenMigrations(dataSource);
    await undoAll();
    const [found] = await database.query(`SELECT to_regclass('auth_tokens')::text AS auth_tokens,
      to_regclass('offline_tokens')::text AS offline_tokens`);
    expect(found).toEqual({ auth_tokens: 'auth_tokens', offline_tokens: 'offline_tokens' });
  });

  it('keep what is still to be revoked when they are reverted, and take it up when they are applied again', async () => {
    await runTokenMigrations(dataSource);
    await database.query(
      `INSERT INTO token_revocations (keycloak_user_id, identity_provider, access_token, refresh_token)
         VALUES ('ada', 'github', 'a', 'r')`,
    );
    await undoAll();
    await expect(runTokenMigrations(dataSource)).resolves.toEqual(NAMES);
    await expect(database.query('SELECT refresh_token FROM token_revocations')).resolves.toEqual([
      { refresh_token: 'r' },
    ]);
  });

  it('keep the notes of disconnected accounts when they are reverted, and use them when they are applied again', async () => {
    await runTokenMigrations(dataSource);
    await database.query(
      `INSERT INTO disconnected_accounts (keycloak_user_id, identity_provider) VALUES ('ada', 'acme')`,
    );
    await undoAll();
    await expect(runTokenMigrations(dataSource)).resolves.toEqual(NAMES);
    await expect(database.query('SELECT identity_provider AS idp FROM disconnected_accounts')).resolves.toEqual([
      { idp: 'acme' },
    ]);
  });

  it('revert to an empty database when no token is stored', async () => {
    await runTokenMigrations(dataSource);
    await database.query(
      `INSERT INTO link_attempts (state_hash, keycloak_user_id, identity_provider, scopes, code_verifier, expires_at)
         VALUES ('h', 'ada', 'github', '', 'v', now())`,
    );
    await undoAll();
    const tables = await database.query(
      "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
    );
    expect(tables.map(({ table_name }) => table_name)).toEqual(['migrations']);
  });

  it('lead to the schema of the entities', async () => {
    await runTokenMigrations(dataSource);
    const { upQueries } = await dataSource.driver.createSchemaBuilder().log();
    expect(upQueries).toEqual([]);
  });

  it('name every constraint and index by hand and leave room for heap-only updates', async () => {
    await runTokenMigrations(dataSource);
    const indexes = await database.query(`SELECT indexname FROM pg_indexes WHERE schemaname = 'public'
      AND tablename <> 'migrations' ORDER BY 1`);
    expect(indexes.map(({ indexname }) => indexname)).toEqual([
      'auth_tokens_pkey',
      'disconnected_accounts_pkey',
      'idx_auth_tokens_keycloak_user_id',
      'idx_auth_tokens_keycloak_user_identity_provider_account',
      'idx_link_attempts_expires_at',
      'idx_link_attempts_keycloak_user_id',
      'idx_token_revocations_next_attempt_at',
      'link_attempts_pkey',
      'offline_tokens_pkey',
      'token_keys_pkey',
      'token_revocations_pkey',
    ]);
    const options = await database.query(`SELECT relname, reloptions FROM pg_class
      WHERE relname IN ('auth_tokens', 'offline_tokens') ORDER BY 1`);
    expect(options).toEqual([
      { relname: 'auth_tokens', reloptions: ['fillfactor=80'] },
      { relname: 'offline_tokens', reloptions: ['fillfactor=80'] },
    ]);
  });

  it.each([
    ['status', 'other'],
    ['failure_kind', 'other'],
  ])('check the %s of both token tables', async (column, value) => {
    await runTokenMigrations(dataSource);
    await expect(
      database.query(
        `INSERT INTO auth_tokens (keycloak_user_id, identity_provider, access_token, refresh_token,
          access_token_expires_at, refresh_token_expires_at, ${column}) VALUES ('u', 'i', 'a', 'r', 0, 0, $1)`,
        [value],
      ),
    ).rejects.toThrow(`auth_tokens_${column}_check`);
    await expect(
      database.query(`INSERT INTO offline_tokens (user_id, offline_token, ${column}) VALUES ('u', 't', $1)`, [value]),
    ).rejects.toThrow(`offline_tokens_${column}_check`);
  });
});

describe('ormconfig.ts', () => {
  it('serves migration:run, show, revert and generate of the TypeORM command line', async () => {
    const typeorm = async (...args: string[]) => {
      const env = { ...process.env, DATABASE_URL: database.url, NODE_OPTIONS: '--import tsx' };
      const cli = ['node_modules/typeorm/cli.js', ...args, '-d', 'ormconfig.ts'];
      const { stdout } = await promisify(execFile)(process.execPath, cli, { env });
      return stdout;
    };
    await expect(typeorm('migration:run')).resolves.toContain('AddRefreshState1763942400001 has been');
    await expect(typeorm('migration:show')).resolves.toMatch(/\[X\] 2 AddRefreshState1763942400001/);
    await expect(typeorm('migration:generate', 'unused', '--check')).resolves.toContain(
      'No changes in database schema',
    );
    await expect(runTokenMigrations(dataSource)).resolves.toEqual([]);
    await expect(typeorm('migration:revert')).resolves.toContain('AddRefreshState1763942400001 has been');
    await expect(typeorm('migration:show')).resolves.toMatch(/\[ \] AddRefreshState1763942400001/);
    await expect(runTokenMigrations(dataSource)).resolves.toEqual(['AddRefreshState1763942400001']);
    await expect(typeorm('migration:show')).resolves.toMatch(/\[X\] 3 AddRefreshState1763942400001/);
  });
});
