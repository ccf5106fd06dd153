import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource, QueryRunner } from 'typeorm';

import { AuthTokenStore, OfflineTokenStore, QueryRunnerScope, TokenManager } from '../src/index.js';
import { DatabaseProxy } from './support/database-proxy.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { everyStatement, outcomesOf, PAIR } from './support/token-statements.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const LOST = { code: 'ERR_TOKENS_STORE_UNAVAILABLE' };
const MISUSED = { code: 'ERR_TOKENS_USAGE' };

let database: TestDatabase;
let proxy: DatabaseProxy;
let endpoint: TokenEndpoint;
let app: INestApplication;
let dataSource: DataSource;
let scope: QueryRunnerScope;
let store: AuthTokenStore;
let offlineTokens: OfflineTokenStore;
let tokens: TokenManager;
let hostRunner: QueryRunner | undefined;

beforeAll(async () => {
  database = await createTestDatabase();
  proxy = new DatabaseProxy(database.url);
  endpoint = await startTokenEndpoint();
  endpoint.answerRevocation = () => ({ status: 503 });
  const client = { clientId: 'client', clientSecret: 'client-secret' };
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: await proxy.open(),
    poolSize: 4,
    options: {
      hostQueryRunner: () => hostRunner,
      connectionTimeoutMs: 2000,
      identityProviders: {
        acme: { ...client, tokenEndpoint: endpoint.url, revocationEndpoint: `${endpoint.url}/revoke` },
      },
    },
  }));
  scope = app.get(QueryRunnerScope);
  store = app.get(AuthTokenStore);
  offlineTokens = app.get(OfflineTokenStore);
  tokens = app.get(TokenManager);
});

let victim = '';
let writer = '';
let users = 0;

beforeEach(async () => {
  victim = `victim-${++users}`;
  writer = `writer-${users}`;
  endpoint.revoked.length = 0;
  await database.query('DELETE FROM token_revocations');
  await tokens.storeIdpTokens(victim, 'acme', { accessToken: 'access', refreshToken: 'refresh' });
  await offlineTokens.storeToken(victim, 'offline');
});

afterEach(async () => {
  hostRunner = undefined;
  await until(() => connectionsInUse(dataSource) === 0);
});

afterAll(async () => {
  await app.close();
  await endpoint.close();
  await proxy.close();
  await database.drop();
});

function storeFor(user: string, idp = 'acme'): Promise<void> {
  return store.storeTokens({ keycloakUserId: user, idp }, PAIR);
}

/** Runs every kind of statement and returns the outcomes. */
function outcomes(): Promise<Record<string, unknown>> {
  return outcomesOf(everyStatement(app, victim, writer));
}

/** Returns this outcome for every kind of statement. */
function all(outcome: unknown): Record<string, unknown> {
  return Object.fromEntries(everyStatement(app, victim, writer).map(([name]) => [name, outcome]));
}

async function expectNothingHappened(): Promise<void> {
  const [found] = await database.query(
    `SELECT (SELECT count(*)::int FROM auth_tokens WHERE keycloak_user_id = $1) AS victim,
       (SELECT offline_token FROM offline_tokens WHERE user_id = $1) AS offline,
       (SELECT count(*)::int FROM auth_tokens WHERE keycloak_user_id = $2) AS stored,
       (SELECT count(*)::int FROM offline_tokens WHERE user_id = $2) AS offline_stored,
       (SELECT count(*)::int FROM token_revocations) AS revocations`,
    [victim, writer],
  );
  expect(found).toEqual({ victim: 1, offline: 'offline', stored: 0, offline_stored: 0, revocations: 0 });
  expect(endpoint.revoked).toEqual([]);
  await until(() => connectionsInUse(dataSource) === 0);
  const open = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
  await expect(database.query(open)).resolves.toEqual([]);
}

async function backendOf(runner: QueryRunner): Promise<unknown> {
  const [found] = (await runner.query('SELECT pg_backend_pid() AS pid')) as { pid: number }[];
  return found?.pid;
}

const deaths: [string, (runner: QueryRunner) => Promise<unknown>][] = [
  [
    'idle_in_transaction_session_timeout',
    (runner) => runner.query("SELECT set_config('idle_in_transaction_session_timeout', '30', false)"),
  ],
  [
    'pg_terminate_backend',
    async (runner) => database.query('SELECT pg_terminate_backend($1)', [await backendOf(runner)]),
  ],
];

/** Ends the connection of a transaction, and returns when this process has seen it. */
async function lose(runner: QueryRunner, death = deaths[1]): Promise<void> {
  await death?.[1](runner);
  await until(() => runner.isReleased);
}

/** Runs work in a transaction that a host begins and ends itself. */
async function asHost(work: (runner: QueryRunner) => Promise<void>): Promise<void> {
  const runner = dataSource.createQueryRunner();
  await runner.startTransaction();
  try {
    await work(runner);
    await runner.commitTransaction();
  } finally {
    await runner.release();
  }
}

type Work = (runner: QueryRunner) => Promise<void>;
const ALREADY_RELEASED = { name: 'QueryRunnerAlreadyReleasedError' };
/** The ways into a transaction, and the error of each if its connection died and the work does not report it. */
const entries: [string, (work: Work) => Promise<unknown>, object][] = [
  ['run', (work) => scope.run(work), LOST],
  ['a lazy run', (work) => scope.run(work, { lazy: true }), LOST],
  ['a run in a run', (work) => scope.run(() => scope.run(work)), LOST],
  ['a join in a run', (work) => scope.run((runner) => scope.join(runner, () => work(runner))), LOST],
  ['join', (work) => asHost((runner) => scope.join(runner, () => work(runner))), ALREADY_RELEASED],
  ['a run in a join', (work) => asHost((runner) => scope.join(runner, () => scope.run(work))), ALREADY_RELEASED],
  [
    'hostQueryRunner',
    (work) =>
      asHost(async (runner) => {
        hostRunner = runner;
        await work(runner);
      }),
    ALREADY_RELEASED,
  ],
];

describe.each(entries)('a transaction of %s', (_, enter, told) => {
  it.each(deaths)('that %s ends takes no statement any more, and has none run outside', async (...death) => {
    let results: Record<string, unknown> = {};
    const ended = enter(async (runner) => {
      await storeFor(writer, 'before');
      await lose(runner, death);
      results = await outcomes();
    });
    await expect(ended).rejects.toThrow();
    hostRunner = undefined;
    expect(results).toEqual(all(LOST.code));
    await expectNothingHappened();
    await expect(storeFor(writer)).resolves.toBeUndefined();
  });

  it('tells its owner so when the work has swallowed all errors', async () => {
    const ended = enter(async (runner) => {
      await storeFor(writer);
      await lose(runner);
      await storeFor(writer).catch(() => undefined);
    });
    await expect(ended).rejects.toMatchObject(told);
    hostRunner = undefined;
    await expectNothingHappened();
  });

  it('has the statements rejected that are under way or queued when the connection dies', async () => {
    let settled: PromiseSettledResult<void>[] = [];
    const ended = enter(async (runner) => {
      const pid = await backendOf(runner);
      const stores = Array.from({ length: 20 }, (_, each) => storeFor(writer, `idp-${each}`));
      const killed = database.query('SELECT pg_terminate_backend($1)', [pid]);
      const later = killed.then(() => Promise.allSettled(Array.from({ length: 20 }, () => storeFor(writer))));
      settled = [...(await Promise.allSettled(stores)), ...(await later)];
      await until(() => runner.isReleased);
    });
    await expect(ended).rejects.toThrow();
    hostRunner = undefined;
    expect(settled.slice(20).map(({ status }) => status)).toEqual(Array(20).fill('rejected'));
    for (const each of settled) if (each.status === 'rejected') expect(each.reason).toMatchObject(LOST);
    await expectNothingHappened();
  });
});

describe('the transaction of run', () => {
  it('lets work that outlives it run outside, also after its connection died', async () => {
    const over = new AbortController();
    let late: Promise<void> = Promise.resolve();
    const run = scope.run(async (runner) => {
      late = until(() => over.signal.aborted).then(() => storeFor(writer));
      await lose(runner);
    });
    await expect(run).rejects.toMatchObject(LOST);
    await expectNothingHappened();
    over.abort();
    await expect(late).resolves.toBeUndefined();
    await expect(store.loadTokens({ keycloakUserId: writer, idp: 'acme' })).resolves.not.toBeNull();
  });

  it.each([false, true])(
    'has nothing run outside when the connection dies while it begins (lazy: %s)',
    async (lazy) => {
      await dataSource.query('SELECT 1'); // on a connection that stays open
      proxy.block();
      const run = scope.run(() => storeFor(writer), { lazy });
      await until(() => connectionsInUse(dataSource) === 1);
      proxy.reset();
      proxy.unblock();
      await expect(run).rejects.toMatchObject(LOST);
      await expectNothingHappened();
    },
  );

  it.each(['commitTransaction', 'rollbackTransaction'] as const)(
    'takes no statement while %s is under way that the work has called',
    async (end) => {
      const run = scope.run((runner) => Promise.all([runner[end](), storeFor(writer)]));
      await expect(run).rejects.toMatchObject(MISUSED);
      await expectNothingHappened();
    },
  );

  it.each<[string, (runner: QueryRunner) => Promise<unknown>]>([
    ['commitTransaction()', (runner) => runner.commitTransaction()],
    ['rollbackTransaction()', (runner) => runner.rollbackTransaction()],
    ["query('COMMIT')", (runner) => runner.query('COMMIT')],
    ["query('ROLLBACK')", (runner) => runner.query('ROLLBACK')],
  ])('takes no statement after the work has called %s', async (_, end) => {
    let results: Record<string, unknown> = {};
    const run = scope.run(async (runner) => {
      await end(runner);
      results = await outcomes();
    });
    await expect(run).rejects.toMatchObject(MISUSED);
    expect(results).toEqual(all(MISUSED.code));
    await expectNothingHappened();
  });

  it('is not taken for another that the work has begun in its place', async () => {
    const run = scope.run(async (runner) => {
      await storeFor(writer);
      await runner.rollbackTransaction();
      await runner.startTransaction();
      await storeFor(writer, 'second');
    });
    await expect(run).rejects.toMatchObject(MISUSED);
    await expectNothingHappened();
  });

  it('keeps its connection when the work releases the runner', async () => {
    const run = scope.run(async (runner) => {
      await storeFor(writer);
      await runner.release();
    });
    await expect(run).rejects.toMatchObject(MISUSED);
    await expectNothingHappened();
  });
});

describe('a host that joined its transaction', () => {
  it('stores nothing after a ROLLBACK that failed because the connection was gone', async () => {
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    await scope.join(runner, async () => {
      await storeFor(writer);
      await lose(runner);
      await expect(runner.rollbackTransaction()).rejects.toThrow();
      await runner.release();
      await expect(outcomes()).resolves.toEqual(all(LOST.code));
    });
    await expectNothingHappened();
  });
});
