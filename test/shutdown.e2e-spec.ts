import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import { type RevocationAnswer, type TokenPair, TokenManager } from '../src/index.js';
import { KeycloakStandIn } from './support/keycloak-stand-in.js';
import { ScriptedProvider } from './support/scripted-provider.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const DEADLINE_MS = 1500;
const STALE = { accessToken: 'access-old', accessTokenExpiresAt: 1 };

/** A provider that records the requests for revocations and never answers them. */
class RevocableProvider extends ScriptedProvider {
  readonly revoked: string[] = [];

  revoke({ accessToken }: TokenPair): Promise<RevocationAnswer> {
    this.revoked.push(accessToken);
    return new Promise(() => undefined);
  }
}

let database: TestDatabase;
let keycloak: KeycloakStandIn;
let acme: RevocableProvider;
let app: INestApplication;
let tokens: TokenManager;
let isClosed = false;

beforeAll(async () => {
  keycloak = new KeycloakStandIn();
  await keycloak.start();
});

beforeEach(async () => {
  database = await createTestDatabase();
  acme = new RevocableProvider({ exchangeTimeoutMs: 3000, leaseMs: 6000 });
  ({ app } = await createTokensApp({
    databaseUrl: database.url,
    options: {
      identityProviders: { acme },
      keycloak: {
        serverUrl: keycloak.url,
        realm: 'app',
        clientId: 'backend',
        clientSecret: 'backend-secret',
        timeoutMs: 3000,
      },
      refresh: { shutdownTimeoutMs: DEADLINE_MS, waitTimeoutMs: 4000 },
    },
  }));
  tokens = app.get(TokenManager);
  isClosed = false;
});

afterEach(async () => {
  if (!isClosed) await app.close();
  await database.drop();
});

afterAll(async () => {
  await keycloak.stop();
});

/** Closes the application and returns how long that took, in milliseconds. */
async function close(): Promise<number> {
  const startedAt = performance.now();
  isClosed = true;
  await app.close();
  return performance.now() - startedAt;
}

async function storeStale(users: string[]): Promise<void> {
  for (const user of users) await tokens.storeIdpTokens(user, 'acme', { ...STALE, refreshToken: user });
}

/** Waits for calls. Each of them must return a token or throw a retryable error of the module. */
async function expectEnds(calls: Promise<unknown>[]): Promise<void> {
  for (const end of await Promise.allSettled(calls)) {
    if (end.status === 'fulfilled') continue;
    expect(end.reason).toMatchObject({ code: expect.stringMatching(/^ERR_TOKENS_/) as unknown, retryable: true });
  }
}

it('takes its time once, whatever hangs: refreshes, an offline redemption and a revocation', async () => {
  await storeStale(['a', 'b', 'c', 'gone']);
  const { id } = keycloak.users.ada;
  await tokens.storeOfflineToken(id, 'offline-token');
  await tokens.checkOfflineTokenIsActive(id); // fetches the metadata
  for (const user of ['a', 'b', 'c']) acme.onRefresh(user, () => new Promise(() => undefined));
  keycloak.faults.push('hang');
  const served = keycloak.requests.length;
  const calls: Promise<unknown>[] = ['a', 'b', 'c'].map((user) => tokens.getIdpToken(user, 'acme'));
  calls.push(tokens.validateOfflineToken(id));
  await tokens.revokeIdpTokens('gone', 'acme');
  const ends = expectEnds(calls);
  await until(() => acme.redeemed.length === 3 && acme.revoked.length === 1 && keycloak.faults.length === 0);
  const tookMs = await close();
  expect(tookMs).toBeGreaterThan(DEADLINE_MS - 50);
  expect(tookMs).toBeLessThan(2 * DEADLINE_MS);
  await ends;
  expect(acme.redeemed).toHaveLength(3);
  expect(acme.revoked).toHaveLength(1);
  expect(keycloak.requests).toHaveLength(served);
});

it('sends nothing for refreshes that wait for their turn while fresh tokens are read', async () => {
  const users = Array.from({ length: 40 }, (_, each) => `user-${each}`);
  await storeStale(users);
  await tokens.storeIdpTokens('fresh', 'acme', { accessToken: 'fresh' });
  let isClosing = false as boolean;
  let sentLate = 0;
  for (const user of users) {
    acme.onRefresh(user, () => {
      if (isClosing) sentLate++;
      return { kind: 'success', tokens: { accessToken: `new of ${user}`, refreshToken: `next of ${user}` } };
    });
  }
  const reading = (async () => {
    while (!isClosing) await Promise.all(Array.from({ length: 8 }, () => tokens.getIdpToken('fresh', 'acme')));
  })();
  const ends = expectEnds(users.map((user) => tokens.getIdpToken(user, 'acme')));
  await until(() => acme.redeemed.length > 0);
  isClosing = true;
  const tookMs = await close();
  await reading.catch(() => undefined);
  await ends;
  expect(sentLate).toBe(0);
  expect(acme.redeemed.length).toBeLessThan(users.length);
  expect(tookMs).toBeLessThan(DEADLINE_MS);
});

it('stores what a provider answers before the deadline', async () => {
  await storeStale(['a']);
  let answer: () => void = () => undefined;
  const answered = new Promise<void>((resolve) => (answer = resolve));
  acme.onRefresh('a', async () => {
    await answered;
    return { kind: 'success', tokens: { accessToken: 'access-new', refreshToken: 'refresh-new' } };
  });
  const fetched = tokens.getIdpToken('a', 'acme');
  await until(() => acme.redeemed.length === 1);
  const closing = close();
  answer();
  await expect(fetched).resolves.toMatchObject({ accessToken: 'access-new' });
  expect(await closing).toBeLessThan(DEADLINE_MS);
  const stored = await database.query('SELECT parent_version IS NOT NULL AS refreshed, lease_id FROM auth_tokens');
  expect(stored).toEqual([{ refreshed: true, lease_id: null }]);
});

it('does not send a refresh token again whose answer is lost after the shutdown began', async () => {
  await storeStale(['a']);
  let lose: () => void = () => undefined;
  const lost = new Promise<void>((resolve) => (lose = resolve));
  acme.onRefresh('a', async () => {
    await lost;
    return { kind: 'ambiguous', code: 'ECONNRESET' };
  });
  const ends = expectEnds([tokens.getIdpToken('a', 'acme')]);
  await until(() => acme.redeemed.length === 1);
  const closing = close();
  await new Promise((resolve) => setImmediate(resolve)); // Nest has called the shutdown hooks of the modules
  lose();
  expect(await closing).toBeLessThan(DEADLINE_MS);
  await ends;
  expect(acme.redeemed).toEqual(['a']);
});

it('ends the wait for the holder of an abandoned lease, and sends nothing in its place', async () => {
  await storeStale(['a']);
  await database.query(
    "UPDATE auth_tokens SET lease_id = 1, lease_expires_at = now() - interval '1 s', open_leases = 1",
  );
  const ends = expectEnds([tokens.getIdpToken('a', 'acme')]);
  const isTakenOver = async () =>
    (await database.query('SELECT FROM auth_tokens WHERE lease_id <> 1 AND lease_expires_at > now()')).length === 1;
  await until(isTakenOver);
  expect(await close()).toBeLessThan(DEADLINE_MS);
  await ends;
  expect(acme.redeemed).toEqual([]);
});

it('sends no revocation that was only being taken up when it began, and leaves it to the next start', async () => {
  await storeStale(['gone']);
  await tokens.revokeIdpTokens('gone', 'acme'); // wakes the outbox, whose round has just begun
  expect(await close()).toBeLessThan(DEADLINE_MS);
  expect(acme.revoked).toEqual([]);
  await expect(database.query('SELECT FROM token_revocations')).resolves.toHaveLength(1);
});
