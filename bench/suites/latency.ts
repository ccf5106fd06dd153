import { expireTokens, seedModule, startModule } from '../rivals/module.js';
import type { BenchServer } from '../support/database.js';
import { pace, type PacedCalls } from '../support/pacer.js';
import { startSlowProvider } from '../support/provider.js';
import { IDP, randomUsers, userId } from '../support/users.js';

const USERS = 100_000;
const READS_PER_SECOND = 20_000;
const REFRESHES_PER_SECOND = 10;
const PROVIDER_MS = 200;
const WARM_UP_SECONDS = 3;
const SECONDS = 30;
/** Users whose tokens have expired. They are the first of the table, and each is refreshed once. */
const STALE_USERS = REFRESHES_PER_SECOND * (WARM_UP_SECONDS + SECONDS);

/** The latency of reads at a fixed rate while refreshes go on in the same process. */
export interface LatencyResult {
  readonly readsPerSecond: number;
  readonly refreshesPerSecond: number;
  readonly seconds: number;
  readonly providerMs: number;
  /** Calls that do nothing, at the rate of the reads. They show what the pacer adds to each latency. */
  readonly nothing: PacedCalls;
  readonly reads: PacedCalls;
  /** `getIdpToken` for tokens that have expired. Each call waits for the provider. */
  readonly refreshes: PacedCalls;
}

export async function measureLatency(server: BenchServer): Promise<LatencyResult> {
  const provider = await startSlowProvider(PROVIDER_MS);
  const url = await server.createDatabase('latency');
  const github = { clientId: 'bench', clientSecret: 'bench', tokenEndpoint: provider.tokenEndpoint };
  const module = await startModule(url, { identityProviders: { github } });
  await seedModule(module, url, USERS, Math.floor(Date.now() / 1000) + 7 * 24 * 3600);
  await expireTokens(url, STALE_USERS);

  const nextFreshUser = randomUsers(USERS - STALE_USERS);
  let refreshed = 0;
  const read = () => module.tokens.getIdpToken(userId(STALE_USERS + nextFreshUser()), IDP);
  const refresh = () => module.tokens.getIdpToken(userId(refreshed++), IDP);
  const run = (seconds: number) =>
    Promise.all([
      pace(read, { perSecond: READS_PER_SECOND, seconds }),
      pace(refresh, { perSecond: REFRESHES_PER_SECOND, seconds }),
    ]);
  await run(WARM_UP_SECONDS);
  const nothing = await pace(() => Promise.resolve(), { perSecond: READS_PER_SECOND, seconds: WARM_UP_SECONDS });
  const [reads, refreshes] = await run(SECONDS);

  const redemptions = await provider.redemptions();
  await module.app.close();
  await provider.stop();
  if (reads.errors + refreshes.errors > 0) {
    throw new Error(`${reads.errors} reads and ${refreshes.errors} refreshes failed.`);
  }
  if (redemptions !== STALE_USERS) throw new Error(`${STALE_USERS} refreshes redeemed ${redemptions} refresh tokens.`);
  return {
    readsPerSecond: READS_PER_SECOND,
    refreshesPerSecond: REFRESHES_PER_SECOND,
    seconds: SECONDS,
    providerMs: PROVIDER_MS,
    nothing,
    reads,
    refreshes,
  };
}
