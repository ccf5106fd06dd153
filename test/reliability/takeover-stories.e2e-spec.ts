import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import fc from 'fast-check';
import type { DataSource } from 'typeorm';

import { TokenManager, TokensError } from '../../src/index.js';
import { type Fault, type HostileProvider, startHostileProvider } from '../support/hostile-provider.js';
import { RowLock } from '../support/row-lock.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { until } from '../support/until.js';

const RUNS = 8;
const AT_ONCE = 10;
const CLIENTS = 3;
/** Longer than a holder waits between two tries to commit. */
const TAKEOVER_DELAY_MS = 1500;

/** One event of a story. It happens `after` milliseconds after the last event began, and does not wait for its end. */
interface Step {
  after: number;
  client: number;
  kind: 'get' | 'get-rejected' | 'end-lease' | 'lock';
}

interface Story {
  steps: Step[];
  faults: Fault['kind'][];
  isExpired: boolean;
}

const story: fc.Arbitrary<Story> = fc.record({
  steps: fc.array(
    fc.record({
      after: fc.integer({ min: 0, max: 150 }),
      client: fc.integer({ min: 0, max: CLIENTS - 1 }),
      kind: fc.constantFrom('get', 'get', 'get', 'get-rejected', 'end-lease', 'end-lease', 'lock'),
    }),
    { minLength: 4, maxLength: 12 },
  ),
  faults: fc.array(fc.constantFrom('none', 'delay', 'delay', 'reset-before', 'error-before', 'unavailable'), {
    maxLength: 3,
  }),
  isExpired: fc.boolean(),
});

let database: TestDatabase;
let provider: HostileProvider;
const clients: { app: INestApplication; dataSource: DataSource }[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  provider = await startHostileProvider({ mode: 'single-use', oldAccessTokenDies: true });
  const options = {
    encryption: { keys: [{ id: 'test', secret: newKey() }] },
    identityProviders: {
      hostile: {
        clientId: 'client',
        clientSecret: 'secret',
        tokenEndpoint: `${provider.url}/token`,
        introspectionEndpoint: `${provider.url}/introspect`,
        policy: {
          exchangeTimeoutMs: 1000,
          leaseMs: 4000,
          takeoverDelayMs: TAKEOVER_DELAY_MS,
          refreshEndsAccessToken: true,
        },
      },
    },
    refresh: { backoffBaseMs: 5, backoffMaxMs: 10, waitTimeoutMs: 20_000 },
  };
  for (let count = 0; count < CLIENTS; count++) {
    clients.push(await createTokensApp({ databaseUrl: database.url, poolSize: 4, options }));
  }
}, 60_000);

afterAll(async () => {
  await Promise.all(clients.map(({ app }) => app.close()));
  await provider.stop();
  await database.drop();
});

let stories = 0;

/** Returns the refresh tokens that are spent. */
async function spent(): Promise<Set<string>> {
  const redemptions = await provider.redemptions();
  return new Set(redemptions.flatMap(({ outcome, refreshToken }) => (outcome === 'redeemed' ? [refreshToken] : [])));
}

function manager(client: number): TokenManager {
  const found = clients[client];
  if (!found) throw new Error(`There is no client ${client}.`);
  return found.app.get(TokenManager);
}

/** Asks for a token, and makes sure that the token was not dead before the call. */
async function get(user: string, client: number, rejectedVersion?: string): Promise<void> {
  const before = await spent();
  try {
    const { accessToken } = await manager(client).getIdpToken(user, 'hostile', { rejectedVersion });
    expect([...before]).not.toContain(accessToken.replace('access', 'refresh'));
  } catch (error) {
    if (!(error instanceof TokensError)) throw error;
    expect(error).toMatchObject({ retryable: true });
  }
}

async function version(user: string): Promise<string> {
  const [row] = await database.query('SELECT token_version FROM auth_tokens WHERE keycloak_user_id = $1', [user]);
  return String(row?.token_version);
}

async function perform(user: string, { kind, client }: Step): Promise<void> {
  switch (kind) {
    case 'get':
      return get(user, client);
    case 'get-rejected':
      return get(user, client, await version(user));
    case 'end-lease':
      await database.query(
        'UPDATE auth_tokens SET lease_expires_at = now() WHERE keycloak_user_id = $1 AND NOT lease_outcome_unknown',
        [user],
      );
      return;
    case 'lock': {
      const lock = new RowLock(database.url, [user]);
      await lock.take();
      await new Promise((resolve) => setTimeout(resolve, 300));
      await lock.release();
    }
  }
}

async function play({ steps, faults, isExpired }: Story): Promise<void> {
  const user = `user-${++stories}`;
  const grant = await provider.newGrant();
  const ofGrant = faults.map((kind) => ({ kind, ms: 200 }));
  await provider.setFaults([grant.refreshToken], ...ofGrant);
  await manager(0).storeIdpTokens(user, 'hostile', { ...grant, accessTokenExpiresAt: isExpired ? 1 : 0 });
  const validUntil = isExpired ? 1 : Math.floor(Date.now() / 1000) + 600;
  await database.query(
    `UPDATE auth_tokens SET issued_at = now() - interval '10 days', access_token_expires_at = $2
       WHERE keycloak_user_id = $1`,
    [user, validUntil],
  );
  const calls: Promise<void>[] = [];
  for (const step of steps) {
    await new Promise((resolve) => setTimeout(resolve, step.after));
    calls.push(perform(user, step));
  }
  await Promise.all(calls);
  // In these stories no process dies, and no answer is lost after the provider has redeemed a token. So a caller at the
  // end gets a token that works.
  await until(async () => {
    const last = await manager(0)
      .getIdpToken(user, 'hostile')
      .catch((error: unknown) => {
        if (error instanceof TokensError && error.retryable) return null;
        throw error;
      });
    return last !== null && (await provider.isAlive(last.accessToken));
  }, 30_000);
  const outcomes = (await provider.redemptions()).filter(({ refreshToken }) =>
    refreshToken.includes(`-${grant.refreshToken.split('-')[1] ?? ''}-`),
  );
  expect(outcomes.filter(({ outcome }) => outcome === 'reuse-punished' || outcome === 'refused')).toEqual([]);
}

describe(`${RUNS * AT_ONCE} random stories of leases that run out while their holders live`, () => {
  it('never have a spent token sent, a dead one handed out, or a user left without one', async () => {
    const property = fc.asyncProperty(fc.array(story, { minLength: AT_ONCE, maxLength: AT_ONCE }), async (several) => {
      await Promise.all(several.map((each) => play(each)));
      await until(() => clients.every(({ dataSource }) => connectionsInUse(dataSource) === 0));
    });
    await fc.assert(property, { numRuns: RUNS, endOnFailure: true });
    expect(stories).toBe(RUNS * AT_ONCE);
  }, 240_000);
});
