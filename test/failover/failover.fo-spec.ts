import { afterAll, afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { runTokenMigrations, TokenManager } from '../../src/index.js';
import { DatabaseProxy } from '../support/database-proxy.js';
import { type HostileProvider, startHostileProvider } from '../support/hostile-provider.js';
import { type Outcomes, OutcomeTable } from '../support/outcome-table.js';
import { type ReplicatedPostgres, startReplicatedPostgres } from '../support/replicated-postgres.js';
import { openDataSource } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { until } from '../support/until.js';

const USERS = 300;
const users = Array.from({ length: USERS }, (_, n) => `user-${n}`);
const keys = [{ id: 'test', secret: newKey() }];
const table = new OutcomeTable();

/** What a test has started, to be ended in the opposite order, also when it fails half-way. */
const started: (() => Promise<void>)[] = [];

let provider: HostileProvider;

/** What a user's caller got, or what it failed with in the end. */
type Answer = { accessToken: string; version: string } | { code: string | undefined };

/** What one failover came to. */
interface Failover {
  /** Users whose callers had their token, and so the primary's word that it is stored, when the primary was gone. */
  acknowledged: string[];
  /** Those of them whose pair the promoted standby does not have. */
  unreplicated: string[];
  /** What the callers got whose refreshes the failover hit. */
  answers: Map<string, Answer>;
  /** What an application that was started after all got, of tokens that are alive at the provider. */
  later: Map<string, Answer>;
  outcomes: Outcomes;
}

beforeEach(async () => {
  provider = await startHostileProvider({ mode: 'single-use', oldAccessTokenDies: true });
  started.push(() => provider.stop());
});

afterEach(async () => {
  for (const end of started.splice(0).reverse()) await end();
});

afterAll(() => {
  table.print();
});

async function startTokens(databaseUrl: string) {
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
  started.push(close);
  return { tokens: app.get(TokenManager), close };
}

/** An expired pair of a grant of its own for every user. The provider's answers are spread over two seconds. */
async function storeExpiredPairs(tokens: TokenManager): Promise<void> {
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

async function versionsOf(rows: Promise<Record<string, unknown>[]>): Promise<Map<unknown, unknown>> {
  return new Map((await rows).map(({ keycloak_user_id: user, token_version: version }) => [user, version]));
}

/**
 * Refreshes the tokens of all users at once, kills the primary when a third of the pairs is committed, promotes the
 * standby and leads the applications to it.
 *
 * @param isCutOff whether the standby receives nothing more from when a sixth is committed
 */
async function failOver(name: string, { isSynchronous = false, isCutOff = false }): Promise<Failover> {
  const pair = await startReplicatedPostgres({ isSynchronous });
  started.push(() => pair.stop());
  // The one address at which applications find the primary.
  const proxy = new DatabaseProxy(pair.primaryUrl);
  const url = await proxy.open();
  started.push(() => proxy.close());
  const dataSource = await openDataSource(url);
  await runTokenMigrations(dataSource);
  await dataSource.destroy();
  const { tokens, close } = await startTokens(url);
  await storeExpiredPairs(tokens);
  await pair.inStep();

  const answers = new Map<string, Answer>();
  const calls = users.map(async (user) => answers.set(user, await ask(tokens, user)));
  if (isCutOff) {
    await until(() => answers.size >= USERS / 6);
    await pair.cutOff();
  }
  // A synchronous standby that is cut off lets no commit through any more.
  if (isCutOff && isSynchronous) await until(() => hasWaitingCommit(pair));
  else await until(() => answers.size >= USERS / 3);
  await pair.killPrimary();
  const killedAt = performance.now();
  await pair.promote();

  // What the dead primary has said is known by now, and the promoted standby has said nothing yet.
  const told = new Map(answers);
  const stored = await versionsOf(pair.onStandby('SELECT keycloak_user_id, token_version FROM auth_tokens'));
  proxy.redirect(pair.standbyUrl);
  const awayMs = performance.now() - killedAt;
  await Promise.all(calls);
  const landedMs = performance.now() - killedAt;
  await close();

  const { later, outcomes } = await askAfresh(url);
  table.add(name, outcomes);
  const acknowledged = [...told].filter(([, answer]) => 'version' in answer);
  const unreplicated = acknowledged.filter(
    ([user, answer]) => 'version' in answer && stored.get(user) !== answer.version,
  );
  process.stdout.write(
    `${name}: ${acknowledged.length} pairs acknowledged by the dead primary, ${unreplicated.length} of them not on the ` +
      `standby; away for ${Math.round(awayMs)} ms, all refreshes landed after ${Math.round(landedMs)} ms\n`,
  );
  return {
    acknowledged: acknowledged.map(([user]) => user),
    unreplicated: unreplicated.map(([user]) => user),
    answers,
    later,
    outcomes,
  };
}

async function hasWaitingCommit(pair: ReplicatedPostgres): Promise<boolean> {
  return (await pair.onPrimary("SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'")).length > 0;
}

/** Asks for every user's token in a new application, and counts. */
async function askAfresh(url: string): Promise<Pick<Failover, 'later' | 'outcomes'>> {
  const later = new Map<string, Answer>();
  const outcomes: Outcomes = { tried: USERS, recovered: 0, reauthentication: 0, lost: 0 };
  const { tokens, close } = await startTokens(url);
  await Promise.all(
    users.map(async (user) => {
      const answer = await ask(tokens, user);
      if ('accessToken' in answer && (await provider.isAlive(answer.accessToken))) {
        later.set(user, answer);
        outcomes.recovered++;
      } else if ('code' in answer && answer.code === 'ERR_TOKENS_REAUTHENTICATION_REQUIRED')
        outcomes.reauthentication++;
      else outcomes.lost++;
    }),
  );
  await close();
  return { later, outcomes };
}

/** Users whose caller got another answer than the new application, or none. */
function differing({ answers, later }: Failover): string[] {
  return users.filter((user) => JSON.stringify(answers.get(user)) !== JSON.stringify(later.get(user)));
}

/** How often the provider gave which answer. */
async function countRedemptions(): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { outcome } of await provider.redemptions()) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

const NOBODY_LOST: Outcomes = { tried: USERS, recovered: USERS, reauthentication: 0, lost: 0 };

describe('A primary that is killed while refreshed pairs are committed costs', () => {
  it('nothing where its standby was synchronous: each refresh token is redeemed once, each pair lands', async () => {
    const failover = await failOver('synchronous standby', { isSynchronous: true });
    expect(failover.acknowledged.length).toBeLessThan(USERS);
    expect(failover.unreplicated).toEqual([]);
    expect(failover.outcomes).toEqual(NOBODY_LOST);
    expect(differing(failover)).toEqual([]);
    await expect(countRedemptions()).resolves.toEqual({ redeemed: USERS });
  });

  it('nothing where its synchronous standby was out of reach before: the commits waited, and land on it', async () => {
    const failover = await failOver('synchronous standby, cut off before', { isSynchronous: true, isCutOff: true });
    expect(failover.acknowledged.length).toBeLessThan(USERS);
    expect(failover.unreplicated).toEqual([]);
    expect(failover.outcomes).toEqual(NOBODY_LOST);
    expect(differing(failover)).toEqual([]);
    await expect(countRedemptions()).resolves.toEqual({ redeemed: USERS });
  });

  it('where its standby was asynchronous, the pairs that had not reached that, and no other', async () => {
    await expectOnlyUnreplicatedLost(await failOver('asynchronous standby', {}));
  });

  it('where its asynchronous standby was out of reach before, the pairs stored since, and no other', async () => {
    const failover = await failOver('asynchronous standby, cut off before', { isCutOff: true });
    expect(failover.unreplicated.length).toBeGreaterThan(0);
    await expectOnlyUnreplicatedLost(failover);
  });
});

async function expectOnlyUnreplicatedLost(failover: Failover): Promise<void> {
  const { acknowledged, unreplicated, outcomes } = failover;
  const lost = unreplicated.length;
  expect(acknowledged.length).toBeLessThan(USERS);
  expect(differing(failover)).toEqual(users.filter((user) => unreplicated.includes(user)));
  // Their users connect the account again: the standby has the refresh token that is spent.
  expect(outcomes).toEqual({ tried: USERS, recovered: USERS - lost, reauthentication: lost, lost: 0 });
  const { redeemed, 'reuse-punished': punished = 0 } = await countRedemptions();
  expect({ redeemed, punished }).toEqual({ redeemed: USERS, punished: lost });
}
