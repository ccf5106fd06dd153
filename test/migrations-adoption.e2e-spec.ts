import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { DataSource } from 'typeorm';

import { AuthTokenStore, runTokenMigrations, TokensConfigurationError, tokensMigrations } from '../src/index.js';
import { createLegacyTables, legacyRows } from './support/legacy-tables.js';
import { connectionsInUse, createTestDatabase, openDataSource, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const NAMES = tokensMigrations.map(({ name }) => name);

let database: TestDatabase;
let dataSource: DataSource;

beforeEach(async () => {
  database = await createTestDatabase({ empty: true });
  dataSource = await openDataSource(database.url, { migrations: tokensMigrations });
});

afterEach(async () => {
  jest.restoreAllMocks();
  await until(() => connectionsInUse(dataSource) === 0);
  await dataSource.destroy();
  await database.drop();
});

async function drift(): Promise<unknown[]> {
  const { upQueries } = await dataSource.driver.createSchemaBuilder().log();
  return upQueries;
}

async function typeOf(table: string, column: string): Promise<unknown> {
  const [found] = await database.query(
    'SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2',
    [table, column],
  );
  return found?.type;
}

/** Records each table that PostgreSQL rewrites from now on. */
async function logRewrites(): Promise<() => Promise<unknown[]>> {
  await database.query('CREATE TABLE rewrites (name text)');
  await database.query(`CREATE FUNCTION log_rewrite() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO rewrites VALUES (pg_event_trigger_table_rewrite_oid()::regclass::text); END $$`);
  await database.query('CREATE EVENT TRIGGER log_rewrite ON table_rewrite EXECUTE FUNCTION log_rewrite()');
  return async () => (await database.query('SELECT name FROM rewrites ORDER BY 1')).map(({ name }) => name);
}

/** Returns the error of the migrations. It mutes the console, because TypeORM also reports the error there. */
async function refusal(): Promise<unknown> {
  jest.spyOn(console, 'log').mockImplementation(() => undefined);
  return runTokenMigrations(dataSource).catch((error: unknown) => error);
}

describe('adoption', () => {
  it('keeps the rows, which load afterwards, and gives each row a version of its own', async () => {
    await createLegacyTables(database);
    const before = await legacyRows(database);
    await runTokenMigrations(dataSource);
    await expect(legacyRows(database)).resolves.toEqual(before);
    await expect(drift()).resolves.toEqual([]);

    const [versions] = await database.query(`SELECT count(DISTINCT token_version)::int AS distinct,
      min(token_version) >= 0 AS positive, bool_and(status = 'active') AS active FROM auth_tokens`);
    expect(versions).toEqual({ distinct: 500, positive: true, active: true });

    const { app } = await createTokensApp({ databaseUrl: database.url });
    await expect(
      app.get(AuthTokenStore).loadTokens({ keycloakUserId: 'user-7', idp: 'github' }),
    ).resolves.toMatchObject({ accessToken: 'access-7', refreshToken: 'refresh-7', accessTokenExpiresAt: 1790000007 });
    await app.close();
  });

  it('widens limited columns and rewrites each table once', async () => {
    await createLegacyTables(database);
    const before = await legacyRows(database);
    await database.query(`ALTER TABLE auth_tokens ALTER access_token TYPE varchar(2500),
      ALTER refresh_token TYPE varchar(2500), ALTER keycloak_user_id TYPE varchar(36),
      ALTER identity_provider TYPE varchar(32)`);
    await database.query(`ALTER TABLE offline_tokens ALTER offline_token TYPE varchar(4000),
      ALTER user_id TYPE varchar(36)`);
    const rewrites = await logRewrites();
    await runTokenMigrations(dataSource);
    await expect(rewrites()).resolves.toEqual(['auth_tokens', 'offline_tokens']);
    await expect(drift()).resolves.toEqual([]);
    await expect(legacyRows(database)).resolves.toEqual(before);
    const long = 'x'.repeat(9000);
    await database.query('UPDATE auth_tokens SET access_token = $1, refresh_token = $1', [long]);
    await database.query('UPDATE offline_tokens SET offline_token = $1', [long]);
  });

  it('takes the padding of char(n) away', async () => {
    await createLegacyTables(database);
    const before = await legacyRows(database);
    await database.query('ALTER TABLE offline_tokens ALTER offline_token TYPE char(200), ALTER user_id TYPE char(36)');
    await runTokenMigrations(dataSource);
    await expect(legacyRows(database)).resolves.toEqual(before);
    await expect(drift()).resolves.toEqual([]);
  });

  it('leaves text as it is', async () => {
    await createLegacyTables(database);
    await database.query('ALTER TABLE auth_tokens ALTER access_token TYPE text, ALTER keycloak_user_id TYPE text');
    await database.query('ALTER TABLE offline_tokens ALTER offline_token TYPE text');
    await runTokenMigrations(dataSource);
    await expect(typeOf('auth_tokens', 'access_token')).resolves.toBe('text');
    await expect(typeOf('auth_tokens', 'keycloak_user_id')).resolves.toBe('text');
    await expect(typeOf('offline_tokens', 'offline_token')).resolves.toBe('text');
  });

  it('refuses a table of the same name that is another one, and changes nothing', async () => {
    await database.query('CREATE TABLE auth_tokens (id uuid PRIMARY KEY, token text NOT NULL)');
    await database.query('CREATE VIEW offline_tokens AS SELECT 1 AS user_id');
    const error = await refusal();
    expect(error).toBeInstanceOf(TokensConfigurationError);
    expect(error).toMatchObject({
      message: expect.stringMatching(
        /"auth_tokens", column "id": found uuid NOT NULL, wanted integer[^]*"access_token": found nothing, wanted character varying NOT NULL[^]*"offline_tokens": found a view/,
      ),
    });
    await expect(database.query("SELECT to_regclass('migrations') AS found")).resolves.toEqual([{ found: null }]);
  });

  it('refuses an index name that another table uses', async () => {
    await database.query('CREATE TABLE other (id integer)');
    await database.query('CREATE INDEX idx_token_revocations_next_attempt_at ON other (id)');
    await expect(refusal()).resolves.toMatchObject({
      code: 'ERR_TOKENS_CONFIGURATION',
      message: expect.stringContaining('index "idx_token_revocations_next_attempt_at": found CREATE INDEX'),
    });
  });
});

describe('after synchronize', () => {
  it('the migrations find all in place, are recorded, and lead to the schema of the entities', async () => {
    await dataSource.synchronize();
    await database.query(`INSERT INTO offline_tokens (user_id, offline_token) VALUES ('u', 't')`);
    const rewrites = await logRewrites();
    await expect(runTokenMigrations(dataSource)).resolves.toEqual(NAMES);
    await expect(runTokenMigrations(dataSource)).resolves.toEqual([]);
    await expect(rewrites()).resolves.toEqual([]);
    await expect(drift()).resolves.toEqual([]);
  });

  it('the migrations add the parts that are missing', async () => {
    await dataSource.synchronize();
    await database.query('ALTER TABLE auth_tokens DROP COLUMN retry_at, DROP COLUMN token_version');
    await database.query('ALTER TABLE offline_tokens DROP CONSTRAINT offline_tokens_failure_kind_check');
    await database.query('ALTER TABLE token_revocations DROP COLUMN client_id');
    await database.query('DROP INDEX idx_token_revocations_next_attempt_at, idx_auth_tokens_keycloak_user_id');
    await runTokenMigrations(dataSource);
    await expect(drift()).resolves.toEqual([]);
  });

  it('the migrations complete the outbox that TypeORM created alone', async () => {
    await dataSource.synchronize();
    await database.query('DROP TABLE auth_tokens, offline_tokens');
    await runTokenMigrations(dataSource);
    await expect(drift()).resolves.toEqual([]);
  });
});

describe('columns of the host in the way', () => {
  it('are all named in one error, and nothing is changed', async () => {
    await createLegacyTables(database);
    await database.query('ALTER TABLE auth_tokens ADD status integer, ADD lease_id text, ADD retry_at timestamptz');
    await database.query(`ALTER TABLE offline_tokens ADD failure_count smallint,
      ADD client_id varchar GENERATED ALWAYS AS ('x') STORED`);
    const shape = () =>
      database.query(`SELECT attrelid::regclass::text, attname FROM pg_attribute
      JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace ORDER BY 1, attnum`);
    const before = await shape();
    const error = await refusal();
    expect(error).toBeInstanceOf(TokensConfigurationError);
    const { message } = error as TokensConfigurationError;
    expect(message.split('\n').slice(1)).toEqual([
      `- table "public"."auth_tokens", column "lease_id": found text, wanted bigint`,
      `- table "public"."auth_tokens", column "status": found integer, wanted character varying NOT NULL DEFAULT 'active'::character varying`,
      `- table "public"."offline_tokens", column "client_id": found character varying GENERATED ALWAYS AS 'x'::character varying, wanted character varying`,
      `- table "public"."offline_tokens", column "failure_count": found smallint, wanted smallint NOT NULL DEFAULT 0`,
      expect.stringMatching(/^Rename or drop .* run the migrations again\.$/),
    ]);
    await expect(shape()).resolves.toEqual(before);

    await database.query('ALTER TABLE auth_tokens DROP status, DROP lease_id');
    await database.query('ALTER TABLE offline_tokens DROP failure_count, DROP client_id');
    await expect(runTokenMigrations(dataSource)).resolves.toEqual(NAMES);
    await expect(drift()).resolves.toEqual([]);
  });

  it('that are as wanted serve, and stay when the migrations are reverted', async () => {
    await createLegacyTables(database);
    await database.query('ALTER TABLE auth_tokens ADD created_at timestamptz NOT NULL DEFAULT now()');
    await database.query(`UPDATE auth_tokens SET created_at = '2020-01-01T00:00:00Z'`);
    for (let round = 0; round < 2; round++) {
      await runTokenMigrations(dataSource);
      await expect(drift()).resolves.toEqual([]);
      for (let left = NAMES.length; left > 0; left--) await dataSource.undoLastMigration();
    }
    const columns = await database.query(`SELECT column_name FROM information_schema.columns
      WHERE table_name = 'auth_tokens' ORDER BY ordinal_position`);
    expect(columns).toHaveLength(8);
    await expect(database.query('SELECT min(created_at), max(created_at) FROM auth_tokens')).resolves.toEqual([
      { min: new Date('2020-01-01T00:00:00Z'), max: new Date('2020-01-01T00:00:00Z') },
    ]);
  });
});
