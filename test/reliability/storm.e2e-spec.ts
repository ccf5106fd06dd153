import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import { QueryRunnerScope, TokenManager } from '../../src/index.js';
import { type Fault, type HostileProvider, startHostileProvider } from '../support/hostile-provider.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { startTokensWorker, type TokensWorker } from '../support/tokens-worker.js';
import { until } from '../support/until.js';

const PROCESSES = 4;
const keys = [{ id: 'test', secret: newKey() }];

let database: TestDatabase;
let provider: HostileProvider;
let app: INestApplication;
let dataSource: DataSource;
let tokens: TokenManager;
let workers: TokensWorker[];

function options(url: string) {
  return {
    encryption: { keys },
    identityProviders: { hostile: { clientId: 'client', clientSecret: 'secret', tokenEndpoint: `${url}/token` } },
  };
}

beforeAll(async () => {
  database = await createTestDatabase();
  provider = await startHostileProvider({ mode: 'single-use', oldAccessTokenDies: true });
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: database.url,
    poolSize: 2,
    options: options(provider.url),
  }));
  tokens = app.get(TokenManager);
  workers = await Promise.all(
    Array.from({ length: PROCESSES }, () =>
      startTokensWorker({ databaseUrl: database.url, poolSize: 4, options: options(provider.url) }),
    ),
  );
}, 60_000);

afterAll(async () => {
  await Promise.all(workers.map((worker) => worker.close()));
  await app.close();
  await provider.stop();
  await database.drop();
});

/** Stores expired pairs and returns their users. Each user has a grant of its own, with these faults. */
async function expiredUsers(name: string, count: number, ...faults: Fault[]): Promise<string[]> {
  const users = Array.from({ length: count }, (_, n) => `${name}-${n}`);
  await Promise.all(
    users.map(async (user) => {
      const grant = await provider.newGrant();
      await provider.setFaults([grant.refreshToken], ...faults);
      await tokens.storeIdpTokens(user, 'hostile', { ...grant, accessTokenExpiresAt: 1 });
    }),
  );
  return users;
}

describe('a provider that ends the grant when a refresh token comes twice', () => {
  it(`sees one redemption when ${PROCESSES} processes × 500 callers find one token expired; all get the same`, async () => {
    const [user = ''] = await expiredUsers('storm', 1);
    const before = (await provider.redemptions()).length;
    const outcomes = (await Promise.all(workers.map((worker) => worker.get([user], { callers: 500 })))).flat();
    expect(outcomes).toHaveLength(PROCESSES * 500);
    expect(outcomes.filter(({ error }) => error)).toEqual([]);
    expect(new Set(outcomes.map(({ accessToken }) => accessToken)).size).toBe(1);
    expect((await provider.redemptions()).slice(before).map(({ outcome }) => outcome)).toEqual(['redeemed']);
    await expect(provider.isAlive(outcomes[0]?.accessToken ?? '')).resolves.toBe(true);
  });

  it(`sees one redemption for each of 250 users who expire together in ${PROCESSES} processes`, async () => {
    const users = await expiredUsers('together', 250);
    const before = (await provider.redemptions()).length;
    const outcomes = (await Promise.all(workers.map((worker) => worker.get(users)))).flat();
    expect(outcomes.filter(({ error }) => error)).toEqual([]);
    expect(new Set(outcomes.map(({ accessToken }) => accessToken)).size).toBe(250);
    const redemptions = (await provider.redemptions()).slice(before);
    expect(redemptions).toHaveLength(250);
    expect(new Set(redemptions.map(({ grant }) => grant)).size).toBe(250);
    expect(new Set(redemptions.map(({ outcome }) => outcome))).toEqual(new Set(['redeemed']));
  });
});

describe('a slow provider', () => {
  it('holds no connection: 300 refreshes of 2 s on a pool of 2 take about as long as one, and reads stay fast', async () => {
    const users = await expiredUsers('slow', 300, { kind: 'delay', ms: 2000 });
    await tokens.storeIdpTokens('reader', 'hostile', { accessToken: 'fresh' });

    const startedAt = performance.now();
    const done = new AbortController();
    const refreshes = Promise.all(users.map((user) => tokens.getIdpToken(user, 'hostile'))).finally(() => {
      done.abort();
    });
    const reads: number[] = [];
    while (!done.signal.aborted) {
      const readAt = performance.now();
      await tokens.getIdpToken('reader', 'hostile');
      reads.push(performance.now() - readAt);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await refreshes;
    const tookMs = performance.now() - startedAt;

    reads.sort((a, b) => a - b);
    const median = reads[Math.floor(reads.length / 2)] ?? Infinity;
    console.log(`300 refreshes of 2 s on 2 connections: ${Math.round(tookMs)} ms; median read ${median.toFixed(1)} ms`);
    expect(tookMs).toBeLessThan(8000); // on 2 connections, one after the other, the refreshes would take 300 s
    expect(median).toBeLessThan(50);
    expect(reads.length).toBeGreaterThan(50);
    await until(() => connectionsInUse(dataSource) === 0);
  });

  it('never deadlocks a pool of 1 with a transaction of the host open: a typed error in bounded time', async () => {
    const [user = ''] = await expiredUsers('deadlock', 1);
    const small = await createTokensApp({
      databaseUrl: database.url,
      poolSize: 1,
      options: { ...options(provider.url), connectionTimeoutMs: 500 },
    });
    const startedAt = performance.now();
    const run = small.app.get(QueryRunnerScope).run(async (runner) => {
      await runner.query('SELECT 1');
      await small.app.get(TokenManager).getIdpToken(user, 'hostile');
    });
    await expect(run).rejects.toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE' });
    expect(performance.now() - startedAt).toBeLessThan(5000);
    await until(() => connectionsInUse(small.dataSource) === 0);
    await expect(small.app.get(TokenManager).getIdpToken(user, 'hostile')).resolves.toBeDefined();
    await small.app.close();
  });
});
