import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource, QueryRunner } from 'typeorm';

import {
  AuthTokenStore,
  OfflineTokenStore,
  QueryRunnerScope,
  type SealedToken,
  TokensUsageError,
  TokenStoreUnavailableError,
} from '../src/index.js';
import { connectionsInUse, createTestDatabase, openDataSource, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

let database: TestDatabase;
let app: INestApplication;
let dataSource: DataSource;
let scope: QueryRunnerScope;
let store: AuthTokenStore;
let hostRunner: QueryRunner | undefined;

beforeAll(async () => {
  database = await createTestDatabase();
  await database.query('CREATE TABLE host_things (name text PRIMARY KEY)');
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: database.url,
    poolSize: 4,
    options: { hostQueryRunner: () => hostRunner, connectionTimeoutMs: 300 },
  }));
  scope = app.get(QueryRunnerScope);
  store = app.get(AuthTokenStore);
});

let key = { keycloakUserId: '', idp: 'github' };
let users = 0;

beforeEach(() => {
  key = { keycloakUserId: `user-${++users}`, idp: 'github' };
});

afterEach(async () => {
  hostRunner = undefined;
  await until(() => connectionsInUse(dataSource) === 0);
});

afterAll(async () => {
  await app.close();
  await database.drop();
});

const pair = {
  accessToken: 'a' as SealedToken,
  refreshToken: 'r' as SealedToken,
  accessTokenExpiresAt: 0,
  refreshTokenExpiresAt: 0,
};

/** Counts what is committed, on another connection. */
async function committed(): Promise<{ tokens: number; things: number }> {
  const [row] = await database.query(
    `SELECT (SELECT count(*)::int FROM auth_tokens WHERE keycloak_user_id = $1) AS tokens,
       (SELECT count(*)::int FROM host_things WHERE name = $1) AS things`,
    [key.keycloakUserId],
  );
  return row as { tokens: number; things: number };
}

function writeThing(runner: QueryRunner): Promise<unknown> {
  return runner.query('INSERT INTO host_things VALUES ($1)', [key.keycloakUserId]);
}

describe('QueryRunnerScope.run', () => {
  it('commits token writes and the host’s writes together', async () => {
    await scope.run(async (runner) => {
      await writeThing(runner);
      await store.storeTokens(key, pair);
      await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
    });
    await expect(committed()).resolves.toEqual({ tokens: 1, things: 1 });
  });

  it('rolls both back when the work rejects, and passes the very rejection on', async () => {
    const failure = new Error('no');
    const run = scope.run(async (runner) => {
      await writeThing(runner);
      await store.storeTokens(key, pair);
      throw failure;
    });
    await expect(run).rejects.toBe(failure);
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });

  it('rolls back when the work throws before its first await', async () => {
    const failure = new Error('no');
    const run = scope.run(() => {
      throw failure;
    });
    await expect(run).rejects.toBe(failure);
  });

  it('shows the writes of the scope to its reads, and to no one else', async () => {
    await scope.run(async () => {
      await store.storeTokens(key, pair);
      await expect(store.loadTokens(key)).resolves.toMatchObject({ accessToken: 'a' });
      await store.deleteTokens(key);
      await expect(store.loadTokens(key)).resolves.toBeNull();
    });
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });

  it('joins the surrounding run: an inner success is rolled back with the outer', async () => {
    const run = scope.run(async (outer) => {
      await scope.run(async (inner) => {
        expect(inner).toBe(outer);
        await store.storeTokens(key, pair);
      });
      throw new Error('outer');
    });
    await expect(run).rejects.toThrow('outer');
    await expect(committed()).resolves.toMatchObject({ tokens: 0 });
  });

  it('keeps concurrent scopes apart', async () => {
    const other = { ...key, keycloakUserId: `${key.keycloakUserId}-other` };
    const results = await Promise.allSettled([
      scope.run(() => store.storeTokens(key, pair)),
      scope.run(async () => {
        await store.storeTokens(other, pair);
        throw new Error('no');
      }),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    await expect(store.loadTokens(key)).resolves.not.toBeNull();
    await expect(store.loadTokens(other)).resolves.toBeNull();
  });

  it('runs statements that nobody waited for in turn before it commits', async () => {
    const keys = Array.from({ length: 20 }, (_, n) => ({ ...key, idp: `idp-${n}` }));
    await scope.run(() => Promise.all(keys.map((each) => store.storeTokens(each, pair))));
    await expect(committed()).resolves.toMatchObject({ tokens: 20 });
  });

  it('rolls everything back when one of several concurrent statements fails', async () => {
    const run = scope.run((runner) =>
      Promise.all([
        store.storeTokens(key, pair),
        runner.query('SELECT 1/0'),
        store.storeTokens({ ...key, idp: 'x' }, pair),
      ]),
    );
    await expect(run).rejects.toThrow('division by zero');
    await expect(committed()).resolves.toMatchObject({ tokens: 0 });
  });

  it('lets work that outlives the transaction run outside of it', async () => {
    let late: Promise<void> = Promise.resolve();
    await scope.run(() => {
      late = new Promise((resolve) => setImmediate(resolve))
        .then(() => new Promise((resolve) => setTimeout(resolve, 20)))
        .then(() => store.storeTokens(key, pair));
      return Promise.resolve();
    });
    await late;
    await expect(committed()).resolves.toMatchObject({ tokens: 1 });
  });

  it('runs at the isolation level that is asked for', async () => {
    const level = await scope.run((runner): Promise<unknown> => runner.query('SHOW transaction_isolation'), {
      isolationLevel: 'SERIALIZABLE',
    });
    expect(level).toEqual([{ transaction_isolation: 'serializable' }]);
  });

  it('takes no connection before the first statement when it is lazy, then one, and rolls back', async () => {
    const run = scope.run(
      async () => {
        expect(connectionsInUse(dataSource)).toBe(0);
        expect(scope.current()).toBeUndefined();
        await store.storeTokens(key, pair);
        expect(connectionsInUse(dataSource)).toBe(1);
        expect(scope.current()?.isTransactionActive).toBe(true);
        throw new Error('no');
      },
      { lazy: true },
    );
    await expect(run).rejects.toThrow('no');
    await expect(committed()).resolves.toMatchObject({ tokens: 0 });
  });

  it('knows the current runner inside and none outside', async () => {
    expect(scope.current()).toBeUndefined();
    await scope.run((runner) => {
      expect(scope.current()).toBe(runner);
      return Promise.resolve();
    });
    expect(scope.current()).toBeUndefined();
  });

  it('says that the COMMIT was not confirmed when the connection is lost, and keeps the pool clean', async () => {
    const run = scope.run(async (runner) => {
      await store.storeTokens(key, pair);
      const [{ pid }] = (await runner.query('SELECT pg_backend_pid() AS pid')) as [{ pid: number }];
      await database.query('SELECT pg_terminate_backend($1)', [pid]);
    });
    await expect(run).rejects.toThrow(TokenStoreUnavailableError);
    await expect(committed()).resolves.toMatchObject({ tokens: 0 });
    await expect(store.loadTokens(key)).resolves.toBeNull();
  });

  it('does not put a connection with an open transaction back into the pool when ROLLBACK fails', async () => {
    const run = scope.run(async (runner) => {
      await store.storeTokens(key, pair);
      runner.rollbackTransaction = () => Promise.reject(new Error('ROLLBACK was lost'));
      throw new Error('no');
    });
    await expect(run).rejects.toThrow('no');
    for (let read = 0; read < 8; read++) await expect(store.loadTokens(key)).resolves.toBeNull();
  });
});

describe('QueryRunnerScope.run, misused,', () => {
  async function expectCleanPool(): Promise<void> {
    await until(() => connectionsInUse(dataSource) === 0);
    const open = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`;
    await expect(database.query(open)).resolves.toEqual([]);
  }

  it('gives the connection back when a lazy work ends while its transaction is still beginning', async () => {
    let stored: Promise<void> = Promise.resolve();
    const run = scope.run(
      () => {
        stored = store.storeTokens(key, pair);
        return Promise.reject(new Error('sooner'));
      },
      { lazy: true },
    );
    await expect(run).rejects.toThrow('sooner');
    await stored.catch(() => undefined);
    await expectCleanPool();
    await expect(committed()).resolves.toMatchObject({ tokens: 0 });
  });

  it('gives the connection back when a nested run that nobody waits for is still beginning', async () => {
    let nested: Promise<void> = Promise.resolve();
    for (const end of [() => Promise.resolve(), () => Promise.reject(new Error('sooner'))]) {
      const run = scope.run(
        () => {
          nested = scope.run(() => store.storeTokens(key, pair));
          return end();
        },
        { lazy: true },
      );
      await run.catch(() => undefined);
      await nested.catch(() => undefined);
      await expectCleanPool();
    }
  });

  it('says that nothing was committed when a failed statement was swallowed', async () => {
    const run = scope.run(async (runner) => {
      await store.storeTokens(key, pair);
      await runner.query('SELECT 1/0').catch(() => undefined);
    });
    await expect(run).rejects.toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE', sqlState: '25P02' });
    await expectCleanPool();
    await expect(committed()).resolves.toMatchObject({ tokens: 0 });
  });

  it('rolls back all levels when the work throws inside a nested transaction of its own', async () => {
    const run = scope.run(async (runner) => {
      await store.storeTokens(key, pair);
      await runner.startTransaction();
      throw new Error('inside');
    });
    await expect(run).rejects.toThrow('inside');
    await expectCleanPool();
    await store.storeTokens({ ...key, idp: 'after' }, pair);
    await expect(committed()).resolves.toMatchObject({ tokens: 1 });
  });

  it('rolls back and says so when the work forgets to end a nested transaction', async () => {
    const run = scope.run(async (runner) => {
      await store.storeTokens(key, pair);
      await runner.startTransaction();
    });
    await expect(run).rejects.toThrow(/left a transaction open that it had started inside/);
    await expectCleanPool();
    await expect(committed()).resolves.toMatchObject({ tokens: 0 });
  });
});

describe('QueryRunnerScope.join', () => {
  async function inHostTransaction(
    end: 'commitTransaction' | 'rollbackTransaction',
    work: (r: QueryRunner) => Promise<void>,
  ) {
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    try {
      await writeThing(runner);
      await work(runner);
      await runner[end]();
    } finally {
      await runner.release();
    }
  }

  it('makes token writes part of the host’s transaction: its rollback removes the token', async () => {
    await inHostTransaction('rollbackTransaction', async (runner) => {
      await scope.join(runner, async () => {
        expect(scope.current()).toBe(runner);
        await store.storeTokens(key, pair);
        await app.get(OfflineTokenStore).storeToken(key.keycloakUserId, 'offline');
      });
      expect(runner.isReleased).toBe(false);
      await scope.join(runner, async () => {
        await expect(store.loadTokens(key)).resolves.not.toBeNull();
      });
    });
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
    await expect(app.get(OfflineTokenStore).loadToken(key.keycloakUserId)).resolves.toBeNull();
  });

  it('commits with the host, and leaves a rejection of the work to it', async () => {
    await inHostTransaction('commitTransaction', async (runner) => {
      const joined = scope.join(runner, async () => {
        await store.storeTokens(key, pair);
        throw new Error('handled by the host');
      });
      await expect(joined).rejects.toThrow('handled by the host');
    });
    await expect(committed()).resolves.toEqual({ tokens: 1, things: 1 });
  });

  it('lets run join it', async () => {
    await inHostTransaction('rollbackTransaction', async (runner) => {
      await scope.join(runner, () =>
        scope.run(async (inner) => {
          expect(inner).toBe(runner);
          await store.storeTokens(key, pair);
        }),
      );
    });
    await expect(committed()).resolves.toMatchObject({ tokens: 0 });
  });

  it('may name the transaction that surrounds it already', async () => {
    await scope.run((runner) => scope.join(runner, () => store.storeTokens(key, pair)));
    await expect(committed()).resolves.toMatchObject({ tokens: 1 });
  });

  it('does not let late work run on the connection after the host gave it back', async () => {
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    let late: Promise<void> = Promise.resolve();
    const released = new AbortController();
    await scope.join(runner, () => {
      late = new Promise<void>((resolve) => {
        released.signal.addEventListener('abort', () => {
          resolve();
        });
      }).then(() => store.storeTokens(key, pair));
      return Promise.resolve();
    });
    await runner.commitTransaction();
    await runner.release();
    released.abort();
    await late; // runs outside of the transaction, on another connection
    await expect(committed()).resolves.toMatchObject({ tokens: 1 });
    await expect(scope.join(runner, () => store.storeTokens(key, pair))).rejects.toThrow(/released. Join it before/);
  });

  it('refuses a runner of another data source', async () => {
    const other = await openDataSource(database.url);
    const runner = other.createQueryRunner();
    await expect(scope.join(runner, () => store.storeTokens(key, pair))).rejects.toThrow(TokensUsageError);
    await runner.release();
    await other.destroy();
  });

  it('joins whatever runner hostQueryRunner offers', async () => {
    await inHostTransaction('rollbackTransaction', async (runner) => {
      hostRunner = runner;
      await store.storeTokens(key, pair);
      await scope.run(() => store.storeTokens({ ...key, idp: 'gitlab' }, pair));
      await expect(store.loadTokens(key)).resolves.not.toBeNull();
      hostRunner = undefined;
      await expect(store.loadTokens(key)).resolves.toBeNull();
    });
    await expect(committed()).resolves.toEqual({ tokens: 0, things: 0 });
  });
});

describe('a pool without a free connection', () => {
  it('gives a typed error in bounded time, takes nothing along, and recovers', async () => {
    const holders = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const runner = dataSource.createQueryRunner();
        await runner.connect();
        return runner;
      }),
    );
    const startedAt = performance.now();
    await expect(store.loadTokens(key)).rejects.toThrow(/no free database connection to load tokens. Enlarge the pool/);
    await expect(scope.run(() => store.storeTokens(key, pair))).rejects.toThrow(TokenStoreUnavailableError);
    await expect(scope.run(() => store.storeTokens(key, pair), { lazy: true })).rejects.toThrow(/no free database/);
    expect(performance.now() - startedAt).toBeLessThan(5000);
    await Promise.all(holders.map((runner) => runner.release()));
    await expect(scope.run(() => store.storeTokens(key, pair))).resolves.toBeUndefined();
    await expect(committed()).resolves.toMatchObject({ tokens: 1 });
  });
});
