import { setTimeout as delay } from 'node:timers/promises';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import pg from 'pg';
import type { DataSource } from 'typeorm';

import { completePolicy, type RefreshAnswer, TokenManager } from '../src/index.js';
import { LeasedTable } from '../src/storage/leases/leased.table.js';
import { DatabaseProxy } from './support/database-proxy.js';
import { statementName } from './support/statement-name.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const USERS = Array.from({ length: 60 }, (_, number) => `user-${number}`);

let database: TestDatabase;
let proxy: DatabaseProxy;
let apps: { app: INestApplication; dataSource: DataSource }[];
let redeemed: string[];
/** Runs when the provider has all refresh tokens, and before it answers. */
let beforeAnswers: () => Promise<unknown>;
/** Settles when the provider may answer. */
let allAreThere: { promise: Promise<unknown>; resolve: (value?: unknown) => void; reject: (reason: unknown) => void };

beforeAll(async () => {
  database = await createTestDatabase();
  proxy = new DatabaseProxy(database.url);
  const encryption = { keys: [{ id: 'test', secret: Buffer.alloc(32, 7).toString('base64') }] };
  const identityProviders = {
    acme: { policy: completePolicy(), refresh: answerTogether },
    other: { policy: completePolicy({ replayWindowMs: 60_000 }), refresh: answerTogether },
  };
  const options = { encryption, identityProviders };
  apps = [
    await createTokensApp({ databaseUrl: await proxy.open(), poolSize: 4, options }),
    await createTokensApp({ databaseUrl: database.url, poolSize: 4, options }),
  ];
});

beforeEach(async () => {
  redeemed = [];
  beforeAnswers = () => Promise.resolve();
  allAreThere = deferred();
  await Promise.all(USERS.map((user) => storeStale(user)));
});

afterEach(async () => {
  jest.restoreAllMocks(); // a test that fails leaves its spies
  await until(() => apps.every(({ dataSource }) => connectionsInUse(dataSource) === 0));
});

afterAll(async () => {
  await Promise.all(apps.map(({ app }) => app.close()));
  await proxy.close();
  await database.drop();
});

/** Delays every answer until the provider has all refresh tokens, so that the pairs are stored together. */
async function answerTogether(refreshToken: string): Promise<RefreshAnswer> {
  redeemed.push(refreshToken);
  if (redeemed.length === USERS.length) void beforeAnswers().then(allAreThere.resolve, allAreThere.reject);
  await allAreThere.promise;
  const successor = refreshToken.replace('refresh', 'new');
  return {
    kind: 'success',
    tokens: { accessToken: successor, refreshToken: `${successor}-refresh`, accessTokenExpiresIn: 3600 },
  };
}

function deferred(): typeof allAreThere {
  let [resolve, reject]: [(value?: unknown) => void, (reason: unknown) => void] = [() => undefined, () => undefined];
  const promise = new Promise((onResolve, onReject) => ([resolve, reject] = [onResolve, onReject]));
  return { promise, resolve, reject };
}

function manager(number = 0): TokenManager {
  const found = apps[number];
  if (!found) throw new Error(`There is no application ${number}.`);
  return found.app.get(TokenManager);
}

function idpOf(user: string): string {
  return USERS.indexOf(user) % 2 === 0 ? 'acme' : 'other';
}

async function storeStale(user: string): Promise<void> {
  await manager(1).storeIdpTokens(user, idpOf(user), {
    accessToken: `old of ${user}`,
    refreshToken: `refresh of ${user}`,
    accessTokenExpiresAt: Math.floor(Date.now() / 1000) - 1,
  });
}

/** Counts the statements that PostgreSQL answers from now on, by their names, and the users of each. */
function spyOnStatements() {
  const answered: { name: string; users: number }[] = [];
  const query = Reflect.get(pg.Client.prototype, 'query') as (...values: unknown[]) => unknown;
  const spy = jest.spyOn(pg.Client.prototype, 'query').mockImplementation(function (
    this: pg.Client,
    ...values: unknown[]
  ) {
    const name = statementName(values[0]);
    const { values: parameters } = Object(values[0]) as { values?: unknown[] };
    const users = Array.isArray(parameters?.[0]) ? parameters[0].length : 1;
    const answer = query.apply(this, values);
    if (name) void Promise.resolve(answer).then(() => answered.push({ name, users }));
    return answer;
  });
  const named = (pattern: RegExp) => answered.filter(({ name }) => pattern.test(name));
  return {
    count: (pattern: RegExp) => named(pattern).length,
    users: (pattern: RegExp) => named(pattern).reduce((sum, { users }) => sum + users, 0),
    restore: () => {
      spy.mockRestore();
    },
  };
}

async function refreshAll(): Promise<string[]> {
  const all = await Promise.all(USERS.map((user) => manager().getIdpToken(user, idpOf(user))));
  return all.map(({ accessToken }) => accessToken);
}

/** Returns the access tokens that the other application reads. */
async function stored(): Promise<string[]> {
  const all = await Promise.all(USERS.map((user) => manager(1).getIdpToken(user, idpOf(user))));
  return all.map(({ accessToken }) => accessToken);
}

const NEW = USERS.map((user) => `new of ${user}`);

describe('refreshes of many users at once', () => {
  it('share their statements, and each user gets their own token', async () => {
    const statements = spyOnStatements();
    // The lock blocks the first two lease statements. So no lease is granted and no third statement runs before all
    // refreshes have asked for their leases.
    const asked = jest.spyOn(LeasedTable.prototype, 'acquire');
    const host = new pg.Client({ connectionString: database.url });
    await host.connect();
    await host.query('BEGIN');
    await host.query('LOCK TABLE auth_tokens IN SHARE MODE');
    const lockedAt = performance.now();
    const all = refreshAll();
    await until(() => asked.mock.calls.length >= USERS.length);
    await host.query('COMMIT');
    await until(() => statements.users(/^idp_tokens_acquire/) >= USERS.length);
    const waitedMs = performance.now() - lockedAt;
    asked.mockRestore();
    await host.end();
    await expect(all).resolves.toEqual(NEW);
    statements.restore();

    // Two lease statements are under way, and two more have all the other calls. A call waits 250 ms at most for the
    // statements under way, so two more can start each 250 ms. The pairs arrive in one turn, so two statements commit
    // them.
    expect(statements.users(/^idp_tokens_acquire/)).toBe(USERS.length);
    expect(statements.count(/^idp_tokens_acquire/)).toBeGreaterThan(1);
    expect(statements.count(/^idp_tokens_acquire/)).toBeLessThanOrEqual(4 + 2 * Math.floor(waitedMs / 250));
    expect(statements.count(/^idp_tokens_commit/)).toBe(2);
    await expect(stored()).resolves.toEqual(NEW);
    expect([...redeemed].sort()).toEqual(USERS.map((user) => `refresh of ${user}`).sort());
  });

  it('leave rows that are clean and name the exchange', async () => {
    const before = await database.query('SELECT id, token_version FROM auth_tokens ORDER BY id');
    await refreshAll();
    const after = await database.query(
      `SELECT id, parent_version AS token_version FROM auth_tokens
         WHERE lease_id IS NULL AND lease_expires_at IS NULL AND open_leases = 0 AND failure_count = 0 ORDER BY id`,
    );
    expect(after).toEqual(before);
  });

  it('of two processes are redeemed once each', async () => {
    const byBoth = await Promise.all(
      USERS.flatMap((user) => [manager(0), manager(1)].map((tokens) => tokens.getIdpToken(user, idpOf(user)))),
    );
    expect(new Set(byBoth.map(({ accessToken }) => accessToken))).toEqual(new Set(NEW));
    expect(redeemed).toHaveLength(USERS.length);
  });

  it('are not held up by one whose row a transaction of the host has: its pair is stored when the row is free', async () => {
    const host = new pg.Client({ connectionString: database.url });
    await host.connect();
    beforeAnswers = async () => {
      await host.query('BEGIN');
      await host.query("SELECT FROM auth_tokens WHERE keycloak_user_id = 'user-7' FOR UPDATE");
    };
    const all = refreshAll();
    const landed = () =>
      database.query('SELECT FROM auth_tokens WHERE parent_version IS NOT NULL').then(({ length }) => length);
    await until(async () => (await landed()) === USERS.length - 1);
    await delay(100);
    expect(await landed()).toBe(USERS.length - 1);
    await host.query('COMMIT');
    await host.end();
    await expect(all).resolves.toEqual(NEW);
    await expect(stored()).resolves.toEqual(NEW);
    expect(redeemed).toHaveLength(USERS.length);
  });

  it('are stored once when the answer to the statement that stored them is lost', async () => {
    beforeAnswers = () => {
      proxy.loseAnswers();
      return Promise.resolve();
    };
    await expect(refreshAll()).resolves.toEqual(NEW);
    await expect(stored()).resolves.toEqual(NEW);
    expect(redeemed).toHaveLength(USERS.length);
  });

  it('give way to a deletion and to a new login of some, and store the others', async () => {
    beforeAnswers = async () => {
      await manager(1).storeIdpTokens('user-3', 'other', { accessToken: 'new login', refreshToken: 'r' });
      await manager(1).revokeIdpTokens('user-4', 'acme');
    };
    const all = await Promise.allSettled(USERS.map((user) => manager().getIdpToken(user, idpOf(user))));
    const tokens = all.map((one) => (one.status === 'fulfilled' ? one.value.accessToken : String(one.reason)));
    expect(tokens).toEqual(
      NEW.map((token, number) => {
        if (number === 3) return 'new login';
        return number === 4 ? expect.stringContaining('TokensNotFoundError') : token;
      }),
    );
  });

  it('survive that the database is away when all of them are to be stored', async () => {
    beforeAnswers = async () => {
      await proxy.close();
      setTimeout(() => void proxy.open(), 500);
    };
    await expect(refreshAll()).resolves.toEqual(NEW);
    await expect(stored()).resolves.toEqual(NEW);
    expect(redeemed).toHaveLength(USERS.length);
  });
});
