import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import {
  AuthTokenStore,
  OfflineTokenStore,
  QueryRunnerScope,
  TokenManager,
  TokenStoreUnavailableError,
} from '../src/index.js';
import { DatabaseProxy } from './support/database-proxy.js';
import { everythingPrinted } from './support/secrets.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

let database: TestDatabase;
let proxy: DatabaseProxy;
let app: INestApplication;
let dataSource: DataSource;
let tokens: TokenManager;

beforeAll(async () => {
  database = await createTestDatabase();
  proxy = new DatabaseProxy(database.url);
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: await proxy.open(),
    options: { identityProviders: { github: { clientId: 'c', clientSecret: 's' } }, connectionTimeoutMs: 2000 },
  }));
  tokens = app.get(TokenManager);
});

let user = '';
let users = 0;

beforeEach(async () => {
  user = `user-${++users}`;
  await tokens.storeIdpTokens(user, 'github', { accessToken: 'secret-access', refreshToken: 'secret-refresh' });
});

afterEach(async () => {
  await until(() => connectionsInUse(dataSource) === 0);
});

afterAll(async () => {
  await app.close();
  await proxy.close();
  await database.drop();
});

/** Every call that uses the database. Each of them must fail with the typed error. */
function everyCall(): [string, () => Promise<unknown>][] {
  const scope = app.get(QueryRunnerScope);
  const store = () =>
    tokens.storeIdpTokens(user, 'github', { accessToken: 'secret-new', accessTokenExpiresAt: 1790000000 });
  return [
    ['getIdpToken', () => tokens.getIdpToken(user, 'github')],
    ['storeIdpTokens', store],
    ['revokeIdpTokens', () => tokens.revokeIdpTokens(user, 'github')],
    ['loadTokens', () => app.get(AuthTokenStore).loadTokens({ keycloakUserId: user, idp: 'github' })],
    ['storeToken', () => app.get(OfflineTokenStore).storeToken(user, 'secret-offline')],
    ['run', () => scope.run(store)],
    ['lazy run', () => scope.run(store, { lazy: true })],
  ];
}

async function expectUnavailable(
  call: () => Promise<unknown>,
  message: RegExp,
  sqlState?: string,
  retryable = true,
): Promise<void> {
  const error: unknown = await call().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(TokenStoreUnavailableError);
  expect(error).toMatchObject({
    code: 'ERR_TOKENS_STORE_UNAVAILABLE',
    retryable,
    message: expect.stringMatching(message),
  });
  expect((error as TokenStoreUnavailableError).sqlState).toBe(sqlState);
  expect(everythingPrinted(error)).not.toMatch(/secret-|v1\.|INSERT|SELECT|UPDATE/);
}

describe('an unreachable database', () => {
  it('gives a typed error from every call, nothing is half-written, and all works again when it is back', async () => {
    const [before] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [user]);
    await proxy.close();
    for (const [, call] of everyCall()) await expectUnavailable(call, /PostgreSQL did not answer the request to/);
    await proxy.open();
    await expect(tokens.getIdpToken(user, 'github')).resolves.toMatchObject({ accessToken: 'secret-access' });
    await expect(database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [user])).resolves.toEqual([
      before,
    ]);
  });

  it('gives a typed error when it never comes up, with what to check', async () => {
    await proxy.close();
    await expectUnavailable(
      () => tokens.getIdpToken(user, 'github'),
      /request to load tokens(: ECONN\w+)?\. Check that the server is up and can be reached/,
    );
    await proxy.open();
  });

  it('is not asked for a caller who has gone, whose refusal is all that happens', async () => {
    await proxy.close();
    const queryRunners = jest.spyOn(dataSource, 'createQueryRunner');
    const signal = AbortSignal.abort(new Error('gone'));
    await expect(tokens.getIdpToken(user, 'github', { signal })).rejects.toThrow('gone');
    await proxy.open();
    expect(queryRunners).not.toHaveBeenCalled();
    queryRunners.mockRestore();
    await until(() => tokens.getIdpToken(user, 'github').then(Boolean, () => false)); // the pool works again
  });

  it('that says nothing is given up after connectionTimeoutMs, with its connection, and asked again afterwards', async () => {
    await tokens.getIdpToken(user, 'github'); // on a connection that stays open
    proxy.block();
    const startedAt = performance.now();
    await expectUnavailable(
      () => tokens.getIdpToken(user, 'github'),
      /PostgreSQL did not answer the request to load tokens in time, so the module closed the connection/,
    );
    // The server does not answer a new connection either.
    const store = () => tokens.storeIdpTokens(user, 'github', { accessToken: 'secret-new' });
    await expectUnavailable(store, /no free database connection.*check that the server can be reached/);
    expect(performance.now() - startedAt).toBeLessThan(8000);
    proxy.unblock();
    await until(() => connectionsInUse(dataSource) === 0);
    await expect(tokens.getIdpToken(user, 'github')).resolves.toBeDefined();
  });
});

describe('a database that refuses', () => {
  const table = (from: string, to: string) => database.query(`ALTER TABLE ${from} RENAME TO ${to}`);

  it('says to run the migrations when a table is missing', async () => {
    await table('auth_tokens', 'hidden_auth_tokens');
    await table('offline_tokens', 'hidden_offline_tokens');
    for (const [, call] of everyCall()) {
      await expectUnavailable(
        call,
        /SQLSTATE 42P01\). A table is missing: run the migrations with runTokenMigrations/,
        '42P01',
        false,
      );
    }
    await table('hidden_auth_tokens', 'auth_tokens');
    await table('hidden_offline_tokens', 'offline_tokens');
    await expect(tokens.getIdpToken(user, 'github')).resolves.toMatchObject({ accessToken: 'secret-access' });
  });

  it('says to run the migrations when a column is missing', async () => {
    await database.query('ALTER TABLE auth_tokens RENAME COLUMN token_version TO hidden');
    await expectUnavailable(
      () => tokens.getIdpToken(user, 'github'),
      /A column is missing: run the migrations/,
      '42703',
      false,
    );
    await database.query('ALTER TABLE auth_tokens RENAME COLUMN hidden TO token_version');
  });

  it('names a constraint of the host that is in the way, not the values', async () => {
    await database.query("ALTER TABLE auth_tokens ADD CONSTRAINT host_rule CHECK (keycloak_user_id <> 'forbidden')");
    const store = () => tokens.storeIdpTokens('forbidden', 'github', { accessToken: 'secret-forbidden' });
    await expectUnavailable(store, /SQLSTATE 23514/, '23514', false);
    await expect(store()).rejects.toMatchObject({ constraint: 'host_rule' });
    await database.query('ALTER TABLE auth_tokens DROP CONSTRAINT host_rule');
  });

  it('says that the surrounding transaction has failed already', async () => {
    const run = app.get(QueryRunnerScope).run(async (runner) => {
      await runner.query('SELECT 1/0').catch(() => undefined);
      await expectUnavailable(
        () => tokens.getIdpToken(user, 'github'),
        /earlier statement of the surrounding/,
        '25P02',
      );
    });
    // The work swallowed its error. run() reports it, because nothing was committed.
    await expect(run).rejects.toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE', sqlState: '25P02' });
  });

  it('reports a cancelled statement as such', async () => {
    const blocker = dataSource.createQueryRunner();
    await blocker.startTransaction();
    await blocker.query('LOCK TABLE auth_tokens');
    const read = expectUnavailable(() => tokens.getIdpToken(user, 'github'), /statement was cancelled/, '57014');
    const cancelled = async () =>
      (
        await database.query(
          `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'`,
          [database.name],
        )
      ).length > 0;
    while (!(await cancelled())) await new Promise((resolve) => setTimeout(resolve, 10));
    await read;
    await blocker.rollbackTransaction();
    await blocker.release();
  });
});

describe('preparedStatements: false', () => {
  it('prepares nothing on the server, and everything works', async () => {
    const unprepared = await createTokensApp({
      databaseUrl: database.url,
      poolSize: 1,
      options: { preparedStatements: false, identityProviders: { github: { clientId: 'c', clientSecret: 's' } } },
    });
    const manager = unprepared.app.get(TokenManager);
    await manager.storeIdpTokens(user, 'github', { accessToken: 'plain' });
    await expect(manager.getIdpToken(user, 'github')).resolves.toMatchObject({ accessToken: 'plain' });
    const prepared = () => unprepared.dataSource.query('SELECT name FROM pg_prepared_statements');
    await expect(prepared()).resolves.toEqual([]);
    await unprepared.app.close();
  });

  it('is not the default: statements are prepared once on each connection', async () => {
    const prepared = await createTokensApp({
      databaseUrl: database.url,
      isDirect: true,
      poolSize: 1,
      options: { identityProviders: { github: { clientId: 'c', clientSecret: 's' } } },
    });
    const manager = prepared.app.get(TokenManager);
    await manager.getIdpToken('nobody', 'github').catch(() => undefined);
    await manager.getIdpToken('nobody', 'github').catch(() => undefined);
    const names: unknown = await prepared.dataSource.query('SELECT name FROM pg_prepared_statements ORDER BY name');
    expect(names).toEqual([
      { name: expect.stringMatching(/^idp_tokens_find_access_token_[0-9a-f]{12}$/) },
      { name: expect.stringMatching(/^idp_tokens_list_accounts_[0-9a-f]{12}$/) },
      { name: expect.stringMatching(/^idp_tokens_list_keys_[0-9a-f]{12}$/) }, // at the boot
      { name: expect.stringMatching(/^idp_tokens_load_[0-9a-f]{12}$/) },
    ]);
    await prepared.app.close();
  });
});

describe('time', () => {
  it('goes on inside a long transaction: a token that expires in it is no longer called valid', async () => {
    const store = app.get(AuthTokenStore);
    const key = { keycloakUserId: user, idp: 'github' };
    await app.get(QueryRunnerScope).run(async (runner) => {
      await runner.query('SELECT now()');
      await runner.query('SELECT pg_sleep(1.5)');
      const now = Math.floor(Date.now() / 1000);
      await store.storeTokens(key, {
        ...((await store.loadTokens(key)) ?? ({} as never)),
        // This is 31.5 s ahead by the clock of the transaction, and less than 30 s ahead by the real clock.
        accessTokenExpiresAt: now + 30,
      });
      await expect(store.isAccessTokenValid(key)).resolves.toBe(false);
    });
  });
});
