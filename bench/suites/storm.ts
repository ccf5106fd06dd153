import pg from 'pg';

import { seedPlainTokens } from '../rivals/bare-pg.js';
import { type ModuleApp, seedModule, startModule } from '../rivals/module.js';
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
/** In a large table users whose tokens expire together are seldom neighbours. */
const SPREAD = 50;

/** 1,000 tokens of 1,000 users that expired together. */
export interface StormResult {
  readonly users: number;
  readonly poolSize: number;
  readonly providerMs: number;
  /** The same provider calls made bare with fetch, on connections that are open already. */
  readonly bareMs: Spread;
  readonly moduleMs: Spread;
  readonly ratio: Spread;
  /** Redemptions that the provider counted, for each user and storm. */
  readonly redemptionsPerUser: number;
  /** A row lock, and its connection, held over the provider call. */
  readonly rowLockMs: number;
  /** Reads of other users' fresh tokens in the same process: before a storm, and during one, which then takes longer. */
  readonly calmReadsPerSecond: number;
  readonly stormReadsPerSecond: number;
  readonly readsRatio: Spread;
  readonly stormWithReadersMs: number;
  /** Share of the refreshes' updates that changed no index, of users spread over the table. */
  readonly hotShare: number;
  /** The same of users who are neighbours in the table, so that one statement updates all rows of a page. */
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

/** Of one storm in a table that nothing else has updated, whose users have this distance. */
async function measureHotShare(server: BenchServer, distance: number): Promise<number> {
  const { url, module, stop } = await start(server, `storm_hot_${distance}`, nowSeconds() - 1, (distance + 1) * USERS);
  await everyUser((n) => module.tokens.getIdpToken(userId(distance * n), IDP));
  await stop(); // and every backend has reported its counts
  return hotShareOf(url);
}

async function measureTimes(server: BenchServer) {
  const { url, provider, module, stop } = await start(server, 'storm');
  const rounds = [];
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
    await expire(url);
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
    await expire(url);
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

/** A provider and an application with users of whom the first half can be made to expire. */
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

async function expire(url: string): Promise<void> {
  await query(
    url,
    `UPDATE auth_tokens SET access_token_expires_at = extract(epoch FROM now())::bigint - 1
       WHERE keycloak_user_id < $1`,
    [userId(USERS)],
  );
  await query(url, 'VACUUM auth_tokens');
}

/** Reads of fresh tokens by callers that go on until the work is done. */
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

/** Two updates a refresh: the lease and the commit. */
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
