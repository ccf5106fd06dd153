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

/** Takes what ends something that was started, also for when a failover fails half-way. */
export type AtEnd = (end: () => Promise<void>) => void;

export interface FailoverSettings {
  /** Whether commits wait until the standby has them. */
  isSynchronous: boolean;
  /** Whether the standby receives nothing more from when a sixth of the pairs is committed. */
  isCutOff: boolean;
}

/** What a user's caller got, or what it failed with in the end. */
interface Answer {
  accessToken?: string;
  version?: string;
  code?: string;
}

/** What one failover came to. */
export interface Failover {
  /** Users whose callers had their token, and so the primary's word that it is stored, when the primary was gone. */
  acknowledged: string[];
  /** Those of them whose pair the primary did not have, as its data show. */
  neverStored: string[];
  /** Those of them whose pair the primary had and the promoted standby does not. */
  unreplicated: string[];
  /** Users whose callers got another answer than an application that was started after all, or a token that is dead. */
  differing: string[];
  /** What that application came to. */
  outcomes: Outcomes;
  /** How often the provider gave which answer. */
  redemptions: Record<string, number>;
  /** From the kill until applications are led to the standby. */
  awayMs: number;
  /** From the kill until the last of the refreshes that it hit has landed. */
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
      // No caller gets a token before the database has said that it is stored.
      refresh: { waitTimeoutMs: 60_000, commitWaitMs: 60_000, shutdownTimeoutMs: 5000 },
    },
  });
  let closing: Promise<void> | undefined;
  const close = () => (closing ??= app.close());
  atEnd(close);
  return { tokens: app.get(TokenManager), close };
}

/** An expired pair of a grant of its own for every user. The provider's answers are spread over two seconds. */
async function storeExpiredPairs(tokens: TokenManager, provider: HostileProvider): Promise<void> {
  await Promise.all(
    users.map(async (user, n) => {
      const grant = await provider.newGrant();
      await provider.setFaults([grant.refreshToken], { kind: 'delay', ms: 50 + (n * 2000) / USERS });
      await tokens.storeIdpTokens(user, 'hostile', { ...grant, accessTokenExpiresAt: 1 });
    }),
  );
}

/** Asks for a user's token as an application does: again when it is told that this can help. */
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

/** The version of every user's pair on a server. */
async function versionsOn(url: string): Promise<Map<unknown, unknown>> {
  const rows = await queryDatabase(url, 'SELECT keycloak_user_id, token_version FROM auth_tokens');
  return new Map(rows.map(({ keycloak_user_id: user, token_version: version }) => [user, version]));
}

/**
 * Refreshes the tokens of all users at once, kills the primary when a third of the pairs is committed, promotes the
 * standby and leads the applications to it.
 */
export async function failOver({ isSynchronous, isCutOff }: FailoverSettings, atEnd: AtEnd): Promise<Failover> {
  const provider = await startHostileProvider({ mode: 'single-use', oldAccessTokenDies: true });
  atEnd(() => provider.stop());
  const pair = await startReplicatedPostgres({ isSynchronous });
  atEnd(() => pair.stop());
  // The one address at which applications find the primary.
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
  // A synchronous standby that is cut off lets no commit through any more.
  if (isCutOff && isSynchronous) await until(() => hasWaitingCommit(pair.primaryUrl));
  else await until(() => answers.size >= USERS / 3);
  await pair.killPrimary();
  const killedAt = performance.now();
  await pair.promote();

  // What the dead primary has said is known by now, and the promoted standby has said nothing yet.
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

/** Asks for every user's token and counts; the answers are those with a token that is alive at the provider. */
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
