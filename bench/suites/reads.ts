import pg from 'pg';

import { bareReads, seedPlainTokens } from '../rivals/bare-pg.js';
import { startBetterAuth } from '../rivals/better-auth.js';
import { IDPS, moduleReads, seedModule, startModule } from '../rivals/module.js';
import { openPlainTokens, repositoryReads } from '../rivals/repository.js';
import type { BenchServer } from '../support/database.js';
import { type Contestant, race, ratioOf, type Standing } from '../support/race.js';
import type { Spread } from '../support/statistics.js';
import { accessTokenOf, randomUsers } from '../support/users.js';

const USERS = 100_000;

/** The results of all rivals at one number of concurrent callers. */
export interface ReadStandings {
  readonly callers: number;
  readonly standings: Standing[];
  /** Throughput of `getIdpToken` ÷ throughput of better-auth's `getAccessToken`. */
  readonly overBetterAuth: Spread;
}

/** Measures reads of fresh tokens of random users. All rivals run on the same server in the same rounds. */
export async function measureReads(server: BenchServer): Promise<ReadStandings[]> {
  const expiresAt = Math.floor(Date.now() / 1000) + 7 * 24 * 3600;
  const url = await server.createDatabase('reads');
  const module = await startModule(url);
  const unprepared = await startModule(url, { preparedStatements: false });
  await seedModule(module, url, USERS, expiresAt);
  const mixedUrl = await server.createDatabase('reads_mixed');
  const mixed = await startModule(mixedUrl);
  const idpOf = (n: number) => IDPS[n % IDPS.length] ?? '';
  await seedModule(mixed, mixedUrl, USERS, expiresAt, idpOf);
  await seedPlainTokens(url, USERS, expiresAt);
  const pool = new pg.Pool({ connectionString: url, max: 10 });
  const dataSource = await openPlainTokens(url);
  const betterAuth = await startBetterAuth(await server.createDatabase('better_auth'), USERS, expiresAt);

  const contestants = [
    bareReads(pool),
    moduleReads(module),
    moduleReads(unprepared, 'getIdpToken, unprepared'),
    moduleReads(mixed, 'getIdpToken, 4 providers', idpOf),
    repositoryReads(dataSource),
    betterAuth,
  ];
  for (const contestant of contestants) await prove(contestant);
  const results: ReadStandings[] = [];
  for (const callers of [1, 8, 32, 128]) {
    const settings = { callers, rounds: 7, turnMs: 250, nextUser: randomUsers(USERS) };
    const standings = await race(contestants, settings);
    const [, ours] = standings;
    const theirs = standings.at(-1);
    if (!ours || !theirs) throw new Error('The race returned no results.');
    results.push({ callers, standings, overBetterAuth: ratioOf(ours, theirs) });
  }
  await Promise.all([
    module.app.close(),
    unprepared.app.close(),
    mixed.app.close(),
    pool.end(),
    dataSource.destroy(),
    betterAuth.stop(),
  ]);
  return results;
}

/** Makes sure that a contestant returns the right tokens. */
async function prove({ name, call }: Contestant): Promise<void> {
  for (const n of [0, 4711, USERS - 1]) {
    const result = await call(n);
    const accessToken =
      typeof result === 'object' && result !== null && 'accessToken' in result ? result.accessToken : result;
    if (accessToken !== accessTokenOf(n)) throw new Error(`${name} did not return the token of user ${n}.`);
  }
}
