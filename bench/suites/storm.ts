import pg from 'pg';

import { seedPlainTokens } from '../rivals/bare-pg.js';
import { expireTokens, type ModuleApp, seedModule, startModule } from '../rivals/module.js';
import { redeem, refreshUnderRowLock } from '../rivals/row-lock.js';
import { type BenchServer, query } from '../support/database.js';
import { startSlowProvider } from '../support/provider.js';
import { median, type Spread, spreadOf } from '../support/statistics.js';
import { IDP, refreshTokenOf, userId } from '../support/users.js';

const USERS = 1000;
const READERS = 8;
const POOL_SIZE = 4;
const PROVIDER_MS = 200;
const ROUNDS = 5;
const WARM_UP_ROUNDS = 2;
/**
 * Distance between the users of a storm in the table, in rows. In a large table, users whose tokens expire together are
 * seldom neighbours.
 */
const SPREAD = 50;

/** The results of a storm: 1,000 tokens of 1,000 users expired at the same time. */
export interface StormResult {
  readonly users: number;
  readonly poolSize: number;
  readonly providerMs: number;
  /** Milliseconds of the same provider calls by `fetch`, on connections that are open already. */
  readonly bareMs: Spread;
  readonly moduleMs: Spread;
  readonly ratio: Spread;
  /** How often the provider redeemed a refresh token, for each user and storm. */
  readonly redemptionsPerUser: number;
  /** Milliseconds with a row lock and its connection, which the process holds until the provider has answered. */
  readonly rowLockMs: number;
  /**
   * Reads of other users' fresh tokens in the same process, before a storm and during a storm. The storm takes longer
   * because of these reads.
   */
  readonly calmReadsPerSecond: number;
  readonly stormReadsPerSecond: number;
  readonly readsRatio: Spread;
  readonly stormWithReadersMs: number;
  /** Share of the updates that changed no index, for refreshes of users who are spread over the table. */
  readonly hotShare: number;
  /** The same share for users who are neighbours in the table. One statement then updates all rows of a page. */
  readonly hotShareOfNeighbours: number;
}

export async function measureStorm(server: BenchServer): Promise<StormResult> {
  return {
    users: USERS,
    poolSize: POOL_SIZE,
    providerMs: PROVIDER_MS,
    ...(await measureTimes(server)),
    ...(await measureReaders(server)),
    hotShare: await measureHotShare(server, SPREAD),
    hotShareOfNeighbours: await measureHotShare(server, 1),
    rowLockMs: await measureRowLock(server),
  };
}

/** Measures the share of HOT updates of one storm, in a new table whose users have this distance, in rows. */
async function measureHotShare(server: BenchServer, distance: number): Promise<number> {
  const { url, module, stop } = await start(server, `storm_hot_${distance}`, nowSeconds() - 1, (distance + 1) * USERS);
  await everyUser((n) => module.tokens.getIdpToken(userId(distance * n), IDP));
  await stop(); // because a backend reports all its counts when it ends
  return hotShareOf(url);
}

async function measureTimes(server: BenchServer) {
  const { url, provider, module, stop } = await start(server, 'storm');
  const rounds = [];
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
    await expireTokens(url, USERS);
    const byModule = () => timed(() => everyUser((n) => module.tokens.getIdpToken(userId(n), IDP)));
    const byFetch = () => timed(() => everyUser((n) => redeem(provider.tokenEndpoint, refreshTokenOf(n))));
    const isModuleFirst = round % 2 === 0;
    const first = await (isModuleFirst ? byModule() : byFetch());
    const second = await (isModuleFirst ? byFetch() : byModule());
    const [moduleMs, bareMs] = isModuleFirst ? [first, second] : [second, first];
    if (round >= WARM_UP_ROUNDS) rounds.push({ bareMs, moduleMs });
  }
  await stop();
  return {
    bareMs: spreadOf(rounds.map(({ bareMs }) => bareMs)),
    moduleMs: spreadOf(rounds.map(({ moduleMs }) => moduleMs)),
    ratio: spreadOf(rounds.map(({ bareMs, moduleMs }) => moduleMs / bareMs)),
  };
}

async function measureReaders(server: BenchServer) {
  const { url, provider, module, stop } = await start(server, 'storm_readers');
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) {
    await expireTokens(url, USERS);
    const calm = await readsDuring(module, () => new Promise((resolve) => setTimeout(resolve, 1000)));
    const storm = await readsDuring(module, () => everyUser((n) => module.tokens.getIdpToken(userId(n), IDP)));
    rounds.push({ calm, storm });
  }
  const redemptionsPerUser = (await provider.redemptions()) / (ROUNDS * USERS);
  await stop();
  return {
    redemptionsPerUser,
    calmReadsPerSecond: median(rounds.map(({ calm }) => calm.perSecond)),
    stormReadsPerSecond: median(rounds.map(({ storm }) => storm.perSecond)),
    readsRatio: spreadOf(rounds.map(({ calm, storm }) => storm.perSecond / calm.perSecond)),
    stormWithReadersMs: median(rounds.map(({ storm }) => storm.tookMs)),
  };
}

async function measureRowLock(server: BenchServer): Promise<number> {
  const { url, provider, stop } = await start(server, 'storm_row_lock');
  await seedPlainTokens(url, USERS, nowSeconds() - 1);
  const pool = new pg.Pool({ connectionString: url, max: POOL_SIZE });
  const tookMs = await timed(() => everyUser((n) => refreshUnderRowLock(pool, provider.tokenEndpoint, n)));
  await pool.end();
  await stop();
  return tookMs;
}

/**
 * Starts a provider and an application, and stores a token pair for each user. `expireTokens` later makes the pairs of the
 * first half expire.
 */
async function start(server: BenchServer, name: string, expiresAt = nowSeconds() + 7 * 24 * 3600, rows = 2 * USERS) {
  const provider = await startSlowProvider(PROVIDER_MS);
  const url = await server.createDatabase(name);
  const github = { clientId: 'bench', clientSecret: 'bench', tokenEndpoint: provider.tokenEndpoint };
  const module = await startModule(url, { identityProviders: { github } }, POOL_SIZE);
  await seedModule(module, url, rows, expiresAt);
  return {
    url,
    provider,
    module,
    stop: async () => {
      await module.app.close();
      await provider.stop();
    },
  };
}

/** Measures reads of fresh tokens by callers that read until the work is done. */
async function readsDuring(
  { tokens }: ModuleApp,
  work: () => Promise<unknown>,
): Promise<{ perSecond: number; tookMs: number }> {
  let reads = 0;
  let isOver = false;
  const reader = async () => {
    while (!isOver) {
      await tokens.getIdpToken(userId(USERS + (reads % USERS)), IDP);
      reads++;
    }
  };
  const readers = Promise.all(Array.from({ length: READERS }, reader));
  const tookMs = await timed(work);
  isOver = true;
  const perSecond = reads / (tookMs / 1000);
  await readers;
  return { perSecond, tookMs };
}

function everyUser(work: (n: number) => Promise<unknown>): Promise<unknown[]> {
  return Promise.all(Array.from({ length: USERS }, (_, n) => work(n)));
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

/** Returns the share of HOT updates. A refresh makes two updates: the lease and the commit. */
async function hotShareOf(url: string): Promise<number> {
  const [counts] = await query(
    url,
    `SELECT n_tup_hot_upd::int AS hot, n_tup_upd::int AS updates FROM pg_stat_user_tables WHERE relname = 'auth_tokens'`,
  );
  const updates = Number(counts?.updates);
  if (updates !== 2 * USERS) throw new Error(`PostgreSQL counted ${updates} updates in ${USERS} refreshes.`);
  return Number(counts?.hot) / updates;
}

function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}
