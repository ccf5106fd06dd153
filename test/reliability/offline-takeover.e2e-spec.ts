import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import {
  KeycloakMisconfiguredError,
  KeycloakSessions,
  KeycloakUnavailableError,
  TokenManager,
  type TokensModuleOptions,
} from '../../src/index.js';
import { DatabaseProxy } from '../support/database-proxy.js';
import { KeycloakStandIn } from '../support/keycloak-stand-in.js';
import { OutcomeTable } from '../support/outcome-table.js';
import { RowLock } from '../support/row-lock.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { until } from '../support/until.js';

/** The lease of an offline token: two timeouts and a reserve. */
const LEASE_MS = 6000;
const TAKEOVER_DELAY_MS = 3500;
const COMMIT_WAIT_MS = 300;
const keys = [{ id: 'test', secret: newKey() }];
const table = new OutcomeTable();

let database: TestDatabase;
let keycloak: KeycloakStandIn;
let proxy: DatabaseProxy;
/** The manager that redeems first. A test can break its connection to the database. */
let holder: TokenManager;
let other: TokenManager;
const apps: INestApplication[] = [];
const locks: RowLock[] = [];
let user: string;

function options(client: { clientId: string; clientSecret: string }): Partial<TokensModuleOptions> {
  return {
    encryption: { keys },
    keycloak: { serverUrl: keycloak.url, realm: 'app', ...client, timeoutMs: 500 },
    refresh: { commitWaitMs: COMMIT_WAIT_MS, waitTimeoutMs: 25_000 },
    connectionTimeoutMs: 25_000,
  };
}

async function startApp(clientId = 'backend', databaseUrl = database.url): Promise<INestApplication> {
  const client = { clientId, clientSecret: `${clientId}-secret` };
  const { app } = await createTokensApp({ databaseUrl, options: options(client) });
  apps.push(app);
  return app;
}

async function lock(): Promise<RowLock> {
  const taken = new RowLock(database.url, [user], { table: 'offline_tokens', user: 'user_id' });
  locks.push(taken);
  await taken.take();
  return taken;
}

beforeAll(async () => {
  database = await createTestDatabase();
  keycloak = new KeycloakStandIn();
  await keycloak.start();
});

afterAll(async () => {
  table.print();
  await keycloak.stop();
  await database.drop();
});

beforeEach(async () => {
  keycloak.revokeRefreshToken = true;
  proxy = new DatabaseProxy(database.url);
  holder = (await startApp('backend', await proxy.open())).get(TokenManager);
  const app = await startApp();
  other = app.get(TokenManager);
  user = keycloak.users.ada.id;
  const code = await keycloak.logIn('ada', 'openid offline_access');
  const issued = await app.get(KeycloakSessions).getKeycloakTokens(code, 'http://localhost/callback');
  await other.storeOfflineToken(user, issued?.refreshToken ?? '');
  keycloak.redemptions = 0;
});

afterEach(async () => {
  jest.restoreAllMocks();
  proxy.unblock();
  await Promise.all(locks.splice(0).map((each) => each.release()));
  await Promise.all(apps.splice(0).map((app) => app.close()));
  await proxy.close();
});

/** Delays the next answer of the token endpoint until `happens` has ended. */
function beforeNextAnswer(happens: () => unknown): void {
  const { fetch } = globalThis;
  const spy = jest.spyOn(globalThis, 'fetch').mockImplementation(async (...request) => {
    const response = await fetch(...request);
    if (!response.url.endsWith('/token')) return response;
    spy.mockRestore();
    await happens();
    return response;
  });
}

async function row(): Promise<Record<string, unknown>> {
  const [found] = await database.query('SELECT * FROM offline_tokens WHERE user_id = $1', [user]);
  return found ?? {};
}

async function leaseOver(): Promise<void> {
  await until(async () => Number((await row()).lease_expires_at ?? Infinity) < Date.now(), 2 * LEASE_MS);
}

async function settled(): Promise<void> {
  await until(async () => {
    const { lease_id: lease, parent_version: parent } = await row();
    return lease === null && parent !== null;
  }, 15_000);
}

function recovered(fault: string): void {
  table.add(fault, { tried: 1, recovered: 1, reauthentication: 0, lost: 0 });
}

describe('An offline token whose successor cannot be stored for long', () => {
  it('is redeemed once by its process, however long the row is locked', async () => {
    let held: RowLock | undefined;
    beforeNextAnswer(async () => (held = await lock()));
    await expect(other.validateOfflineToken(user)).resolves.toBe(true);
    for (let time = 0; time < 3; time++) await expect(other.validateOfflineToken(user)).resolves.toBe(true);
    await new Promise((resolve) => setTimeout(resolve, LEASE_MS));
    for (let time = 0; time < 3; time++) await expect(other.validateOfflineToken(user)).resolves.toBe(true);
    expect(keycloak.redemptions).toBe(1);
    await held?.release();
    await settled();
    await expect(other.checkOfflineTokenIsActive(user)).resolves.toBe(true);
    await expect(other.validateOfflineToken(user)).resolves.toBe(true);
    expect(keycloak.redemptions).toBe(2);
    recovered('offline token: row locked past its lease, one process');
  });

  it('is not sent by another process while its holder lives, also when the row is locked past the takeover delay', async () => {
    beforeNextAnswer(() => {
      proxy.block();
    });
    await expect(holder.validateOfflineToken(user)).resolves.toBe(true);
    await leaseOver();
    const calls = Array.from({ length: 3 }, () => other.validateOfflineToken(user));
    await until(async () => Number((await row()).open_leases) >= 2 || keycloak.redemptions > 1, 15_000);
    const held = await lock();
    proxy.unblock();
    await new Promise((resolve) => setTimeout(resolve, TAKEOVER_DELAY_MS + 500));
    expect(keycloak.redemptions).toBe(1);
    await held.release();
    await expect(Promise.all(calls)).resolves.toEqual([true, true, true]);
    await expect(other.checkOfflineTokenIsActive(user)).resolves.toBe(true);
    await expect(holder.validateOfflineToken(user)).resolves.toBe(true);
    recovered('offline token: row locked past lease and takeover delay, two processes');
  });

  it('finds its row when the text there was sealed anew meanwhile', async () => {
    beforeNextAnswer(() =>
      database.query(`UPDATE offline_tokens SET offline_token = offline_token || ' ' WHERE user_id = $1`, [user]),
    );
    await expect(other.validateOfflineToken(user)).resolves.toBe(true);
    await settled();
    await expect(other.checkOfflineTokenIsActive(user)).resolves.toBe(true);
    await expect(holder.validateOfflineToken(user)).resolves.toBe(true);
    recovered('offline token: sealed anew during its exchange');
  });
});

describe('An offline token that Keycloak does not accept', () => {
  it('is sent once, and never again', async () => {
    keycloak.endSessions(keycloak.users.ada);
    for (const manager of [holder, other, holder])
      await expect(manager.validateOfflineToken(user)).resolves.toBe(false);
    expect(keycloak.redemptions).toBe(1);
    await expect(row()).resolves.toMatchObject({ status: 'reauthentication_required', open_leases: 0 });
  });

  it('after a takeover is watched before it counts as ended', async () => {
    beforeNextAnswer(() => {
      proxy.block();
    });
    await expect(holder.validateOfflineToken(user)).resolves.toBe(true);
    await leaseOver();
    await expect(other.validateOfflineToken(user)).rejects.toThrow(KeycloakUnavailableError);
    await expect(row()).resolves.toMatchObject({
      status: 'active',
      quarantined_until: expect.any(Date),
      open_leases: 1,
    });
    expect(keycloak.redemptions).toBe(2);
    await expect(other.validateOfflineToken(user)).rejects.toThrow(
      /another exchange of the same token may be the cause/,
    );
    expect(keycloak.redemptions).toBe(2);
    await database.query('UPDATE offline_tokens SET quarantined_until = now() WHERE user_id = $1', [user]);
    await expect(other.validateOfflineToken(user)).resolves.toBe(false);
    expect(keycloak.redemptions).toBe(3);
    await expect(row()).resolves.toMatchObject({ status: 'reauthentication_required' });
    proxy.unblock(); // the holder can now commit its successor
    await until(async () => (await row()).status === 'active');
    table.add('offline token: holder out of reach for longer than lease and delay', {
      tried: 1,
      recovered: 0,
      reauthentication: 1,
      lost: 0,
    });
  });
});

describe('An offline token of another client', () => {
  it('is not sent, and the error names both', async () => {
    const foreign = (await startApp('other')).get(TokenManager);
    const failure = await foreign.validateOfflineToken(user).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(KeycloakMisconfiguredError);
    expect(String(failure)).toMatch(/"backend".*"other"/);
    expect(keycloak.redemptions).toBe(0);
    await expect(row()).resolves.toMatchObject({ status: 'active', open_leases: 0, client_id: 'backend' });
    await expect(other.validateOfflineToken(user)).resolves.toBe(true);
    recovered('offline token: another client configured for a while');
  });
});
