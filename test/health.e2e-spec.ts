import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from '@jest/globals';
import { Controller, Get, type INestApplication, Inject, Logger, Module, Optional } from '@nestjs/common';
import { HealthCheck, type HealthCheckResult, HealthCheckService, TerminusModule } from '@nestjs/terminus';
import { Test } from '@nestjs/testing';
import type { DataSource } from 'typeorm';

import { TokensHealthIndicator, type TokensHealthOptions } from '../src/health/index.js';
import { TokenManager } from '../src/index.js';
import { TokensTestingModule } from '../src/testing/index.js';
import { DatabaseProxy } from './support/database-proxy.js';
import { gate } from './support/gate.js';
import { RowLock } from './support/row-lock.js';
import { everythingPrinted } from './support/secrets.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp, newKey, TEST_KEY } from './support/tokens-app.js';
import { until } from './support/until.js';

/** A busy machine is slow, and the tests of deadlines have their own. */
const DEFAULTS: TokensHealthOptions = { timeoutMs: 20_000 };
const OPTIONS = Symbol('options of the probe');

@Controller()
class HealthController {
  options: TokensHealthOptions;

  constructor(
    private readonly health: HealthCheckService,
    private readonly tokens: TokensHealthIndicator,
    @Optional() @Inject(OPTIONS) options: TokensHealthOptions = DEFAULTS,
  ) {
    this.options = options;
  }

  @Get('ready')
  @HealthCheck()
  ready(): Promise<HealthCheckResult> {
    return this.health.check([() => this.tokens.isHealthy('tokens', this.options)]);
  }
}

let database: TestDatabase;
let proxy: DatabaseProxy;
let endpoint: TokenEndpoint;
let app: INestApplication;
let dataSource: DataSource;
let url: string;
let isClosed: boolean;

beforeAll(async () => {
  endpoint = await startTokenEndpoint();
});

beforeEach(async () => {
  database = await createTestDatabase();
  proxy = new DatabaseProxy(database.url);
  endpoint.answer = () => newPair();
  endpoint.redeemed.length = 0;
  isClosed = false;
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: await proxy.open(),
    imports: [TerminusModule.forRoot({ logger: false })],
    controllers: [HealthController],
    providers: [TokensHealthIndicator],
    options: {
      identityProviders: { acme: { clientId: 'client', clientSecret: 'secret', tokenEndpoint: endpoint.url } },
      refresh: { waitTimeoutMs: 60_000 },
    },
  }));
  await app.listen(0, '127.0.0.1');
  url = await app.getUrl();
});

afterEach(async () => {
  if (!isClosed) await app.close();
  await proxy.close();
  await database.drop();
});

afterAll(async () => {
  await endpoint.close();
});

/** Sends what a readiness probe sends. Returns the status, and what the indicator says. */
async function probe(options = DEFAULTS): Promise<{ status: number; tokens: Record<string, unknown> }> {
  app.get(HealthController).options = options;
  const response = await fetch(`${url}/ready`, { headers: { connection: 'close' } });
  const { details } = (await response.json()) as { details: { tokens: Record<string, unknown> } };
  return { status: response.status, tokens: details.tokens };
}

const READY = { status: 200, tokens: { status: 'up', pairsWaiting: 0, longestWaitSeconds: 0 } };

/** Begins a refresh whose answer the test gives, and returns when the provider has been asked. */
async function refreshUnderWay(user: string): Promise<{ answer: () => void; token: Promise<{ accessToken: string }> }> {
  const asked = gate();
  const answer = gate();
  endpoint.answer = async () => {
    asked.open();
    await answer.passed;
    return newPair({ access_token: `refreshed for ${user}` });
  };
  const tokens = app.get(TokenManager);
  await tokens.storeIdpTokens(user, 'acme', { accessToken: 'old', refreshToken: 'spent', accessTokenExpiresAt: 1 });
  const token = tokens.getIdpToken(user, 'acme');
  token.catch(() => undefined);
  await asked.passed;
  return { answer: answer.open, token };
}

it('is ready with a database that answers and keys that fit, and writes nothing', async () => {
  await database.query('DELETE FROM token_keys');
  await expect(probe()).resolves.toEqual(READY);
  await expect(database.query('SELECT FROM token_keys')).resolves.toEqual([]);
  await database.query('DROP TABLE token_keys');
  await expect(probe()).resolves.toEqual(READY);
});

it('is not ready while a pair waits too long to be stored, and ready again when it is stored', async () => {
  const { answer, token } = await refreshUnderWay('ada');
  const lock = new RowLock(database.url, ['ada']);
  await lock.take();
  try {
    await expect(probe()).resolves.toEqual(READY); // the provider has not answered
    answer();
    await until(async () => (await probe()).tokens.pairsWaiting === 1);
    await expect(probe({ ...DEFAULTS, pairWaitingSeconds: 600 })).resolves.toMatchObject({ status: 200 });
    await until(async () => (await probe({ ...DEFAULTS, pairWaitingSeconds: 1 })).status === 503);
    const { tokens } = await probe({ ...DEFAULTS, pairWaitingSeconds: 1 });
    expect(tokens).toEqual({
      status: 'down',
      pairsWaiting: 1,
      longestWaitSeconds: expect.any(Number) as unknown,
      faults: [expect.stringMatching(/^A refreshed pair has been waiting to be stored for [1-9]\d* s\.$/)],
    });
    expect(everythingPrinted(tokens)).not.toMatch(/ada|acme|refreshed for|spent/);
  } finally {
    await lock.release();
  }
  await until(async () => (await probe({ ...DEFAULTS, pairWaitingSeconds: 1 })).status === 200);
  await expect(probe()).resolves.toEqual(READY);
  await expect(token).resolves.toMatchObject({ accessToken: 'refreshed for ada' });
  expect(endpoint.redeemed).toEqual(['spent']);
});

it('is not ready while the database is away, and ready again by itself, with the pair stored', async () => {
  const { answer, token } = await refreshUnderWay('ada');
  await proxy.close();
  answer();
  await until(async () => (await probe({ ...DEFAULTS, pairWaitingSeconds: 1 })).tokens.longestWaitSeconds !== 0);
  const { status, tokens } = await probe({ ...DEFAULTS, pairWaitingSeconds: 0.5 });
  expect({ status, faults: tokens.faults, pairs: tokens.pairsWaiting }).toEqual({
    status: 503,
    faults: [
      expect.stringMatching(/^The database does not answer/),
      expect.stringMatching(/^A refreshed pair has been waiting to be stored for /),
    ],
    pairs: 1,
  });
  await proxy.open();
  await until(async () => (await probe()).status === 200, 20_000);
  await until(async () => (await probe()).tokens.pairsWaiting === 0, 20_000);
  await expect(token).resolves.toMatchObject({ accessToken: 'refreshed for ada' });
  await expect(app.get(TokenManager).getIdpToken('ada', 'acme')).resolves.toMatchObject({
    accessToken: 'refreshed for ada',
  });
  expect(endpoint.redeemed).toEqual(['spent']);
});

it('answers in time while the database is silent, and takes one connection for all probes', async () => {
  await expect(probe()).resolves.toEqual(READY);
  proxy.block();
  const silent = { status: 503, tokens: { faults: ['The database has not answered within 100 ms.'] } };
  const probes = Array.from({ length: 20 }, () => probe({ timeoutMs: 100 }));
  for (const each of await Promise.all(probes)) expect(each).toMatchObject(silent);
  await expect(probe({ timeoutMs: 100 })).resolves.toMatchObject(silent);
  expect(connectionsInUse(dataSource)).toBe(1);
  proxy.unblock();
  await until(async () => (await probe()).status === 200);
});

it('is not ready when a key is missing, says how many, and logs which one and what to do, once', async () => {
  const other = { id: 'of-the-others', secret: newKey() };
  const others = await createTokensApp({
    databaseUrl: database.url,
    options: { encryption: { keys: [other, TEST_KEY] } },
  });
  const logged: string[] = [];
  app.useLogger({
    log: () => undefined,
    warn: () => undefined,
    error: (message: unknown) => logged.push(String(message)),
  });
  for (let probes = 0; probes < 3; probes++) {
    await expect(probe()).resolves.toMatchObject({
      status: 503,
      tokens: { faults: ['encryption.keys does not fit the tokens of this database: 1 fault. The log has it.'] },
    });
  }
  expect(logged).toEqual([
    expect.stringMatching(/^encryption\.keys does not fit .*\n- key "of-the-others" .* Add it again/),
  ]);
  expect(logged.join()).not.toContain(other.secret);
  await others.app.close();
  await database.query("DELETE FROM token_keys WHERE id = 'of-the-others'");
  await expect(probe()).resolves.toEqual(READY);
  Logger.overrideLogger(false);
});

it('is not ready from the beginning of a shutdown, while the application waits for its refreshes', async () => {
  const { answer, token } = await refreshUnderWay('ada');
  isClosed = true;
  const closing = app.close();
  const { status, tokens } = await probe().finally(answer);
  expect({ status, faults: tokens.faults }).toEqual({ status: 503, faults: ['The application is shutting down.'] });
  await expect(token).resolves.toMatchObject({ accessToken: 'refreshed for ada' });
  await closing;
});

it.each([{ pairWaitingSeconds: 0 }, { pairWaitingSeconds: NaN }, { timeoutMs: -1 }])(
  'refuses bad options: %j',
  async (options) => {
    await expect(app.get(TokensHealthIndicator).isHealthy('tokens', options)).rejects.toThrow(
      `${Object.keys(options).join('')} must be a number above 0.`,
    );
  },
);

it('is ready in the tests of a host, with the tables in memory', async () => {
  @Module({
    imports: [TokensTestingModule.forRoot(), TerminusModule],
    providers: [TokensHealthIndicator],
  })
  class Host {}
  const testing = await Test.createTestingModule({ imports: [Host] }).compile();
  await testing.init();
  await expect(testing.get(TokensHealthIndicator).isHealthy('tokens')).resolves.toEqual({ tokens: READY.tokens });
  await testing.close();
});
