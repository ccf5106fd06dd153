import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { type INestApplication, Logger } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { PoolClient } from 'pg';
import { DataSource, EventSubscriber, SimpleConsoleLogger } from 'typeorm';
import type { PostgresDataSourceOptions } from 'typeorm/driver/postgres/PostgresDataSourceOptions.js';

import {
  AuthTokenStore,
  QueryRunnerScope,
  runTokenMigrations,
  TokenManager,
  tokensEntities,
  TokensModule,
  TokenStoreUnavailableError,
} from '../src/index.js';
import { DatabaseProxy } from './support/database-proxy.js';
import { everythingPrinted } from './support/secrets.js';
import { connectionsInUse, createTestDatabase, openDataSource, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { closeUnbooted, TEST_KEY } from './support/tokens-app.js';
import { until } from './support/until.js';

/** What the code of the host throws at each of these moments. */
const faults: Partial<Record<'connect' | 'begin' | 'commit' | 'query', Error>> = {};

@EventSubscriber()
class HostSubscriber {
  beforeTransactionStart(): void {
    if (faults.begin) throw faults.begin;
  }

  beforeTransactionCommit(): void {
    if (faults.commit) throw faults.commit;
  }
}

class HostLogger extends SimpleConsoleLogger {
  override logQuery(): void {
    if (faults.query) throw faults.query;
  }
}

let database: TestDatabase;
let endpoint: TokenEndpoint;
let app: INestApplication;
let dataSource: DataSource;
let tokens: TokenManager;
let store: AuthTokenStore;
let scope: QueryRunnerScope;

const KEY = { keycloakUserId: 'ada', idp: 'acme' };
const PAIR = { accessToken: 'secret-access', refreshToken: 'secret-refresh' };

/** Boots an application whose pool makes a new connection for every use and asks the host about it. */
async function boot(source: Partial<PostgresDataSourceOptions> = { url: database.url }): Promise<INestApplication> {
  const verify = (_client: PoolClient, done: (error?: Error) => void) => {
    done(faults.connect);
  };
  const testing = await Test.createTestingModule({
    imports: [
      TypeOrmModule.forRoot({
        type: 'postgres',
        ...source,
        entities: tokensEntities,
        subscribers: [HostSubscriber],
        extra: { verify, maxUses: 1 },
        retryAttempts: 0,
      }),
      TokensModule.forRoot({
        encryption: { keys: [TEST_KEY] },
        identityProviders: { acme: { clientId: 'c', clientSecret: 's', tokenEndpoint: endpoint.url } },
      }),
    ],
  }).compile();
  testing.useLogger(false);
  return testing.createNestApplication().init();
}

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  app = await boot();
  dataSource = app.get(DataSource);
  tokens = app.get(TokenManager);
  store = app.get(AuthTokenStore);
  scope = app.get(QueryRunnerScope);
  await tokens.storeIdpTokens('ada', 'acme', PAIR);
});

afterEach(async () => {
  for (const moment of Object.keys(faults) as (keyof typeof faults)[]) faults[moment] = undefined;
  jest.restoreAllMocks();
  if (dataSource.isInitialized) await until(() => connectionsInUse(dataSource) === 0);
});

afterAll(async () => {
  await app.close();
  await endpoint.close();
  await database.drop();
});

const kinds: [string, () => Error][] = [
  ['a plain Error', () => new Error('a fault of the host')],
  ['a TypeError', () => new TypeError('a fault of the host')],
  [
    'a file that is missing',
    () => Object.assign(new Error('no file'), { code: 'ENOENT', syscall: 'open', path: '/p' }),
  ],
];

describe.each(kinds)('a fault of the code of the host, %s', (_, newFault) => {
  it('comes out of every call as it is, when a connection is made', async () => {
    const fault = (faults.connect = newFault());
    const calls = [
      () => tokens.getIdpToken('ada', 'acme'),
      () => tokens.storeIdpTokens('ada', 'acme', PAIR),
      () => tokens.revokeIdpTokens('ada', 'acme'),
      () => scope.run(() => store.loadTokens(KEY)),
      () => scope.run(() => store.loadTokens(KEY), { lazy: true }),
    ];
    for (const call of calls) await expect(call()).rejects.toBe(fault);
    const shared = await Promise.allSettled(Array.from({ length: 8 }, () => store.loadTokens(KEY)));
    expect(shared).toEqual(Array(8).fill({ status: 'rejected', reason: fault }));
    faults.connect = undefined;
    await expect(tokens.getIdpToken('ada', 'acme')).resolves.toMatchObject({ accessToken: 'secret-access' });
  });

  it('comes out of run as it is, when its transaction begins, and the work does not run', async () => {
    const fault = (faults.begin = newFault());
    const work = jest.fn(() => Promise.resolve());
    await expect(scope.run(work)).rejects.toBe(fault);
    expect(work).not.toHaveBeenCalled();
    await expect(scope.run(() => tokens.storeIdpTokens('ada', 'acme', PAIR), { lazy: true })).rejects.toBe(fault);
  });

  it('comes out of run as it is, when its transaction commits, and nothing is stored', async () => {
    const fault = (faults.commit = newFault());
    const run = scope.run(() => tokens.storeIdpTokens('grace', 'acme', PAIR));
    await expect(run).rejects.toBe(fault);
    await expect(store.loadTokens({ ...KEY, keycloakUserId: 'grace' })).resolves.toBeNull();
  });

  it('comes out of runTokenMigrations as it is, nothing is left, and the next run applies all', async () => {
    const empty = await createTestDatabase({ empty: true });
    const host = await openDataSource(empty.url, { logger: new HostLogger(true) });
    const fault = (faults.query = newFault());
    await expect(runTokenMigrations(host)).rejects.toBe(fault);
    expect(connectionsInUse(host)).toBe(0);
    faults.query = undefined;
    await expect(runTokenMigrations(host)).resolves.toHaveLength(2);
    await host.destroy();
    await empty.drop();
  });

  it('loses no refreshed pair, and the log has its stack', async () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    await tokens.storeIdpTokens('ada', 'acme', { ...PAIR, accessTokenExpiresAt: 1 });
    const fault = newFault();
    endpoint.answer = () => {
      faults.connect = fault;
      return newPair({ access_token: 'refreshed' });
    };
    const refreshed = tokens.getIdpToken('ada', 'acme');
    await until(() => warn.mock.calls.length > 0);
    faults.connect = undefined;
    await expect(refreshed).resolves.toMatchObject({ accessToken: 'refreshed' });
    expect(warn.mock.calls.flat().join()).toContain(`are not stored yet (try 1): ${fault.stack ?? ''}`);
    expect(endpoint.redeemed).toHaveLength(1);
    endpoint.redeemed.length = 0;
    await tokens.storeIdpTokens('ada', 'acme', PAIR);
  });
});

describe('a data source with another user or schema', () => {
  async function refusalOf(other: DataSource): Promise<unknown> {
    const testing = await Test.createTestingModule({
      imports: [
        TypeOrmModule.forRootAsync({ useFactory: () => ({}), dataSourceFactory: () => Promise.resolve(other) }),
        TokensModule.forRoot({ encryption: { keys: [TEST_KEY] }, identityProviders: {} }),
      ],
    }).compile();
    testing.useLogger(false);
    try {
      await testing.init();
    } catch (error) {
      await closeUnbooted(testing);
      return error;
    }
    const refusal: unknown = await testing
      .get(AuthTokenStore)
      .loadTokens(KEY)
      .catch((error: unknown) => error);
    await testing.close();
    return refusal;
  }

  it.each([
    ['without the tables', { schema: 'elsewhere' }, '42P01', /A table is missing.*has another schema or search_path/],
    ['without rights', { username: 'i5_stranger' }, '42501', /Grant the database user USAGE on the schema/],
  ])('%s is refused with what to do, and no second try helps', async (_, options, sqlState, message) => {
    await database.query('CREATE SCHEMA IF NOT EXISTS elsewhere');
    await database.query(`DO $$ BEGIN CREATE ROLE i5_stranger LOGIN PASSWORD 'secret-password';
      EXCEPTION WHEN duplicate_object THEN NULL; END $$`);
    const url = new URL(database.url);
    if ('username' in options) [url.username, url.password] = [options.username, 'secret-password'];
    const schema = 'schema' in options ? options.schema : undefined;
    // Directly, because a pooler does not know the new user.
    const other = await openDataSource(url.href, { url: url.href, ...(schema === undefined ? {} : { schema }) });
    const error = await refusalOf(other);
    await database.query('DROP ROLE i5_stranger');
    expect(error).toBeInstanceOf(TokenStoreUnavailableError);
    expect(error).toMatchObject({ retryable: false, sqlState, message: expect.stringMatching(message) as unknown });
    expect(everythingPrinted(error)).not.toMatch(/secret-|SELECT access/);
  });
});

describe('a password function of the host that fails', () => {
  it('is named, has the error of the host as its cause, and a second try may help', async () => {
    const proxy = new DatabaseProxy(database.url); // pg does not close the connection, so the proxy must
    const { hostname: host, port, username, password, pathname } = new URL(await proxy.open());
    let sealed: Error | undefined;
    const other = await boot({
      ...{ host, port: Number(port), username, database: pathname.slice(1) },
      password: () => (sealed ? Promise.reject(sealed) : Promise.resolve(decodeURIComponent(password))),
    });
    try {
      const manager = other.get(TokenManager);
      await manager.storeIdpTokens('grace', 'acme', PAIR);
      sealed = new Error('the vault is sealed');
      const failure: unknown = await manager.getIdpToken('grace', 'acme').catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(TokenStoreUnavailableError);
      expect(failure).toMatchObject({ retryable: true, cause: sealed });
      expect(String(failure)).toContain(
        'because a function of the host failed while a connection was made: the password function of the data source, or ' +
          "the pool's `verify`. Its error is the cause.",
      );
      sealed = undefined;
      await expect(manager.getIdpToken('grace', 'acme')).resolves.toMatchObject({ accessToken: PAIR.accessToken });
    } finally {
      await other.close();
      await proxy.close();
    }
  });
});

describe('a data source that the host destroyed', () => {
  it('is named by every call, and another process may serve the request', async () => {
    await dataSource.destroy();
    const calls = [
      () => tokens.getIdpToken('ada', 'acme'),
      () => tokens.storeIdpTokens('ada', 'acme', PAIR),
      () => scope.run(() => store.loadTokens(KEY)),
      () => scope.run(() => store.loadTokens(KEY), { lazy: true }),
    ];
    for (const call of calls) {
      const error: unknown = await call().catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(TokenStoreUnavailableError);
      expect(error).toMatchObject({
        retryable: true,
        message: expect.stringContaining('The data source is not open, so the module could not') as unknown,
      });
    }
  });
});
