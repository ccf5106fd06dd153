import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource, QueryRunner } from 'typeorm';

import { AuthTokenStore, QueryRunnerScope, StoredOfflineToken } from '../src/index.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { PAIR } from './support/token-statements.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const LAZY = { lazy: true };
const POOL_SIZE = 3;

let database: TestDatabase;
let app: INestApplication;
let dataSource: DataSource;
let scope: QueryRunnerScope;
let store: AuthTokenStore;

beforeAll(async () => {
  database = await createTestDatabase();
  await database.query('CREATE TABLE host_things (name text)');
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: database.url,
    poolSize: POOL_SIZE,
    options: { connectionTimeoutMs: 300 },
  }));
  scope = app.get(QueryRunnerScope);
  store = app.get(AuthTokenStore);
});

let user = '';
let users = 0;

beforeEach(() => {
  user = `user-${++users}`;
});

afterEach(async () => {
  await expectCleanPool();
});

afterAll(async () => {
  await app.close();
  await database.drop();
});

async function expectCleanPool(): Promise<void> {
  await until(() => connectionsInUse(dataSource) === 0);
  const open = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
  await expect(database.query(open)).resolves.toEqual([]);
}

function storeTokens(): Promise<void> {
  return store.storeTokens({ keycloakUserId: user, idp: 'acme' }, PAIR);
}

/** Counts the committed token pairs of the user of this test, and the committed things of the host. */
async function committed(): Promise<{ tokens: unknown; things: unknown }> {
  const [found] = await database.query(
    `SELECT (SELECT count(*)::int FROM auth_tokens WHERE keycloak_user_id = $1) AS tokens,
       (SELECT count(*)::int FROM host_things WHERE name = $1)
         + (SELECT count(*)::int FROM offline_tokens WHERE user_id = $1) AS things`,
    [user],
  );
  return { tokens: found?.tokens, things: found?.things };
}

function insert(runner: Pick<QueryRunner, 'query'>): Promise<unknown> {
  return runner.query('INSERT INTO host_things VALUES ($1)', [user]);
}

/** Every way in which a host can write one thing with the runner that it gets. */
const uses: [string, (runner: QueryRunner) => Promise<unknown>][] = [
  ['runner.query', (runner) => insert(runner)],
  ['manager.query', (runner) => runner.manager.query('INSERT INTO host_things VALUES ($1)', [user])],
  ['manager.save', (runner) => runner.manager.save(StoredOfflineToken, { userId: user, offlineToken: 'thing' })],
  ['manager.insert', (runner) => runner.manager.insert(StoredOfflineToken, { userId: user, offlineToken: 'thing' })],
  [
    'manager.transaction',
    (runner) => runner.manager.transaction((manager) => manager.query('INSERT INTO host_things VALUES ($1)', [user])),
  ],
  [
    'manager.getRepository',
    (runner) => runner.manager.getRepository(StoredOfflineToken).save({ userId: user, offlineToken: 'thing' }),
  ],
  [
    'startTransaction',
    async (runner) => {
      await runner.startTransaction();
      await insert(runner);
      await runner.commitTransaction();
    },
  ],
  [
    'createQueryBuilder',
    (runner) =>
      runner.manager
        .createQueryBuilder()
        .insert()
        .into(StoredOfflineToken)
        .values({ userId: user, offlineToken: 'thing' })
        .execute(),
  ],
  [
    'dataSource.createQueryBuilder',
    (runner) =>
      dataSource
        .createQueryBuilder(runner)
        .insert()
        .into(StoredOfflineToken)
        .values({ userId: user, offlineToken: 'thing' })
        .execute(),
  ],
  [
    'connect',
    async (runner) => {
      const client = (await runner.connect()) as Pick<QueryRunner, 'query'>;
      await insert(client);
    },
  ],
];

describe.each(uses)('a lazy run whose first statement goes by %s', (_, write) => {
  it('begins with it, and rolls it back with the rejection of the work', async () => {
    const failure = new Error('no');
    const run = scope.run(async (runner) => {
      expect(connectionsInUse(dataSource)).toBe(0);
      await write(runner);
      expect(connectionsInUse(dataSource)).toBe(1);
      expect(scope.current()).toBe(runner);
      throw failure;
    }, LAZY);
    await expect(run).rejects.toBe(failure);
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });

  it('commits it with the success of the work, and token writes with it', async () => {
    await scope.run(async (runner) => {
      await write(runner);
      await storeTokens();
      await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
    }, LAZY);
    await expect(committed()).resolves.toEqual({ tokens: 1, things: 1 });
  });

  it('rolls both back when they were begun at once', async () => {
    const run = scope.run(async (runner) => {
      await Promise.all([storeTokens(), write(runner)]);
      expect(connectionsInUse(dataSource)).toBe(1);
      throw new Error('no');
    }, LAZY);
    await expect(run).rejects.toThrow('no');
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });

  it('leaves nothing behind when the work ends while the statement is still under way', async () => {
    let writing: Promise<unknown> = Promise.resolve();
    const run = scope.run((runner) => {
      writing = write(runner).catch(() => undefined);
      return Promise.reject(new Error('sooner'));
    }, LAZY);
    await expect(run).rejects.toThrow('sooner');
    await writing;
    await expectCleanPool();
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });

  it('gives the typed error when no connection is free, and takes nothing along', async () => {
    const holders = Array.from({ length: POOL_SIZE }, () => dataSource.createQueryRunner());
    await Promise.all(holders.map((holder) => holder.connect() as Promise<unknown>));
    const run = scope.run(async (runner) => {
      await expect(write(runner)).rejects.toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE' });
      await expect(storeTokens()).rejects.toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE' });
    }, LAZY);
    await expect(run).rejects.toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE' });
    await Promise.all(holders.map((holder) => holder.release()));
    await expectCleanPool();
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });
});

describe('a lazy run', () => {
  it('takes no connection when nobody uses it, and lets it be over', async () => {
    const runners: QueryRunner[] = [];
    await scope.run((runner) => {
      runners.push(runner);
      return Promise.resolve();
    }, LAZY);
    expect(connectionsInUse(dataSource)).toBe(0);
    for (const runner of runners) await expect(insert(runner)).rejects.toThrow();
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });

  it('refuses its runner to late work after it has ended', async () => {
    const runners: QueryRunner[] = [];
    await scope.run(async (runner) => {
      runners.push(runner);
      await storeTokens();
    }, LAZY);
    for (const runner of runners) {
      await expect(insert(runner)).rejects.toThrow();
      await expect(runner.startTransaction()).rejects.toThrow();
    }
    await expect(committed()).resolves.toEqual({ tokens: 1, things: 0 });
  });

  it('begins at the isolation level that is asked for, also by a statement of the host', async () => {
    const level = await scope.run((runner): Promise<unknown> => runner.query('SHOW transaction_isolation'), {
      ...LAZY,
      isolationLevel: 'SERIALIZABLE',
    });
    expect(level).toEqual([{ transaction_isolation: 'serializable' }]);
  });

  it('begins once, and before them all, for statements that come at once', async () => {
    const run = scope.run(async (runner) => {
      await Promise.all([insert(runner), storeTokens(), insert(runner), runner.manager.query('SELECT 1')]);
      throw new Error('no');
    }, LAZY);
    await expect(run).rejects.toThrow('no');
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });

  it('rolls a nested transaction of the work back alone', async () => {
    await scope.run(async (runner) => {
      await runner.startTransaction();
      await insert(runner);
      await runner.rollbackTransaction();
      await storeTokens();
    }, LAZY);
    await expect(committed()).resolves.toEqual({ tokens: 1, things: 0 });
  });

  it('is rolled back as a whole when the work leaves such a transaction open', async () => {
    const run = scope.run(async (runner) => {
      await runner.startTransaction();
      await insert(runner);
    }, LAZY);
    await expect(run).rejects.toThrow(/left a transaction open/);
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });

  it('commits a nested run with itself', async () => {
    await scope.run(() => scope.run((runner) => insert(runner), LAZY), LAZY);
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 1 });
  });

  it('is joined by name before it has begun', async () => {
    const run = scope.run(async (runner) => {
      await scope.join(runner, storeTokens);
      throw new Error('no');
    }, LAZY);
    await expect(run).rejects.toThrow('no');
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });

  it.each([true, false])(
    'has nothing take effect of work that goes on after its rejection (lazy: %s)',
    async (lazy) => {
      let writing: Promise<unknown> = Promise.resolve();
      const run = scope.run(
        async (runner) => {
          await insert(runner);
          writing = (async () => {
            for (let write = 0; write < 20; write++) await insert(runner);
          })();
          writing.catch(() => undefined);
          throw new Error('no');
        },
        { lazy },
      );
      await expect(run).rejects.toThrow('no');
      await expect(writing).rejects.toThrow();
      await expectCleanPool();
      await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
    },
  );
});
