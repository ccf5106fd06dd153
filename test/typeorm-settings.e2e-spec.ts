import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { type DynamicModule, type INestApplicationContext, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { getDataSourceToken, TypeOrmModule, type TypeOrmModuleOptions } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';

import {
  runTokenMigrations,
  TokenManager,
  tokensEntities,
  tokensMigrations,
  TokensConfigurationError,
  TokensModule,
  type TokensModuleOptions,
  TokensNotFoundError,
} from '../src/index.js';
import { createLegacyTables, legacyRows } from './support/legacy-tables.js';
import { createTestDatabase, openDataSource, type TestDatabase } from './support/test-database.js';
import { closeUnbooted, TEST_KEY } from './support/tokens-app.js';

const NAMES = tokensMigrations.map(({ name }) => name);

let database: TestDatabase;
let opened: { close(): Promise<void> }[];

beforeEach(async () => {
  database = await createTestDatabase({ empty: true });
  opened = [];
});

afterEach(async () => {
  for (const each of opened) await each.close();
  await database.drop();
});

function tokensOptions(): TokensModuleOptions {
  return {
    encryption: { keys: [TEST_KEY] },
    identityProviders: { github: { clientId: 'c', clientSecret: 's' } },
  };
}

function postgres(options: Partial<TypeOrmModuleOptions> = {}): TypeOrmModuleOptions {
  return { type: 'postgres', url: database.url, retryAttempts: 0, ...options } as TypeOrmModuleOptions;
}

async function boot(...imports: DynamicModule[]): Promise<INestApplicationContext> {
  const testing = await Test.createTestingModule({ imports }).compile();
  testing.useLogger(false);
  try {
    await testing.init();
  } catch (error) {
    await closeUnbooted(testing);
    throw error;
  }
  opened.push(testing);
  return testing;
}

async function open(options: Parameters<typeof openDataSource>[1]): Promise<DataSource> {
  const source = await openDataSource(database.url, options);
  opened.push({ close: () => source.destroy() });
  return source;
}

/** Stores a token, and gets it. */
async function expectToWork(app: INestApplicationContext): Promise<void> {
  const tokens = app.get(TokenManager, { strict: false });
  await tokens.storeIdpTokens('ada', 'github', { accessToken: 'an access token' });
  await expect(tokens.getIdpToken('ada', 'github')).resolves.toMatchObject({ accessToken: 'an access token' });
}

describe('autoLoadEntities', () => {
  it.each<[string, Partial<TypeOrmModuleOptions>, () => DynamicModule]>([
    ['forRoot', {}, () => TokensModule.forRoot(tokensOptions())],
    ['forRootAsync', {}, () => TokensModule.forRootAsync({ useFactory: tokensOptions })],
    [
      'forRoot with a named data source',
      { name: 'auto-1' },
      () => TokensModule.forRoot({ ...tokensOptions(), dataSource: 'auto-1' }),
    ],
    [
      'forRootAsync with a named data source',
      { name: 'auto-2' },
      () => TokensModule.forRootAsync({ useFactory: tokensOptions, dataSource: 'auto-2' }),
    ],
    ['the entities in the list as well', { entities: tokensEntities }, () => TokensModule.forRoot(tokensOptions())],
  ])('finds the entities of the module: %s', async (_, { name, ...options }, tokensModule) => {
    const source = TypeOrmModule.forRoot({ ...postgres({ ...options, autoLoadEntities: true }), name });
    for (const imports of [
      [source, tokensModule()],
      [tokensModule(), source],
    ]) {
      const app = await boot(...imports);
      await runTokenMigrations(app.get<DataSource>(getDataSourceToken(name)));
      await expectToWork(app);
    }
  });

  it('false, without the list: the boot says what to add', async () => {
    const source = new DataSource({ type: 'postgres', url: database.url, entities: [] });
    const host = TypeOrmModule.forRootAsync({
      useFactory: () => postgres(),
      dataSourceFactory: () => Promise.resolve(source),
    });
    const error: unknown = await boot(host, TokensModule.forRoot(tokensOptions())).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TokensConfigurationError);
    expect((error as Error).message).toMatch(
      /Add \.\.\.tokensEntities to the entities of its options, or set autoLoadEntities: true in TypeOrmModule/,
    );
  });

  it('does not ask for a data source that every module can see', async () => {
    const source = await open({});
    @Module({ providers: [{ provide: DataSource, useValue: source }], exports: [DataSource] })
    class DatabaseModule {}
    const app = await boot(TokensModule.forRootAsync({ imports: [DatabaseModule], useFactory: tokensOptions }));
    await runTokenMigrations(source);
    await expectToWork(app);
  });
});

/** Everything that PostgreSQL stores about the tables and the indexes, also where it stores their rows. */
async function catalog(): Promise<unknown> {
  return [
    await database.query(`SELECT oid, relname, relfilenode, reloptions FROM pg_class
      WHERE relnamespace = 'public'::regnamespace ORDER BY oid`),
    await database.query(`SELECT attrelid, attnum, attname, atttypid, atttypmod, attisdropped FROM pg_attribute
      JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2`),
    await database.query(`SELECT oid, conname, pg_get_constraintdef(oid) FROM pg_constraint
      WHERE connamespace = 'public'::regnamespace ORDER BY oid`),
  ];
}

describe('synchronize', () => {
  it('before the migrations: they take the tables over, and a later boot changes nothing', async () => {
    const start = () =>
      boot(
        TypeOrmModule.forRoot(postgres({ autoLoadEntities: true, synchronize: true })),
        TokensModule.forRoot(tokensOptions()),
      );
    const first = await start();
    await expectToWork(first);
    const rows = await database.query('SELECT * FROM auth_tokens');
    await expect(runTokenMigrations(first.get(DataSource))).resolves.toEqual(NAMES);
    await expect(database.query('SELECT * FROM auth_tokens')).resolves.toEqual(rows);
    const migrated = await catalog();
    expect(JSON.stringify(migrated)).toContain('fillfactor=80');
    const second = await start();
    await expect(runTokenMigrations(second.get(DataSource))).resolves.toEqual([]);
    await expect(catalog()).resolves.toEqual(migrated);
    await expect(database.query('SELECT * FROM auth_tokens')).resolves.toEqual(rows);
  });

  it('after the migrations: it changes no table, no index and no row', async () => {
    await createLegacyTables(database);
    await runTokenMigrations(await open({}));
    const migrated = [await catalog(), await legacyRows(database)];
    await open({ synchronize: true });
    expect([await catalog(), await legacyRows(database)]).toEqual(migrated);
  });

  it('together with migrationsRun: TypeORM migrates first, and synchronize changes nothing then', async () => {
    await createLegacyTables(database);
    const rows = await legacyRows(database);
    await open({ migrations: tokensMigrations, migrationsRun: true, synchronize: true });
    const migrated = await catalog();
    await expect(legacyRows(database)).resolves.toEqual(rows);
    await expect(runTokenMigrations(await open({}))).resolves.toEqual([]);
    await expect(catalog()).resolves.toEqual(migrated);
  });

  it('of adopted tables with columns of another type fails before the migrations, and works after them', async () => {
    await createLegacyTables(database);
    await database.query('ALTER TABLE auth_tokens ALTER access_token TYPE varchar(2000)');
    const rows = await legacyRows(database);
    await expect(open({ synchronize: true })).rejects.toThrow(/contains null values/);
    await expect(legacyRows(database)).resolves.toEqual(rows);
    await runTokenMigrations(await open({}));
    await open({ synchronize: true });
    await expect(legacyRows(database)).resolves.toEqual(rows);
  });
});

describe('a schema', () => {
  it('that does not exist is named with the statement that creates it, and the module works in it then', async () => {
    const options = postgres({ autoLoadEntities: true, schema: 'My tokens' });
    const app = await boot(TypeOrmModule.forRoot(options), TokensModule.forRoot(tokensOptions()));
    const source = app.get(DataSource);
    const error: unknown = await runTokenMigrations(source).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TokensConfigurationError);
    const { message } = error as TokensConfigurationError;
    expect(message).toMatch(/^The schema "My tokens" of the data source does not exist/);
    await database.query(/CREATE SCHEMA "[^"]+"/.exec(message)?.[0] ?? '');
    await expect(runTokenMigrations(source)).resolves.toEqual(NAMES);
    await expectToWork(app);
  });
});

describe('a schema that is not in the search_path', () => {
  it('has the tables, and the module works in it', async () => {
    await database.query('CREATE SCHEMA tokens');
    const options = postgres({ autoLoadEntities: true, schema: 'tokens' });
    const app = await boot(TypeOrmModule.forRoot(options), TokensModule.forRoot(tokensOptions()));
    await runTokenMigrations(app.get(DataSource));
    await expectToWork(app);
    await expect(database.query('SELECT keycloak_user_id FROM tokens.auth_tokens')).resolves.toHaveLength(1);
    const outside = await database.query("SELECT to_regclass('public.auth_tokens') AS outside");
    expect(outside).toEqual([{ outside: null }]);
  });
});

describe('a user with the rights that the guide names', () => {
  it('can do everything but migrate', async () => {
    await database.query('CREATE SCHEMA tokens');
    await runTokenMigrations(await open({ schema: 'tokens' }));
    const role = database.name.replace('idp_tokens_test', 'restricted');
    await database.query(`CREATE ROLE ${role} LOGIN PASSWORD 'password'; GRANT USAGE ON SCHEMA tokens TO ${role};
      GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tokens TO ${role}`);
    const url = new URL(database.url);
    [url.username, url.password] = [role, 'password'];
    const restricted = postgres({ autoLoadEntities: true, url: url.href, schema: 'tokens' });
    const app = await boot(TypeOrmModule.forRoot(restricted), TokensModule.forRoot(tokensOptions()));
    await expectToWork(app);
    await expect(runTokenMigrations(app.get(DataSource))).resolves.toEqual([]);
    await database.query('DELETE FROM tokens.migrations');
    await expect(runTokenMigrations(app.get(DataSource))).rejects.toMatchObject({
      retryable: false,
      sqlState: '42501',
      message: expect.stringMatching(/Run them as a user that owns the tables.*The server says: permission denied for/),
    });
    await app.get(TokenManager).revokeIdpTokens('ada', 'github');
    await expect(app.get(TokenManager).getIdpToken('ada', 'github')).rejects.toThrow(TokensNotFoundError);
    await app.get(TokenManager).storeOfflineToken('ada', 'an offline token');
    await app.close();
    opened.pop();
    await database.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });
});

describe('a search_path without a schema', () => {
  it('is a fault of the configuration', async () => {
    // Directly, because a pooler refuses a connection with such options.
    const source = await open({ url: database.url, extra: { options: '-c search_path=nowhere' } });
    const error: unknown = await runTokenMigrations(source).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TokensConfigurationError);
    expect((error as Error).message).toMatch(/No schema of the search_path exists/);
  });
});
