import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import { TokenManager, type TokensModuleOptions } from '../../src/index.js';
import { DatabaseProxy } from '../support/database-proxy.js';
import {
  type Fault,
  type HostileProvider,
  type HostileProviderSettings,
  startHostileProvider,
} from '../support/hostile-provider.js';
import { type Outcomes, OutcomeTable } from '../support/outcome-table.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { type Outcome, startTokensWorker, type TokensWorker } from '../support/tokens-worker.js';
import { until } from '../support/until.js';

/** How a provider treats a refresh token that it has redeemed before. */
export type FaultMode = Exclude<HostileProviderSettings['mode'], 'no-rotation'>;

const keys = [{ id: 'test', secret: newKey() }];
const table = new OutcomeTable();

let database: TestDatabase;
let proxy: DatabaseProxy;
/** The application without faults. It represents the other processes of the host. */
let app: INestApplication;
let tokens: TokenManager;
let worker: TokensWorker;
let provider: HostileProvider;
let mode: FaultMode;

function moduleOptions(): TokensModuleOptions {
  return {
    encryption: { keys },
    identityProviders: {
      hostile: {
        clientId: 'client',
        clientSecret: 'secret',
        tokenEndpoint: `${provider.url}/token`,
        revocationEndpoint: `${provider.url}/revoke`,
        policy: {
          exchangeTimeoutMs: 1000,
          leaseMs: 3000,
          replayWindowMs: mode === 'single-use' ? 0 : 600_000,
          takeoverDelayMs: 100,
        },
      },
    },
    refresh: { waitTimeoutMs: 8000, backoffBaseMs: 50, backoffMaxMs: 100, commitWaitMs: 2000 },
  };
}

let batches = 0;

/** Stores expired pairs and returns their users. Each user has a grant of its own, with these faults. */
async function expiredUsers(count: number, ...faults: Fault[]): Promise<string[]> {
  const batch = ++batches;
  const users = Array.from({ length: count }, (_, n) => `user-${batch}-${n}`);
  for (const user of users) {
    const grant = await provider.newGrant();
    await provider.setFaults([grant.refreshToken], ...faults);
    await tokens.storeIdpTokens(user, 'hostile', { ...grant, accessTokenExpiresAt: 1 });
  }
  return users;
}

/** Starts the refreshes of users in the worker. Settles when the provider has all their requests. */
async function redeemInWorker(users: string[]): Promise<{ outcomes: Promise<Outcome[]> }> {
  const before = (await provider.redemptions()).length;
  const outcomes = worker.get(users);
  outcomes.catch(() => undefined); // a killed worker does not answer
  await until(async () => (await provider.redemptions()).length === before + users.length);
  return { outcomes };
}

/** Settles when the provider has answered the last requests, one for each of these users. */
async function answered(users: string[]): Promise<void> {
  await until(async () => {
    const redemptions = await provider.redemptions();
    return redemptions.slice(-users.length).every(({ outcome }) => outcome !== 'pending');
  });
}

/** Asks for every user's token until each has a final answer, for 30 s at most, and counts the outcomes. */
async function settle(users: string[]): Promise<Outcomes> {
  const outcomes: Outcomes = { tried: users.length, recovered: 0, reauthentication: 0, lost: 0 };
  await Promise.all(
    users.map(async (user) => {
      const deadline = performance.now() + 30_000;
      let rejectedVersion: string | undefined;
      for (;;) {
        try {
          const token = await tokens.getIdpToken(user, 'hostile', { rejectedVersion });
          if (await provider.isAlive(token.accessToken)) {
            outcomes.recovered++;
            return;
          }
          // An application rejects a token in this way when the API of the provider has refused it.
          if (token.version === rejectedVersion || performance.now() > deadline) {
            outcomes.lost++;
            return;
          }
          rejectedVersion = token.version;
        } catch (error) {
          const code = (error as { code?: string }).code;
          if (code === 'ERR_TOKENS_REAUTHENTICATION_REQUIRED') {
            outcomes.reauthentication++;
            return;
          }
          const isRetryable = (error as { retryable?: boolean }).retryable === true;
          if (!isRetryable || performance.now() > deadline) {
            outcomes.lost++;
            return;
          }
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
      }
    }),
  );
  return outcomes;
}

function expected(tried: number, kind: 'recovered' | 'reauthentication'): Outcomes {
  return { tried, recovered: 0, reauthentication: 0, lost: 0, [kind]: tried };
}

async function rows(users: string[]): Promise<Record<string, unknown>[]> {
  return database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = ANY($1) ORDER BY 1', [users]);
}

function versionsOf(stored: Record<string, unknown>[]): unknown[] {
  return stored.map(({ token_version: version }) => version);
}

/**
 * Defines the tests of one fault mode: processes are killed, connections break, and answers are lost. The suite prints
 * the counted outcomes.
 */
export function describeFaults(forMode: FaultMode): void {
  beforeAll(async () => {
    mode = forMode;
    database = await createTestDatabase();
    provider = await startHostileProvider({ mode, oldAccessTokenDies: true });
  }, 60_000);

  afterAll(async () => {
    table.print();
    await provider.stop();
    await database.drop();
  });

  beforeEach(async () => {
    proxy = new DatabaseProxy(database.url);
    ({ app } = await createTokensApp({ databaseUrl: database.url, options: moduleOptions() }));
    tokens = app.get(TokenManager);
    worker = await startTokensWorker({ databaseUrl: await proxy.open(), poolSize: 4, options: moduleOptions() });
  });

  afterEach(async () => {
    worker.kill('SIGCONT');
    worker.kill('SIGKILL');
    await proxy.close();
    await app.close();
  });

  it('kill -9 before the provider redeemed: another process takes over', async () => {
    // The test kills the holder when it has its leases and the provider has its requests and does not serve them.
    const users = await expiredUsers(5, { kind: 'stall' });
    await redeemInWorker(users);
    worker.kill('SIGKILL');
    const outcomes = await settle(users);
    table.add(`${mode}: kill -9 before the provider redeemed`, outcomes);
    expect(outcomes).toEqual(expected(5, 'recovered'));
  });

  it('kill -9 between the provider’s answer and the commit', async () => {
    const users = await expiredUsers(5, { kind: 'delay', ms: 300 });
    const untouched = await expiredUsers(3);
    const before = await rows(untouched);
    await redeemInWorker(users);
    proxy.block();
    await answered(users);
    worker.kill('SIGKILL');
    await proxy.close(); // drops the commits that the proxy has not forwarded
    const outcomes = await settle(users);
    table.add(`${mode}: kill -9 between answer and commit`, outcomes);
    expect(outcomes).toEqual(expected(5, mode === 'single-use' ? 'reauthentication' : 'recovered'));
    await expect(rows(untouched)).resolves.toEqual(before);
    expect(await rows(users)).toHaveLength(5);
  });

  it('the holder stopped past its lease: its late success lands', async () => {
    const users = await expiredUsers(3, { kind: 'delay', ms: 300 });
    const { outcomes: answers } = await redeemInWorker(users);
    worker.kill('SIGSTOP');
    await answered(users);
    await until(async () => (await rows(users)).every(({ lease_expires_at: at }) => Number(at) < Date.now()));
    await new Promise((resolve) => setTimeout(resolve, 300));
    worker.kill('SIGCONT');
    expect((await answers).map(({ error }) => error)).toEqual([undefined, undefined, undefined]);
    const outcomes = await settle(users);
    table.add(`${mode}: holder stopped past its lease, no takeover`, outcomes);
    expect(outcomes).toEqual(expected(3, 'recovered'));
    const stored = await rows(users);
    expect(stored.map(({ open_leases }) => open_leases)).toEqual([0, 0, 0]);
  });

  it('the holder stopped past its lease while another took over: the pair in the row works', async () => {
    const users = await expiredUsers(3, { kind: 'delay', ms: 300 });
    const { outcomes: answers } = await redeemInWorker(users);
    worker.kill('SIGSTOP');
    await answered(users);
    const isSingleUse = mode === 'single-use';
    const expectedOutcomes = expected(3, isSingleUse ? 'reauthentication' : 'recovered');
    await expect(settle(users)).resolves.toEqual(expectedOutcomes);
    const takenOver = await rows(users);
    worker.kill('SIGCONT');
    await answers;
    // The holder has now tried to commit its pair. Inside a replay window the row keeps the newer sibling. With a
    // single-use token the row gets the pair of the holder. But the takeover has ended the grant of this pair, and the
    // module learns that only when the provider refuses a call.
    if (!isSingleUse) expect(versionsOf(await rows(users))).toEqual(versionsOf(takenOver));
    const outcomes = await settle(users);
    table.add(`${mode}: holder stopped past its lease, another took over`, outcomes);
    expect(outcomes).toEqual(expectedOutcomes);
  });

  it('pg_terminate_backend on the commit: it is tried again and lands', async () => {
    const users = await expiredUsers(5, { kind: 'delay', ms: 300 });
    const { outcomes: answers } = await redeemInWorker(users);
    proxy.block();
    await answered(users);
    await database.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
         AND pid <> pg_backend_pid() AND application_name = ''`,
    );
    proxy.unblock();
    expect((await answers).filter(({ error }) => error)).toEqual([]);
    const outcomes = await settle(users);
    table.add(`${mode}: pg_terminate_backend on the commit`, outcomes);
    expect(outcomes).toEqual(expected(5, 'recovered'));
  });

  it('the answer to the commit lost: it is recognised by its version', async () => {
    const users = await expiredUsers(4, { kind: 'delay', ms: 300 });
    const before = (await provider.redemptions()).length;
    const { outcomes: answers } = await redeemInWorker(users);
    proxy.loseAnswers();
    await until(async () => (await rows(users)).every(({ parent_version: parent }) => parent !== null));
    const answered = await answers;
    expect(answered.filter(({ error }) => error)).toEqual([]);
    const versions = new Set((await rows(users)).map(({ token_version: version }) => version));
    expect(new Set(answered.map(({ version }) => version))).toEqual(versions);
    const outcomes = await settle(users);
    table.add(`${mode}: answer to the commit lost`, outcomes);
    expect(outcomes).toEqual(expected(4, 'recovered'));
    expect((await provider.redemptions()).length).toBe(before + 4);
  });

  it.each<[Fault['kind'], 'recovered' | 'reauthentication']>([
    ['rate-limit', 'recovered'],
    ['unavailable', 'recovered'],
    ['reset-before', 'recovered'],
    ['omit-refresh-token', 'recovered'],
    ['hang-after-rotating', 'reauthentication'],
    ['error-after-rotating', 'reauthentication'],
    ['reset-after-rotating', 'reauthentication'],
    ['malformed', 'reauthentication'],
    ['oversized', 'reauthentication'],
    ['slow-drip', 'reauthentication'],
  ])('the fault %s', async (kind, ofSingleUse) => {
    const users = await expiredUsers(2, { kind });
    const outcomes = await settle(users);
    table.add(`${mode}: ${kind}`, outcomes);
    expect(outcomes).toEqual(expected(2, mode === 'single-use' ? ofSingleUse : 'recovered'));
    expect(await rows(users)).toHaveLength(2);
  });
}
