import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import { AuthTokenStore } from '../src/index.js';
import { connectionsInUse, createTestDatabase, poolOf, type TestDatabase } from './support/test-database.js';
import { PAIR } from './support/token-statements.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const POOL_SIZE = 4;

let database: TestDatabase;
let app: INestApplication;
let dataSource: DataSource;

beforeAll(async () => {
  database = await createTestDatabase();
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: database.url,
    poolSize: POOL_SIZE,
    options: { connectionTimeoutMs: 200 },
  }));
});

afterAll(async () => {
  await app.close();
  await database.drop();
});

it('500 calls that give up on an exhausted pool do not stay in its queue, and are not served later', async () => {
  const store = app.get(AuthTokenStore);
  const pool = poolOf(dataSource);
  const holders = Array.from({ length: POOL_SIZE }, () => dataSource.createQueryRunner());
  await Promise.all(holders.map((holder) => holder.connect() as Promise<unknown>));

  let longest = 0;
  const watch = setInterval(() => (longest = Math.max(longest, pool.waitingCount)), 5);
  const calls = await Promise.allSettled(
    Array.from({ length: 500 }, (_, each): Promise<unknown> => {
      const key = { keycloakUserId: `user-${each}`, idp: 'acme' };
      return each % 2 ? store.storeTokens(key, PAIR) : store.loadTokens(key);
    }),
  );
  clearInterval(watch);
  for (const call of calls) {
    expect(call).toMatchObject({ status: 'rejected', reason: { code: 'ERR_TOKENS_STORE_UNAVAILABLE' } });
  }
  longest = Math.max(longest, pool.waitingCount);
  expect(longest).toBeGreaterThan(0);
  expect(longest).toBeLessThanOrEqual(POOL_SIZE);

  await Promise.all(holders.map((holder) => holder.release()));
  await until(() => connectionsInUse(dataSource) === 0);
  expect(pool.waitingCount).toBe(0);
  await expect(database.query('SELECT FROM auth_tokens')).resolves.toEqual([]);
  const key = { keycloakUserId: 'after', idp: 'acme' };
  await store.storeTokens(key, PAIR);
  await expect(Promise.all(Array.from({ length: 50 }, () => store.loadTokens(key)))).resolves.toHaveLength(50);
});
