import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import { TokenManager, type TokensModuleOptions } from '../../src/index.js';
import { DatabaseProxy } from '../support/database-proxy.js';
import { type HostileProvider, startHostileProvider } from '../support/hostile-provider.js';
import { OutcomeTable } from '../support/outcome-table.js';
import { RowLock } from '../support/row-lock.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { type Outcome, startTokensWorker, type TokensWorker } from '../support/tokens-worker.js';
import { until } from '../support/until.js';

const LEASE_MS = 3000;
const TAKEOVER_DELAY_MS = 2000;
const CALLERS = 3;
const keys = [{ id: 'test', secret: newKey() }];
const table = new OutcomeTable();

let database: TestDatabase;
let provider: HostileProvider;
let proxy: DatabaseProxy;
/** The process that has the provider's answer and cannot store it for a while. */
let holder: TokensWorker;
let others: INestApplication[];
const workers: TokensWorker[] = [];

function moduleOptions(): TokensModuleOptions {
  return {
    encryption: { keys },
    identityProviders: {
      hostile: {
        clientId: 'client',
        clientSecret: 'secret',
        tokenEndpoint: `${provider.url}/token`,
        policy: { exchangeTimeoutMs: 1000, leaseMs: LEASE_MS, takeoverDelayMs: TAKEOVER_DELAY_MS },
      },
    },
    refresh: { waitTimeoutMs: 20_000, commitWaitMs: 20_000 },
    connectionTimeoutMs: 10_000,
  };
}

async function startWorker(databaseUrl = database.url): Promise<TokensWorker> {
  const worker = await startTokensWorker({ databaseUrl, poolSize: 4, options: moduleOptions() });
  workers.push(worker);
  return worker;
}

beforeAll(async () => {
  database = await createTestDatabase();
  provider = await startHostileProvider({ mode: 'single-use', oldAccessTokenDies: true });
});

afterAll(async () => {
  table.print();
  await provider.stop();
  await database.drop();
});

beforeEach(async () => {
  proxy = new DatabaseProxy(database.url);
  holder = await startWorker(await proxy.open());
  others = [];
  for (let count = 0; count < 2; count++) {
    others.push((await createTokensApp({ databaseUrl: database.url, options: moduleOptions() })).app);
  }
});

afterEach(async () => {
  for (const worker of workers.splice(0)) {
    worker.kill('SIGCONT');
    worker.kill('SIGKILL');
  }
  await Promise.all(others.map((app) => app.close()));
  await proxy.close();
});

let batches = 0;

/** Stores expired pairs and returns their users. Each user has a grant of its own. */
async function expiredUsers(count: number): Promise<string[]> {
  const batch = ++batches;
  const users = Array.from({ length: count }, (_, number) => `user-${batch}-${number}`);
  for (const user of users) {
    const grant = await provider.newGrant();
    await provider.setFaults([grant.refreshToken], { kind: 'delay', ms: 300 });
    await others[0]?.get(TokenManager).storeIdpTokens(user, 'hostile', { ...grant, accessTokenExpiresAt: 1 });
  }
  return users;
}

async function rows(users: string[]): Promise<Record<string, unknown>[]> {
  return database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = ANY($1) ORDER BY 1', [users]);
}

async function everyRow(users: string[], is: (row: Record<string, unknown>) => boolean): Promise<void> {
  await until(async () => (await rows(users)).every(is), 20_000);
}

/** The outcomes of the callers in the holder. */
interface Holding {
  readonly outcomes: Promise<Outcome[]>;
}

/**
 * Makes the holder redeem. `beforeAnswer` must block the commit; it runs when the provider has the requests. Settles
 * when the provider has answered.
 */
async function redeemInHolder(users: string[], beforeAnswer: () => unknown): Promise<Holding> {
  const before = (await provider.redemptions()).length;
  const outcomes = holder.get(users);
  outcomes.catch(() => undefined);
  await until(async () => (await provider.redemptions()).length === before + users.length);
  await beforeAnswer();
  await until(async () => (await provider.redemptions()).every(({ outcome }) => outcome !== 'pending'));
  return { outcomes };
}

/** Settles when other processes have taken every lease over, or the provider has received a token twice. */
async function takenOver(users: string[]): Promise<void> {
  await until(async () => {
    const isSentTwice = (await provider.redemptions()).some(({ outcome }) => outcome === 'reuse-punished');
    return isSentTwice || (await rows(users)).every(({ open_leases: open }) => Number(open) >= 2);
  }, 20_000);
}

/** Starts many callers for each user in every process but the holder. */
function askOthers(users: string[]): Promise<Outcome>[] {
  return others.flatMap((app) =>
    users.flatMap((user) =>
      Array.from({ length: CALLERS }, () =>
        app
          .get(TokenManager)
          .getIdpToken(user, 'hostile')
          .then(
            ({ accessToken, version }) => ({ accessToken, version }),
            (error: unknown) => ({ error: error instanceof Error ? error.name : String(error) }),
          ),
      ),
    ),
  );
}

/** Checks that no token was redeemed twice, that its new pair is stored, and that every caller got this pair. */
async function expectOnePairEach(fault: string, users: string[], outcomes: Outcome[]): Promise<void> {
  const sent = (await provider.redemptions()).slice(-users.length * 2);
  expect(sent.filter(({ outcome }) => outcome === 'reuse-punished')).toEqual([]);
  const stored = await rows(users);
  const wanted = stored.map(({ token_version: version }) => version);
  expect(stored.map(({ open_leases: open, status }) => [open, status])).toEqual(users.map(() => [0, 'active']));
  expect(new Set(outcomes.map(({ error, version }) => error ?? version))).toEqual(new Set(wanted));
  const tokens = new Set(outcomes.flatMap(({ accessToken }) => accessToken ?? []));
  expect(tokens.size).toBe(users.length);
  for (const accessToken of tokens) expect(await provider.isAlive(accessToken)).toBe(true);
  table.add(fault, { tried: users.length, recovered: tokens.size, reauthentication: 0, lost: 0 });
}

describe('A holder that has the provider’s answer keeps its grant', () => {
  it('when a transaction of the host locks the row past its lease and past the takeover delay', async () => {
    const users = await expiredUsers(4);
    const lock = new RowLock(database.url, users);
    const held = await redeemInHolder(users, () => lock.take());
    const asked = askOthers(users);
    await everyRow(users, ({ lease_expires_at: at }) => Number(at) + TAKEOVER_DELAY_MS + 500 < Date.now());
    holder.kill('SIGSTOP'); // so that it is the last to try
    await lock.release();
    await takenOver(users);
    holder.kill('SIGCONT');
    const outcomes = [...(await Promise.all(asked)), ...(await held.outcomes)];
    await expectOnePairEach('row locked past lease and takeover delay', users, outcomes);
  });

  it('when the lock is released and taken again several times', async () => {
    const users = await expiredUsers(4);
    const lock = new RowLock(database.url, users);
    const held = await redeemInHolder(users, () => lock.take());
    const asked = askOthers(users);
    await everyRow(users, ({ lease_expires_at: at }) => Number(at) < Date.now());
    holder.kill('SIGSTOP'); // so that it is the last to try
    await lock.release();
    await takenOver(users);
    for (let time = 0; time < 4; time++) {
      await lock.take();
      await new Promise((resolve) => setTimeout(resolve, 600));
      await lock.release();
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    holder.kill('SIGCONT');
    const outcomes = [...(await Promise.all(asked)), ...(await held.outcomes)];
    await expectOnePairEach('row locked again and again', users, outcomes);
  });

  it('when the lock begins only after another process has taken the lease over', async () => {
    const users = await expiredUsers(4);
    const held = await redeemInHolder(users, () => {
      proxy.block();
    });
    await everyRow(users, ({ lease_expires_at: at }) => Number(at) < Date.now());
    const asked = askOthers(users);
    await takenOver(users);
    const lock = new RowLock(database.url, users);
    await lock.take();
    proxy.unblock();
    await new Promise((resolve) => setTimeout(resolve, TAKEOVER_DELAY_MS + 1000));
    await lock.release();
    const outcomes = [...(await Promise.all(asked)), ...(await held.outcomes)];
    await expectOnePairEach('row locked after the takeover', users, outcomes);
  });

  it('when a process that has taken its lease over is killed while it waits, and a third one follows', async () => {
    const users = await expiredUsers(2);
    const held = await redeemInHolder(users, () => {
      proxy.block();
    });
    await everyRow(users, ({ lease_expires_at: at }) => Number(at) < Date.now());
    const second = await startWorker();
    second.get(users).catch(() => undefined);
    await takenOver(users);
    second.kill('SIGKILL');
    const asked = askOthers(users);
    await everyRow(users, ({ open_leases: open }) => open === 3);
    proxy.unblock();
    const outcomes = [...(await Promise.all(asked)), ...(await held.outcomes)];
    await expectOnePairEach('process killed while it waits for the holder', users, outcomes);
  });

  it('when it is stopped past its lease and goes on within the takeover delay', async () => {
    const users = await expiredUsers(2);
    const held = await redeemInHolder(users, () => {
      holder.kill('SIGSTOP');
    });
    await everyRow(users, ({ lease_expires_at: at }) => Number(at) < Date.now());
    const asked = askOthers(users);
    await takenOver(users);
    holder.kill('SIGCONT');
    const outcomes = [...(await Promise.all(asked)), ...(await held.outcomes)];
    await expectOnePairEach('holder stopped past its lease, goes on within the delay', users, outcomes);
  });
});

describe('A holder that is gone', () => {
  it('is waited for as long as the takeover delay, by one process, and then its token is sent', async () => {
    const [user = ''] = await expiredUsers(1);
    holder.get([user]).catch(() => undefined);
    await until(async () => (await rows([user])).every(({ open_leases: open }) => open === 1));
    holder.kill('SIGKILL');
    await everyRow([user], ({ lease_expires_at: at }) => Number(at) < Date.now());
    const before = (await provider.redemptions()).length;
    const askedAt = performance.now();
    const asked = askOthers([user]);
    await until(async () => (await provider.redemptions()).length > before);
    expect(performance.now() - askedAt).toBeGreaterThan(TAKEOVER_DELAY_MS);
    await Promise.all(asked);
    expect((await provider.redemptions()).length).toBe(before + 1);
  });
});
