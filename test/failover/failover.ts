import { runTokenMigrations, TokenManager } from '../../src/index.js';
import { DatabaseProxy } from '../support/database-proxy.js';
import { type HostileProvider, startHostileProvider } from '../support/hostile-provider.js';
import type { Outcomes } from '../support/outcome-table.js';
import { queryDatabase } from '../support/query-database.js';
import { startReplicatedPostgres } from '../support/replicated-postgres.js';
import { openDataSource } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { until } from '../support/until.js';

export const USERS = 300;
const users = Array.from({ length: USERS }, (_, n) => `user-${n}`);
const keys = [{ id: 'test', secret: newKey() }];

/** Registers a function that ends something. The test calls it at its end, also if the failover fails before. */
export type AtEnd = (end: () => Promise<void>) => void;

export interface FailoverSettings {
  /** Whether commits wait until the standby has them. */
  isSynchronous: boolean;
  /** Whether the replication ends when a sixth of the callers have their tokens. */
  isCutOff: boolean;
}

/** What the caller for a user got in the end: a token or an error code. */
interface Answer {
  accessToken?: string;
  version?: string;
  code?: string;
}

/** The figures of one failover. */
export interface Failover {
  /** Users whose callers had their token before the kill. So the primary had acknowledged that the pair is stored. */
  acknowledged: string[];
  /** Acknowledged users whose pair is not in the data of the primary. */
  neverStored: string[];
  /** Acknowledged users whose pair the primary had and the promoted standby does not have. */
  unreplicated: string[];
  /**
   * Users whose callers got another answer than an application that the test started afterwards, or whose token is dead
   * at the provider.
   */
  differing: string[];
  /** The outcomes in the application that the test started afterwards. */
  outcomes: Outcomes;
  /** How often the provider gave each answer. */
  redemptions: Record<string, number>;
  /** Milliseconds from the kill until new connections reach the standby. */
  awayMs: number;
  /** Milliseconds from the kill until the last caller has its answer. */
  landedMs: number;
}

async function startTokens(databaseUrl: string, provider: HostileProvider, atEnd: AtEnd) {
  const { app } = await createTokensApp({
    databaseUrl,
    options: {
      encryption: { keys },
      identityProviders: {
        hostile: {
          clientId: 'client',
          clientSecret: 'secret',
          tokenEndpoint: `${provider.url}/token`,
          policy: { exchangeTimeoutMs: 5000, leaseMs: 8000, takeoverDelayMs: 500 },
        },
      },
      // No caller gets a token before the database has acknowledged the commit.
      refresh: { waitTimeoutMs: 60_000, commitWaitMs: 60_000, shutdownTimeoutMs: 5000 },
    },
  });
  let closing: Promise<void> | undefined;
  const close = () => (closing ??= app.close());
  atEnd(close);
  return { tokens: app.get(TokenManager), close };
}

/** Stores an expired pair of a new grant for every user. The provider spreads its answers over two seconds. */
async function storeExpiredPairs(tokens: TokenManager, provider: HostileProvider): Promise<void> {
  await Promise.all(
    users.map(async (user, n) => {
      const grant = await provider.newGrant();
      await provider.setFaults([grant.refreshToken], { kind: 'delay', ms: 50 + (n * 2000) / USERS });
      await tokens.storeIdpTokens(user, 'hostile', { ...grant, accessTokenExpiresAt: 1 });
    }),
  );
}

/** Asks for the token of a user as an application does. It asks again after a retryable error, for 45 s at most. */
async function ask(tokens: TokenManager, user: string): Promise<Answer> {
  const deadline = performance.now() + 45_000;
  for (;;) {
    try {
      const { accessToken, version } = await tokens.getIdpToken(user, 'hostile');
      return { accessToken, version };
    } catch (error) {
      const { code, retryable } = error as { code?: string; retryable?: boolean };
      if (retryable !== true || performance.now() > deadline) return { code };
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** Returns the token version of every user on a server. */
async function versionsOn(url: string): Promise<Map<unknown, unknown>> {
  const rows = await queryDatabase(url, 'SELECT keycloak_user_id, token_version FROM auth_tokens');
  return new Map(rows.map(({ keycloak_user_id: user, token_version: version }) => [user, version]));
}

/**
 * Refreshes the tokens of all users at once, kills the primary when a third of the callers have their tokens, promotes
 * the standby and redirects the applications to it. If the standby is synchronous and cut off, it kills the primary as
 * soon as a commit waits for the standby.
 */
export async function failOver({ isSynchronous, isCutOff }: FailoverSettings, atEnd: AtEnd): Promise<Failover> {
  const provider = await startHostileProvider({ mode: 'single-use', oldAccessTokenDies: true });
  atEnd(() => provider.stop());
  const pair = await startReplicatedPostgres({ isSynchronous });
  atEnd(() => pair.stop());
  // Applications know only the address of the proxy.
  const proxy = new DatabaseProxy(pair.primaryUrl);
  const url = await proxy.open();
  atEnd(() => proxy.close());
  const dataSource = await openDataSource(url);
  await runTokenMigrations(dataSource);
  await dataSource.destroy();
  const { tokens, close } = await startTokens(url, provider, atEnd);
  await storeExpiredPairs(tokens, provider);
  await pair.inStep();

  const answers = new Map<string, Answer>();
  const calls = users.map(async (user) => answers.set(user, await ask(tokens, user)));
  if (isCutOff) {
    await until(() => answers.size >= USERS / 6);
    await pair.cutOff();
  }
  // Without its synchronous standby the primary finishes no commit, so a third of the callers would never have answers.
  if (isCutOff && isSynchronous) await until(() => hasWaitingCommit(pair.primaryUrl));
  else await until(() => answers.size >= USERS / 3);
  await pair.killPrimary();
  const killedAt = performance.now();
  await pair.promote();

  // At this moment every answer is from the dead primary, because no application has reached the standby yet.
  const told = new Map(answers);
  const stored = await versionsOn(pair.standbyUrl);
  proxy.redirect(pair.standbyUrl);
  const awayMs = performance.now() - killedAt;
  await Promise.all(calls);
  const landedMs = performance.now() - killedAt;
  await close();

  const next = await startTokens(url, provider, atEnd);
  const { later, outcomes } = await askAndCount(next.tokens, provider);
  await next.close();
  const differing = users.filter((user) => JSON.stringify(answers.get(user)) !== JSON.stringify(later.get(user)));

  await pair.revivePrimary();
  const storedBefore = await versionsOn(pair.primaryUrl);
  const versionOf = (user: string) => told.get(user)?.version;
  const acknowledged = users.filter(versionOf);
  const neverStored = acknowledged.filter((user) => storedBefore.get(user) !== versionOf(user));
  const unreplicated = acknowledged.filter(
    (user) => storedBefore.get(user) === versionOf(user) && stored.get(user) !== versionOf(user),
  );
  const redemptions = await countRedemptions(provider);
  return { acknowledged, neverStored, unreplicated, differing, outcomes, redemptions, awayMs, landedMs };
}

async function hasWaitingCommit(url: string): Promise<boolean> {
  return (await queryDatabase(url, "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'")).length > 0;
}

/** Asks for every user's token and counts the outcomes. `later` has only answers whose token works at the provider. */
async function askAndCount(
  tokens: TokenManager,
  provider: HostileProvider,
): Promise<{ later: Map<string, Answer>; outcomes: Outcomes }> {
  const later = new Map<string, Answer>();
  const outcomes: Outcomes = { tried: USERS, recovered: 0, reauthentication: 0, lost: 0 };
  await Promise.all(
    users.map(async (user) => {
      const answer = await ask(tokens, user);
      if (answer.accessToken && (await provider.isAlive(answer.accessToken))) {
        later.set(user, answer);
        outcomes.recovered++;
      } else if (answer.code === 'ERR_TOKENS_REAUTHENTICATION_REQUIRED') outcomes.reauthentication++;
      else outcomes.lost++;
    }),
  );
  return { later, outcomes };
}

async function countRedemptions(provider: HostileProvider): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { outcome } of await provider.redemptions()) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}
