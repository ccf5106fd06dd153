import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import { TokenManager, TokenStoreUnavailableError } from '../src/index.js';
import { RowLock } from './support/row-lock.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';

const USERS = Array.from({ length: 100 }, (_, index) => `user-${index}`);

let database: TestDatabase;
let app: INestApplication;
let dataSource: DataSource;
let tokens: TokenManager;

beforeAll(async () => {
  database = await createTestDatabase();
  const acme = { clientId: 'client', clientSecret: 'secret', tokenEndpoint: 'http://127.0.0.1:1/' };
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: database.url,
    options: { identityProviders: { acme } },
  }));
  tokens = app.get(TokenManager);
});

beforeEach(async () => {
  await database.query('TRUNCATE auth_tokens');
});

afterAll(async () => {
  await app.close();
  await database.drop();
});

function store(user: string, accessToken: string): Promise<void> {
  return tokens.storeIdpTokens(user, 'acme', { accessToken, refreshToken: `refresh ${accessToken}` });
}

function storeAll(word: string): Promise<unknown> {
  return Promise.all(USERS.map((user) => store(user, `${word} ${user}`)));
}

async function stored(user: string): Promise<string> {
  return (await tokens.getIdpToken(user, 'acme')).accessToken;
}

describe('stores of many callers at once', () => {
  it('share statements, and each has its own pair and version', async () => {
    await storeAll('first');
    const queryRunners = jest.spyOn(dataSource, 'createQueryRunner');
    await storeAll('second');
    const statements = queryRunners.mock.calls.length;
    queryRunners.mockRestore();
    expect(statements).toBeLessThanOrEqual(4);
    await expect(Promise.all(USERS.map(stored))).resolves.toEqual(USERS.map((user) => `second ${user}`));
    const versions = await database.query('SELECT DISTINCT token_version FROM auth_tokens');
    expect(versions).toHaveLength(USERS.length);
  });

  it('store the first pairs of all users too', async () => {
    await storeAll('first');
    await expect(Promise.all(USERS.map(stored))).resolves.toEqual(USERS.map((user) => `first ${user}`));
  });

  it('end the state of the refresh before, as a store alone does', async () => {
    await storeAll('first');
    await database.query(`UPDATE auth_tokens SET status = 'reauthentication_required', lease_id = 1, open_leases = 2,
      lease_expires_at = now() + interval '1 minute', failure_count = 3, failure_kind = 'transient', rejections = 4,
      last_error_code = 'x', access_token_rejected = true, quarantined_until = now(), parent_version = 1,
      client_id = 'another', issued_at = now() - interval '1 day'`);
    await Promise.all(USERS.slice(1).map((user) => store(user, 'second')));
    await store('user-0', 'second');
    const states = await database.query(`SELECT DISTINCT status, lease_id, open_leases, lease_expires_at, failure_count,
      failure_kind, rejections, last_error_code, access_token_rejected, quarantined_until, parent_version, client_id,
      issued_at > now() - interval '1 minute' AS is_new FROM auth_tokens`);
    expect(states).toHaveLength(1);
    expect(states[0]).toMatchObject({ status: 'active', open_leases: 0, client_id: 'client', is_new: true });
  });

  it('keep one of two pairs for the same key', async () => {
    await storeAll('first');
    await Promise.all([store('user-1', 'left'), store('user-1', 'right'), store('user-2', 'other')]);
    expect(['left', 'right']).toContain(await stored('user-1'));
    await expect(stored('user-2')).resolves.toBe('other');
  });

  it('do not wait for a row that a transaction of the host has locked, except the store of this row', async () => {
    await storeAll('first');
    const lock = new RowLock(database.url, ['user-7']);
    await lock.take();
    let locked: Promise<void> | undefined;
    let isStored = false;
    try {
      locked = store('user-7', 'second').then(() => {
        isStored = true;
      });
      await Promise.all(USERS.filter((user) => user !== 'user-7').map((user) => store(user, 'second')));
      expect(isStored).toBe(false);
    } finally {
      await lock.release();
      await locked;
    }
    await expect(stored('user-7')).resolves.toBe('second');
  });

  it('fail alone when a constraint of the host refuses one of them', async () => {
    await storeAll('first');
    await database.query("ALTER TABLE auth_tokens ADD CONSTRAINT host CHECK (keycloak_user_id <> 'user-3') NOT VALID");
    const results = await Promise.allSettled(USERS.map((user) => store(user, 'second')));
    await database.query('ALTER TABLE auth_tokens DROP CONSTRAINT host');
    const refused = USERS.filter((_, index) => results[index]?.status === 'rejected');
    expect(refused).toEqual(['user-3']);
    expect(results[3]).toMatchObject({ reason: expect.any(TokenStoreUnavailableError), status: 'rejected' });
    expect(results[3]).toMatchObject({ reason: { sqlState: '23514', constraint: 'host' } });
    await expect(stored('user-3')).resolves.toBe('first user-3');
    await expect(stored('user-4')).resolves.toBe('second');
  });

  it('are not repeated when their connection breaks', async () => {
    await storeAll('first');
    await database.query(`CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); RETURN NEW; END $$`);
    await database.query('CREATE TRIGGER die BEFORE UPDATE ON auth_tokens FOR EACH ROW EXECUTE FUNCTION die()');
    const queryRunners = jest.spyOn(dataSource, 'createQueryRunner');
    const results = await Promise.allSettled(USERS.slice(0, 10).map((user) => store(user, 'second')));
    const statements = queryRunners.mock.calls.length;
    queryRunners.mockRestore();
    await database.query('DROP TRIGGER die ON auth_tokens');
    expect(statements).toBeLessThanOrEqual(2);
    for (const result of results) expect(result).toMatchObject({ reason: { retryable: true } });
    await expect(stored('user-1')).resolves.toBe('first user-1');
  });
});
