import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import {
  AuthTokenStore,
  OfflineTokenStore,
  QueryRunnerScope,
  type SealedToken,
  TokensUsageError,
} from '../src/index.js';
import { DatabaseProxy } from './support/database-proxy.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const POOL_SIZE = 3;
const pair = {
  accessToken: 'a' as SealedToken,
  refreshToken: 'r' as SealedToken,
  accessTokenExpiresAt: 0,
  refreshTokenExpiresAt: 0,
};

let database: TestDatabase;
let proxy: DatabaseProxy;
let app: INestApplication;
let dataSource: DataSource;
let scope: QueryRunnerScope;
let store: AuthTokenStore;

beforeAll(async () => {
  database = await createTestDatabase();
  proxy = new DatabaseProxy(database.url);
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: await proxy.open(),
    poolSize: POOL_SIZE,
    options: { connectionTimeoutMs: 400 },
  }));
  scope = app.get(QueryRunnerScope);
  store = app.get(AuthTokenStore);
});

afterEach(async () => {
  await until(() => connectionsInUse(dataSource) === 0);
  const open = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'`;
  await until(async () => (await database.query(open)).length === 0);
});

afterAll(async () => {
  await app.close();
  await proxy.close();
  await database.drop();
});

let users = 0;

function newKey(): { keycloakUserId: string; idp: string } {
  return { keycloakUserId: `user-${++users}`, idp: 'github' };
}

/** Settles after this many turns of the microtask queue. */
async function microtasks(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await Promise.resolve();
}

describe('A transaction whose BEGIN is never answered', () => {
  it('gives its place in the pool back, as often as it happens', async () => {
    for (let time = 0; time <= POOL_SIZE; time++) {
      await scope.run((runner) => runner.query('SELECT 1')); // on a connection that stays open
      proxy.block();
      await expect(scope.run(() => store.storeTokens(newKey(), pair))).rejects.toThrow(/begin a transaction in time/);
      proxy.unblock();
      await until(() => connectionsInUse(dataSource) === 0);
    }
    await expect(scope.run(() => store.storeTokens(newKey(), pair))).resolves.toBeUndefined();
  });

  it('is no transaction of the next one who gets the connection, when a subscriber of the host stops it', async () => {
    const subscriber = { afterTransactionStart: () => Promise.reject(new Error('the host says no')) };
    dataSource.subscribers.push(subscriber);
    for (let time = 0; time <= POOL_SIZE; time++) {
      await expect(scope.run(() => store.storeTokens(newKey(), pair))).rejects.toThrow();
    }
    dataSource.subscribers.splice(dataSource.subscribers.indexOf(subscriber), 1);
    await expect(scope.run(() => store.storeTokens(newKey(), pair))).resolves.toBeUndefined();
  });
});

describe('A lazy transaction whose work rejects', () => {
  it.each(Array.from({ length: 16 }, (_, turns) => turns))(
    'leaves nothing open when a branch that nobody waits for makes the first statement %d microtasks later',
    async (turns) => {
      let branch: Promise<unknown> = Promise.resolve();
      const key = newKey();
      const run = scope.run(
        async () => {
          branch = microtasks(turns).then(() => store.storeTokens(key, pair));
          await microtasks(3);
          throw new Error('refused');
        },
        { lazy: true },
      );
      await expect(run).rejects.toThrow('refused');
      await branch.catch(() => undefined);
    },
  );

  it('commits the first statement of a branch that begins while the work resolves, or refuses it', async () => {
    for (let turns = 0; turns < 16; turns++) {
      let branch: Promise<unknown> = Promise.resolve();
      const key = newKey();
      await scope.run(
        async () => {
          branch = microtasks(turns).then(() => store.storeTokens(key, pair));
          await microtasks(3);
        },
        { lazy: true },
      );
      const isStored = await branch.then(
        () => true,
        (error: unknown) => {
          expect(error).toBeInstanceOf(TokensUsageError);
          return false;
        },
      );
      expect((await store.loadTokens(key)) !== null).toBe(isStored);
    }
  });
});

describe('A server that falls silent', () => {
  it.each([
    ['a rollback', () => Promise.reject(new Error('refused')), 'refused'],
    ['a commit', () => Promise.resolve(), /commit a transaction in time/],
  ])('does not keep %s waiting for ever', async (_, end, message) => {
    const run = scope.run(async () => {
      await store.storeTokens(newKey(), pair);
      proxy.block();
      await end();
    });
    await expect(run).rejects.toThrow(message);
    proxy.unblock();
  });
});

describe('Lazy transactions that only read', () => {
  it('hold no connection, so that more of them than the pool has connections get on', async () => {
    let arrived = 0;
    const all = Array.from({ length: 2 * POOL_SIZE }, () =>
      scope.run(
        async () => {
          await store.loadTokens(newKey());
          await app.get(OfflineTokenStore).loadToken('nobody');
          arrived++;
          await until(() => arrived === 2 * POOL_SIZE);
        },
        { lazy: true },
      ),
    );
    await expect(Promise.all(all)).resolves.toHaveLength(2 * POOL_SIZE);
  });
});
