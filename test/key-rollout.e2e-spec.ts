import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import {
  type EncryptionKeyOptions,
  KeycloakSessions,
  type KeyRotationStatus,
  type ResealResult,
  TokenCipher,
  TokenKeyRotation,
  TokenManager,
  type TokensModuleOptions,
} from '../src/index.js';
import { authTokenLocation, offlineTokenLocation } from '../src/storage/token-locations.js';
import { Fleet } from './support/fleet.js';
import { type HostileProvider, startHostileProvider } from './support/hostile-provider.js';
import { KeycloakStandIn } from './support/keycloak-stand-in.js';
import { RolloutLoad } from './support/rollout-load.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp, newKey } from './support/tokens-app.js';
import type { WorkerSettings } from './support/tokens-worker.js';
import { until } from './support/until.js';

const older = { id: 'older', secret: newKey() };
const newer = { id: 'newer', secret: newKey() };
/** How many rows nothing writes but the reseal, 50,000 in all. */
const IDLE = { auth_tokens: 30_000, offline_tokens: 10_000, token_revocations: 10_000 };
/** How many users have their tokens read, refreshed, stored and revoked all the time. */
const USERS = 32;
/** A pair that a process stores with the older key after a reseal. */
const LATE = { accessToken: 'stored late', refreshToken: 'stored late too' };

let database: TestDatabase;
let provider: HostileProvider;
let keycloak: KeycloakStandIn;
let fleet: Fleet | undefined;
let load: RolloutLoad | undefined;

beforeAll(async () => {
  database = await createTestDatabase();
  provider = await startHostileProvider({ mode: 'single-use', accessTokenSeconds: 3 });
  keycloak = new KeycloakStandIn();
  keycloak.revokeRefreshToken = true;
  await keycloak.start();
}, 60_000);

afterAll(async () => {
  await load?.stop();
  await fleet?.close();
  await keycloak.stop();
  await provider.stop();
  await database.drop();
});

function optionsWith(keys: EncryptionKeyOptions[]): TokensModuleOptions {
  const acme = {
    clientId: 'client',
    clientSecret: 'secret',
    tokenEndpoint: `${provider.url}/token`,
    revocationEndpoint: `${provider.url}/revoke`,
  };
  return {
    encryption: { keys },
    identityProviders: { acme },
    keycloak: { serverUrl: keycloak.url, realm: 'app', clientId: 'backend', clientSecret: 'backend-secret' },
    refresh: { waitTimeoutMs: 30_000 }, // a busy machine is slow, and a call must not fail for that
  };
}

function processWith(keys: EncryptionKeyOptions[]): WorkerSettings {
  return { databaseUrl: database.url, options: optionsWith(keys) };
}

async function open(keys: EncryptionKeyOptions[]): Promise<INestApplication> {
  return (await createTokensApp({ databaseUrl: database.url, options: optionsWith(keys) })).app;
}

/** Inserts the idle rows, sealed by the older key. */
async function storeIdleRows(cipher: TokenCipher): Promise<void> {
  const pair = (keycloakUserId: string, each: number): string[] => {
    const key = { keycloakUserId, idp: 'acme' };
    return [
      keycloakUserId,
      cipher.seal(`access-${each}`, authTokenLocation(key, 'access_token')),
      cipher.seal(`refresh-${each}`, authTokenLocation(key, 'refresh_token')),
    ];
  };
  const insert = async (sql: string, rows: string[][]): Promise<void> => {
    await database.query(
      sql,
      [0, 1, 2].map((column) => rows.map((row) => row[column] ?? '')),
    );
  };
  const from = 'FROM unnest($1::text[], $2::text[], $3::text[]) AS rows (id, first, second)';
  await insert(
    `INSERT INTO auth_tokens (keycloak_user_id, identity_provider, access_token, refresh_token,
       access_token_expires_at, refresh_token_expires_at) SELECT id, 'acme', first, second, 0, 0 ${from}`,
    Array.from({ length: IDLE.auth_tokens }, (_, each) => pair(`idle-${each}`, each)),
  );
  await insert(
    `INSERT INTO token_revocations (keycloak_user_id, identity_provider, access_token, refresh_token, next_attempt_at)
       SELECT id, 'acme', first, second, now() + interval '1 day' ${from}`,
    Array.from({ length: IDLE.token_revocations }, (_, each) => pair(`idle-${each}`, each)),
  );
  await insert(
    `INSERT INTO offline_tokens (user_id, offline_token) SELECT id, json_build_object('tokens', first) ${from}`,
    Array.from({ length: IDLE.offline_tokens }, (_, each) => {
      const text = JSON.stringify({ refresh_token: `offline-${each}` });
      return [`idle-${each}`, cipher.seal(text, offlineTokenLocation(`idle-${each}`))];
    }),
  );
  await database.query('ANALYZE auth_tokens, offline_tokens, token_revocations');
}

/** Opens every text of every row, and returns what the idle rows have, by table and user. */
async function openEveryRow(cipher: TokenCipher): Promise<Record<keyof typeof IDLE, Map<string, string>>> {
  const pairs = async (table: string): Promise<Map<string, string>> => {
    const rows = await database.query(`SELECT * FROM ${table}`);
    const opened = rows.map((row): [string, string] => {
      const key = { keycloakUserId: String(row.keycloak_user_id), idp: String(row.identity_provider) };
      const texts = (['access_token', 'refresh_token'] as const).map((column) =>
        cipher.open(String(row[column]), authTokenLocation(key, column)),
      );
      return [key.keycloakUserId, texts.join(' ')];
    });
    return new Map(opened.filter(([user]) => user.startsWith('idle-')));
  };
  const offline = (await database.query('SELECT * FROM offline_tokens')).map((row): [string, string] => {
    const user = String(row.user_id);
    const { tokens } = JSON.parse(String(row.offline_token)) as { tokens: string };
    const { refresh_token } = JSON.parse(cipher.open(tokens, offlineTokenLocation(user))) as { refresh_token: string };
    return [user, refresh_token];
  });
  return {
    auth_tokens: await pairs('auth_tokens'),
    offline_tokens: new Map(offline.filter(([user]) => user.startsWith('idle-'))),
    token_revocations: await pairs('token_revocations'),
  };
}

/** Returns what the idle rows must have. */
function idleRows(): Record<keyof typeof IDLE, Map<string, string>> {
  const rows = (count: number, textOf: (each: number) => string): Map<string, string> =>
    new Map(Array.from({ length: count }, (_, each) => [`idle-${each}`, textOf(each)]));
  return {
    auth_tokens: rows(IDLE.auth_tokens, (each) => `access-${each} refresh-${each}`),
    offline_tokens: rows(IDLE.offline_tokens, (each) => `offline-${each}`),
    token_revocations: rows(IDLE.token_revocations, (each) => `access-${each} refresh-${each}`),
  };
}

/** How many texts of all tables name a key. */
function textsOf(key: string, { keys }: KeyRotationStatus): number {
  const texts = keys.find(({ id }) => id === key)?.texts;
  return Object.values(texts ?? {}).reduce((sum, count) => sum + count, 0);
}

it('rotates a key as the guide says, with half of the processes a step behind: no call fails, and no token is lost', async () => {
  const startedAt = performance.now();
  const before = await open([older]);
  await storeIdleRows(before.get(TokenCipher));
  const code = await keycloak.logIn('ada', 'openid offline_access');
  const ada = keycloak.users.ada.id;
  const issued = await before.get(KeycloakSessions).getKeycloakTokens(code, 'http://localhost/callback');
  await before.get(TokenManager).storeOfflineToken(ada, issued?.refreshToken ?? '');
  await before.close();

  fleet = await Fleet.start(2, processWith([older]));
  load = new RolloutLoad(fleet, provider, { pairs: IDLE.auth_tokens, offlineTokens: IDLE.offline_tokens }, ada);
  load.start(USERS);
  const status = async (): Promise<KeyRotationStatus> =>
    (await fleet?.at(0).request('TokenKeyRotation', 'status')) as KeyRotationStatus;
  const reseal = async (position: number): Promise<ResealResult> =>
    (await fleet?.at(position).request('TokenKeyRotation', 'reseal')) as ResealResult;
  const retire = (): Promise<unknown> | undefined =>
    fleet?.at(0).request('TokenKeyRotation', 'retire', 'older', { pauseMs: 2000 });
  await load.round();

  // 1. Add.
  await fleet.restart(0, processWith([older, newer]));
  await load.round();
  await fleet.restart(1, processWith([older, newer]));
  await load.round();
  expect(textsOf('newer', await status())).toBe(0);

  // 2. Put first.
  await fleet.restart(0, processWith([newer, older]));
  await load.round();
  const half = await status();
  expect(textsOf('newer', half)).toBeGreaterThan(0);
  expect(textsOf('older', half)).toBeGreaterThan(2 * IDLE.auth_tokens);
  // A process that is two steps behind does not boot again.
  await expect(open([older])).rejects.toThrow(/key "newer" has sealed tokens in this database.* Add it again/);
  // A reseal that is too early is in vain, because the process that is a step behind still seals with the older key.
  const early = await reseal(0);
  expect(early).toMatchObject({ unreadable: [] });
  expect(early.resealed).toBeGreaterThanOrEqual(50_000);
  await load.round();
  await fleet.at(1).request('TokenManager', 'storeIdpTokens', 'late', 'acme', LATE);
  expect(textsOf('older', await status())).toBeGreaterThan(0);
  await expect(retire()).rejects.toThrow(/^KeyInUseError: .*"older".* stored texts name it: .*Call reseal\(\)/);
  await fleet.restart(1, processWith([newer, older]));
  await load.round();
  expect(textsOf('older', await status())).toBeGreaterThan(0);

  // 3. Reseal.
  const late = await reseal(1);
  expect(late).toMatchObject({ unreadable: [], isComplete: true });
  expect(late.resealed).toBeGreaterThan(0);
  expect(late.unchanged).toBeGreaterThan(50_000);
  expect(textsOf('older', await status())).toBe(0);

  // 4. Retire.
  await retire();
  await load.round();
  await expect(open([older, newer])).rejects.toThrow(/key "older" is retired since/);

  // 5. Remove.
  await fleet.restart(0, processWith([newer]));
  await load.round();
  await fleet.restart(1, processWith([newer]));
  await load.round();

  await load.end();
  const redeemed = await load.redeemEveryPair();
  expect(redeemed).toBe(USERS);
  await until(async () => {
    const waiting = await database.query("SELECT FROM token_revocations WHERE keycloak_user_id LIKE 'active-%'");
    return waiting.length === 0;
  }, 60_000);
  expect(await load.revokedGrantsAlive()).toEqual([]);
  await fleet.close();

  const after = await open([newer]);
  const rows = await openEveryRow(after.get(TokenCipher));
  expect(rows).toEqual(idleRows());
  const ofLate = after.get(TokenManager).getIdpToken('late', 'acme');
  await expect(ofLate).resolves.toMatchObject({ accessToken: LATE.accessToken });
  await expect(after.get(TokenManager).validateOfflineToken(ada)).resolves.toBe(true);
  const { keys: left } = await after.get(TokenKeyRotation).status();
  expect(left).toMatchObject([
    { id: 'newer' },
    { id: 'older', isInRing: false, retiredAt: expect.any(Date) as unknown },
  ]);
  await after.close();

  const redemptions = await provider.redemptions();
  expect(redemptions.filter(({ outcome }) => outcome !== 'redeemed')).toEqual([]);
  expect(new Set(redemptions.map(({ refreshToken }) => refreshToken)).size).toBe(redemptions.length);
  const seconds = Math.round((performance.now() - startedAt) / 1000);
  console.log(`${load.summary()}, ${redemptions.length} redemptions, none twice, in ${seconds} s`);
}, 900_000);
