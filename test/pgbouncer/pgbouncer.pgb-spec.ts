import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import pg from 'pg';

import { QueryRunnerScope, type TokensModuleOptions, TokenManager } from '../../src/index.js';
import { MOST_LOSSES } from '../../src/postgres/prepared-names.js';
import { type Fault, type HostileProvider, startHostileProvider } from '../support/hostile-provider.js';
import { type PgBouncer, startPgBouncer } from '../support/pgbouncer.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { type Outcome, startTokensWorker, type TokensWorker } from '../support/tokens-worker.js';
import { until } from '../support/until.js';

const keys = [{ id: 'test', secret: newKey() }];
/** Fewer than the clients have, so that statements of one client run on several connections of the server. */
const SERVER_CONNECTIONS = 2;

let database: TestDatabase;
let pgBouncer: PgBouncer;
let provider: HostileProvider;
let databaseUrl: string;
const ends: (() => Promise<void>)[] = [];

function options(preparedStatements: boolean): TokensModuleOptions {
  return {
    encryption: { keys },
    identityProviders: {
      hostile: { clientId: 'client', clientSecret: 'secret', tokenEndpoint: `${provider.url}/token` },
    },
    refresh: { waitTimeoutMs: 60_000, commitWaitMs: 60_000 },
    preparedStatements,
  };
}

/** Starts an application behind PgBouncer. It ends after the test. */
async function startApp(preparedStatements: boolean, poolSize = 4): Promise<{ tokens: TokenManager; scope: Scope }> {
  const { app } = await createTokensApp({ databaseUrl, poolSize, options: options(preparedStatements) });
  ends.push(() => app.close());
  return { tokens: app.get(TokenManager), scope: app.get(QueryRunnerScope) };
}
type Scope = Pick<QueryRunnerScope, 'run'>;

/** Stores expired pairs and returns their users. Each user has a grant of its own. Its first request has the fault. */
async function expiredUsers(
  tokens: TokenManager,
  name: string,
  count: number,
  faultOf: (n: number) => Fault = () => ({ kind: 'none' }),
): Promise<string[]> {
  const users = Array.from({ length: count }, (_, n) => `${name}-${n}`);
  await Promise.all(
    users.map(async (user, n) => {
      const grant = await provider.newGrant();
      await provider.setFaults([grant.refreshToken], faultOf(n));
      await tokens.storeIdpTokens(user, 'hostile', { ...grant, accessTokenExpiresAt: 1 });
    }),
  );
  return users;
}

/** Asks for a token as an application does: again after a retryable error. */
async function ask(tokens: TokenManager, user: string): Promise<string> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    try {
      return (await tokens.getIdpToken(user, 'hostile')).accessToken;
    } catch (error) {
      if (!(error as { retryable?: boolean }).retryable || performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

beforeAll(async () => {
  database = await createTestDatabase();
  provider = await startHostileProvider({ mode: 'single-use', oldAccessTokenDies: true });
  pgBouncer = await startPgBouncer(database.url, { poolSize: SERVER_CONNECTIONS });
  databaseUrl = pgBouncer.urlOf(database.url);
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

afterAll(async () => {
  await provider.stop();
  await pgBouncer.stop();
  await database.drop();
});

describe('Behind PgBouncer in transaction mode, with preparedStatements: false', () => {
  let workers: TokensWorker[];

  beforeAll(async () => {
    workers = await Promise.all(
      ['first', 'second'].map(() => startTokensWorker({ databaseUrl, poolSize: 4, options: options(false) })),
    );
  });

  afterAll(async () => {
    await Promise.all(workers.map((worker) => worker.close()));
  });

  const askWorkers = async (users: string[], callers = 1): Promise<Outcome[]> =>
    (await Promise.all(workers.map((worker) => worker.get(users, { callers })))).flat();

  it('two processes × 500 callers find one token expired, and the provider sees one redemption', async () => {
    const { tokens } = await startApp(false);
    const users = await expiredUsers(tokens, 'storm', 1);
    const before = (await provider.redemptions()).length;
    const outcomes = await askWorkers(users, 500);
    expect(outcomes.filter(({ error }) => error)).toEqual([]);
    expect(outcomes).toHaveLength(1000);
    expect(new Set(outcomes.map(({ accessToken }) => accessToken)).size).toBe(1);
    expect((await provider.redemptions()).slice(before).map(({ outcome }) => outcome)).toEqual(['redeemed']);
    await expect(provider.isAlive(outcomes[0]?.accessToken ?? '')).resolves.toBe(true);
  });

  it('two processes refresh 200 users once each, while a third one reads and stores', async () => {
    const { tokens } = await startApp(false);
    const users = await expiredUsers(tokens, 'together', 200);
    const before = (await provider.redemptions()).length;
    const refreshing = askWorkers(users);
    for (let round = 0; round < 5; round++) {
      const texts = Array.from({ length: 40 }, (_, n) => `token ${round} of ${n}`);
      await Promise.all(
        texts.map((accessToken, n) => tokens.storeIdpTokens(`reader-${n}`, 'hostile', { accessToken })),
      );
      const read = await Promise.all(texts.map((_, n) => tokens.getIdpToken(`reader-${n}`, 'hostile')));
      expect(read.map(({ accessToken }) => accessToken)).toEqual(texts);
    }
    const outcomes = await refreshing;
    expect(outcomes.filter(({ error }) => error)).toEqual([]);
    const redemptions = (await provider.redemptions()).slice(before);
    expect(redemptions.map(({ outcome }) => outcome)).toEqual(users.map(() => 'redeemed'));
    expect(new Set(redemptions.map(({ grant }) => grant)).size).toBe(200);
    const alive = await Promise.all(outcomes.map(({ accessToken = '' }) => provider.isAlive(accessToken)));
    expect(alive).toEqual(outcomes.map(() => true));
  });

  it('a transaction of the host commits its tokens, and another one takes them back', async () => {
    const { tokens, scope } = await startApp(false);
    const writers = Array.from({ length: 40 }, (_, n) => `writer-${n}`);
    await Promise.all(
      writers.map((user, n) =>
        scope
          .run(async (runner) => {
            await runner.query('SELECT 1');
            await tokens.storeIdpTokens(user, 'hostile', { accessToken: `token of ${user}` });
            await expect(tokens.getIdpToken(user, 'hostile')).resolves.toMatchObject({
              accessToken: `token of ${user}`,
            });
            if (n % 2 === 1) throw new Error('The host gives up.');
          })
          .catch((error: unknown) => {
            expect(error).toEqual(new Error('The host gives up.'));
          }),
      ),
    );
    const rows = await database.query(
      `SELECT keycloak_user_id AS user FROM auth_tokens WHERE keycloak_user_id LIKE 'writer-%'`,
    );
    expect(rows.map(({ user }) => user).sort()).toEqual(writers.filter((_, n) => n % 2 === 0).sort());
  });

  it('a pooler that is killed amid refreshes and starts again loses no token', async () => {
    const { tokens } = await startApp(false);
    // The provider spreads its answers over two seconds.
    const users = await expiredUsers(tokens, 'restart', 200, (n) => ({ kind: 'delay', ms: 10 * n }));
    const before = (await provider.redemptions()).length;
    const redeemed = async () =>
      (await provider.redemptions()).slice(before).filter(({ outcome }) => outcome === 'redeemed').length;
    const answers: string[] = [];
    const calls = users.map(async (user) => answers.push(await ask(tokens, user)));
    for (const share of [0.25, 0.5, 0.75]) {
      await until(async () => (await redeemed()) >= users.length * share);
      await pgBouncer.kill();
      // Some answers of the provider come while there is no pooler.
      const atKill = await redeemed();
      await until(async () => (await redeemed()) > atKill);
      await pgBouncer.start();
    }
    await Promise.all(calls);
    expect(answers.length).toBe(users.length);
    expect((await provider.redemptions()).slice(before).map(({ outcome }) => outcome)).toEqual(
      users.map(() => 'redeemed'),
    );
    const stored = await Promise.all(users.map((user) => tokens.getIdpToken(user, 'hostile')));
    const alive = await Promise.all(stored.map(({ accessToken }) => provider.isAlive(accessToken)));
    expect(alive).toEqual(users.map(() => true));
  });
});

describe('Behind PgBouncer in transaction mode, with preparedStatements: true', () => {
  const NAMES_THE_OPTION = /preparedStatements to false/;

  /** Reads a token in a transaction, which the module cannot repeat. */
  function readInTransaction({ tokens, scope }: Awaited<ReturnType<typeof startApp>>): Promise<unknown> {
    return scope.run(async (runner) => {
      await runner.query('SELECT 1');
      return tokens.getIdpToken('prepared', 'hostile');
    });
  }

  beforeAll(async () => {
    const { tokens } = await startApp(false);
    await tokens.storeIdpTokens('prepared', 'hostile', { accessToken: 'the token' });
  });

  /** Ends the connections of PgBouncer to the server, so that none has a plan. */
  async function forgetPlans(): Promise<void> {
    await pgBouncer.kill();
    await pgBouncer.start();
  }

  it('two clients that prepare on one connection of the server get 42P05, and the error names the option', async () => {
    await forgetPlans();
    const [first, second] = [await startApp(true, 1), await startApp(true, 1)];
    await expect(readInTransaction(first)).resolves.toMatchObject({ accessToken: 'the token' });
    const refused = readInTransaction(second);
    await expect(refused).rejects.toMatchObject({ sqlState: '42P05', retryable: true });
    await expect(refused).rejects.toThrow(NAMES_THE_OPTION);
  });

  it('a client that gets another connection of the server gets 26000, and the error names the option', async () => {
    await forgetPlans();
    const app = await startApp(true, 1);
    await expect(readInTransaction(app)).resolves.toMatchObject({ accessToken: 'the token' });
    const holder = new pg.Client({ connectionString: databaseUrl });
    await holder.connect();
    await holder.query('BEGIN'); // on the connection that has the plan
    const refused = readInTransaction(app);
    await expect(refused).rejects.toMatchObject({ sqlState: '26000', retryable: true });
    await expect(refused).rejects.toThrow(NAMES_THE_OPTION);
    await holder.end();
  });

  it('calls outside of transactions succeed, and the log names the option', async () => {
    await forgetPlans();
    const warnings: unknown[] = [];
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation((text: unknown) => void warnings.push(text));
    ends.push(() => {
      warn.mockRestore();
      return Promise.resolve();
    });
    const { tokens } = await startApp(true, 1);
    const other = new pg.Client({ connectionString: databaseUrl });
    await other.connect();
    for (let losses = 0; losses <= MOST_LOSSES; losses++) {
      await expect(tokens.getIdpToken('prepared', 'hostile')).resolves.toMatchObject({ accessToken: 'the token' });
      // On the same connection of the server, because PgBouncer opens a second one only while the first one is busy.
      await other.query('DEALLOCATE ALL');
    }
    await other.end();
    expect(warnings).toContainEqual(
      expect.stringMatching(/^Prepared statements are lost .* Set preparedStatements to false/),
    );
  });
});
