import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { type INestApplication, Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import { AuthTokenStore, OfflineTokenStore, QueryRunnerScope, TokenManager } from '../src/index.js';
import { DatabaseProxy } from './support/database-proxy.js';
import { connectionsInUse, createTestDatabase, poolOf, type TestDatabase } from './support/test-database.js';
import { PAIR } from './support/token-statements.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const USERS = Array.from({ length: 200 }, (_, each) => `user-${each}`);
const key = { keycloakUserId: 'user-0', idp: 'acme' };
const options = {
  identityProviders: { acme: { clientId: 'c', clientSecret: 's', tokenEndpoint: 'http://127.0.0.1:9/token' } },
  connectionTimeoutMs: 5000,
};

let database: TestDatabase;
let proxy: DatabaseProxy;
let app: INestApplication;
let dataSource: DataSource;
let store: AuthTokenStore;
let tokens: TokenManager;
let warnings: string[] = [];

beforeAll(async () => {
  jest.spyOn(Logger.prototype, 'warn').mockImplementation((message: unknown) => {
    if (/prepared/i.test(String(message))) warnings.push(String(message));
  });
  database = await createTestDatabase();
  await database.query('CREATE TABLE writes (keycloak_user_id text)');
  await database.query(`CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO writes VALUES (NEW.keycloak_user_id); RETURN NEW; END'`);
  await database.query(`CREATE TRIGGER noted AFTER INSERT OR UPDATE ON auth_tokens FOR EACH ROW
    EXECUTE FUNCTION note_write()`);
  proxy = new DatabaseProxy(database.url);
  ({ app, dataSource } = await createTokensApp({ databaseUrl: await proxy.open(), poolSize: 8, options }));
  store = app.get(AuthTokenStore);
  tokens = app.get(TokenManager);
  for (const user of USERS) await tokens.storeIdpTokens(user, 'acme', { accessToken: `access of ${user}` });
});

afterEach(async () => {
  warnings = [];
  await until(() => connectionsInUse(dataSource) === 0);
});

afterAll(async () => {
  await app.close();
  await proxy.close();
  await database.drop();
  jest.restoreAllMocks();
});

async function read(user: string): Promise<void> {
  const { accessToken } = await tokens.getIdpToken(user, 'acme');
  if (accessToken !== `access of ${user}`) throw new Error(`Got ${accessToken}`);
}

/** Opens every connection of the pool, and prepares the lookups of a token on each. */
async function fillPool(source = dataSource, from = app): Promise<void> {
  const pool = poolOf(source);
  const size = pool.options.max;
  const scope = from.get(QueryRunnerScope);
  const prepare = () => {
    let arrived = 0;
    return Array.from({ length: size }, () =>
      scope.run(async () => {
        arrived++;
        await until(() => arrived === size);
        await from.get(TokenManager).getIdpToken('user-0', 'acme');
        await from.get(AuthTokenStore).loadTokens(key);
      }),
    );
  };
  await Promise.allSettled(prepare()); // fails once for each plan that no longer fits
  await Promise.all(prepare());
}

async function onEveryConnection(sql: string): Promise<void> {
  const pool = poolOf(dataSource);
  const clients = await Promise.all(Array.from({ length: pool.options.max }, () => pool.connect()));
  await Promise.all(clients.map((client) => client.query(sql)));
  for (const client of clients) client.release();
}

function failuresOf(results: PromiseSettledResult<unknown>[]): unknown[] {
  return results.flatMap((result) => (result.status === 'rejected' ? [String(result.reason)] : []));
}

/** Makes a hundred reads, of which some share statements and some do not, and returns the failures. */
async function failuresOfHundredReads(): Promise<unknown[]> {
  const reads = USERS.slice(0, 100).map(async (user, each) => {
    for (let turn = 0; turn < each % 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    await (each % 2 ? read(user) : store.loadTokens({ keycloakUserId: user, idp: 'acme' }));
  });
  return failuresOf(await Promise.allSettled(reads));
}

describe('reads', () => {
  it.each([1, 2, 4])(
    'all succeed, 200 of 200, while the open connections are reset under them, %i times',
    async (times) => {
      await fillPool();
      const reads = USERS.map(async (user, each) => {
        for (let turn = 0; turn < each / 5; turn++) await new Promise((resolve) => setImmediate(resolve));
        if (each % (200 / times) === 100 / times) proxy.reset();
        await read(user);
      });
      expect(failuresOf(await Promise.allSettled(reads))).toEqual([]);
    },
  );

  it('succeed right after all connections of the pool were terminated, in each of 50 rounds', async () => {
    const failures: unknown[] = [];
    for (let round = 0; round < 50; round++) {
      await fillPool();
      await database.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
      );
      failures.push(...failuresOf(await Promise.allSettled([read('user-0'), store.loadTokens(key)])));
    }
    expect(failures).toEqual([]);
  });

  it('are repeated when their answer is lost', async () => {
    await fillPool();
    proxy.loseAnswers();
    await expect(read('user-1')).resolves.toBeUndefined();
  });

  it.each(['text', 'varchar'])('all succeed after the column has become %s', async (type) => {
    await fillPool();
    await database.query(`ALTER TABLE auth_tokens ALTER COLUMN access_token TYPE ${type}`);
    await expect(failuresOfHundredReads()).resolves.toEqual([]);
  });

  it('in a transaction fail at most once after the table has changed, and say that they may be repeated', async () => {
    for (const type of ['text', 'varchar']) {
      await fillPool();
      await database.query(`ALTER TABLE auth_tokens ALTER COLUMN access_token TYPE ${type}`);
      const inScope = () => app.get(QueryRunnerScope).run(() => read('user-0'));
      await inScope().catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE', sqlState: '0A000', retryable: true });
      });
      await expect(Promise.all(Array.from({ length: 8 }, inScope))).resolves.toHaveLength(8);
    }
  });

  it('all succeed after the host has deallocated what was prepared on each connection', async () => {
    await fillPool();
    await onEveryConnection('DEALLOCATE ALL');
    await expect(failuresOfHundredReads()).resolves.toEqual([]);
  });
});

describe('a store', () => {
  it('is not repeated when its answer is lost: its caller gets the typed error', async () => {
    await fillPool();
    proxy.loseAnswers();
    const stored = store.storeTokens({ keycloakUserId: 'lost', idp: 'acme' }, PAIR);
    await expect(stored).rejects.toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE', retryable: true });
    proxy.reset();
    await expect(database.query("SELECT FROM writes WHERE keycloak_user_id = 'lost'")).resolves.toHaveLength(1);
  });

  it('is repeated when the server had lost its plan, because it did nothing', async () => {
    const stored = { keycloakUserId: 'planned', idp: 'acme' };
    await store.storeTokens(stored, PAIR);
    await onEveryConnection('DEALLOCATE ALL');
    await expect(store.storeTokens(stored, PAIR)).resolves.toBeUndefined();
    await expect(database.query("SELECT FROM writes WHERE keycloak_user_id = 'planned'")).resolves.toHaveLength(2);
  });
});

describe('prepared statements', () => {
  /**
   * Starts an application with a pool of this size. While `loses` returns true, each connection loses its prepared
   * statements before it is used.
   */
  async function startApp(poolSize: number, loses: () => boolean) {
    const started = await createTokensApp({ databaseUrl: database.url, isDirect: true, poolSize, options });
    const pool = poolOf(started.dataSource);
    pool.on('acquire', (client) => {
      if (loses()) void client.query('DEALLOCATE ALL');
    });
    return started;
  }

  it.each([1, 4])(
    'are given up with one warning behind a pooler that loses them, at pool size %i',
    async (poolSize) => {
      const pooled = await startApp(poolSize, () => true);
      const manager = pooled.app.get(AuthTokenStore);
      const offline = pooled.app.get(OfflineTokenStore);
      for (let round = 0; round < 10; round++) {
        await expect(manager.loadTokens(key)).resolves.not.toBeNull();
        await expect(manager.storeTokens({ ...key, keycloakUserId: 'pooled' }, PAIR)).resolves.toBeUndefined();
        await expect(offline.loadToken('nobody')).resolves.toBeNull();
      }
      expect(warnings).toEqual([expect.stringMatching(/Set preparedStatements to false/)]);
      const prepared = 'SELECT name FROM pg_prepared_statements';
      await expect(pooled.dataSource.query(prepared)).resolves.toEqual([]);
      await pooled.app.close();
    },
  );

  it('stay when the host deallocates all of them once, however many there are', async () => {
    let loses = false;
    const host = await startApp(1, () => loses);
    const authTokens = host.app.get(AuthTokenStore);
    const offline = host.app.get(OfflineTokenStore);
    const useAll = async () => {
      await authTokens.storeTokens({ ...key, keycloakUserId: 'stays' }, PAIR);
      await authTokens.loadTokens({ ...key, keycloakUserId: 'stays' });
      await authTokens.deleteTokens({ ...key, keycloakUserId: 'stays' });
      await offline.storeToken('stays', 'offline');
      await offline.loadToken('stays');
      await offline.deleteToken('stays');
    };
    await useAll();
    loses = true;
    await host.dataSource.query('SELECT 1');
    loses = false;
    await useAll();
    expect(warnings).toEqual([]);
    const prepared = 'SELECT name FROM pg_prepared_statements';
    await expect(host.dataSource.query(prepared)).resolves.toHaveLength(6);
    await host.app.close();
  });
});
