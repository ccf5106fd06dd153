import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import { type PostgresServer, startPostgres } from '../../examples/support/postgres.js';
import {
  QueryRunnerScope,
  runTokenMigrations,
  TokenCipher,
  TokenManager,
  type TokensModuleOptions,
  TokensNotFoundError,
} from '../../src/index.js';
import { DatabaseProxy } from '../support/database-proxy.js';
import { OutcomeTable } from '../support/outcome-table.js';
import { createTestDatabase, openDataSource, type TestDatabase } from '../support/test-database.js';
import { newPair, type ScriptedAnswer, startTokenEndpoint, type TokenEndpoint } from '../support/token-endpoint.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { until } from '../support/until.js';

const key = { id: 'first', secret: newKey() };
const table = new OutcomeTable();

let database: TestDatabase;
let endpoint: TokenEndpoint;
let app: INestApplication;
let tokens: TokenManager;
/** Makes the provider answer the waiting request. */
let answer: (answer: ScriptedAnswer) => void;
/** Settles when the provider has the refresh token. */
let asked: Promise<void>;

function options(keys = [key]): TokensModuleOptions {
  return {
    encryption: { keys },
    identityProviders: {
      acme: {
        clientId: 'client',
        clientSecret: 'secret',
        tokenEndpoint: endpoint.url,
        revocationEndpoint: `${endpoint.url}/revoke`,
      },
    },
    refresh: { commitWaitMs: 1000 },
  };
}

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
});

afterAll(async () => {
  table.print();
  await endpoint.close();
  await database.drop();
});

let user = '';
let users = 0;

beforeEach(async () => {
  user = `user-${++users}`;
  endpoint.redeemed.length = 0;
  endpoint.revoked.length = 0;
  asked = new Promise((reached) => {
    endpoint.answer = () => {
      reached();
      return new Promise((resolve) => (answer = resolve));
    };
  });
  ({ app } = await createTokensApp({ databaseUrl: database.url, options: options() }));
  tokens = app.get(TokenManager);
});

afterEach(async () => {
  await app.close();
});

async function storeExpired(manager = tokens): Promise<void> {
  await manager.storeIdpTokens(user, 'acme', {
    accessToken: 'access-old',
    refreshToken: 'refresh-old',
    accessTokenExpiresAt: 1,
  });
}

async function row(): Promise<Record<string, unknown> | undefined> {
  const [found] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [user]);
  return found;
}

function recovered(fault: string): void {
  table.add(fault, { tried: 1, recovered: 1, reauthentication: 0, lost: 0 });
}

describe('a refresh under way survives', () => {
  it('every caller going away', async () => {
    await storeExpired();
    const caller = new AbortController();
    const calls = Array.from({ length: 10 }, () => tokens.getIdpToken(user, 'acme', { signal: caller.signal }));
    await asked;
    caller.abort(new Error('gone'));
    const outcomes = await Promise.allSettled(calls);
    expect(outcomes.every(({ status }) => status === 'rejected')).toBe(true);
    answer(newPair({ access_token: 'access-new' }));
    await until(async () => (await row())?.parent_version !== null);
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-new' });
    expect(endpoint.redeemed).toEqual(['refresh-old']);
    recovered('caller aborts mid-refresh');
  });

  it('the rollback of the transaction that asked for it', async () => {
    await storeExpired();
    const run = app.get(QueryRunnerScope).run(async (runner) => {
      await runner.query('SELECT 1');
      const token = await tokens.getIdpToken(user, 'acme');
      throw new Error(token.accessToken);
    });
    await asked;
    answer(newPair({ access_token: 'access-new' }));
    await expect(run).rejects.toThrow('access-new');
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-new' });
    expect(endpoint.redeemed).toEqual(['refresh-old']);
    recovered('host transaction rolls back mid-refresh');
  });

  it('app.close(), which waits for it and for its pair to be stored', async () => {
    await storeExpired();
    const call = tokens.getIdpToken(user, 'acme');
    await asked;
    const close = app.close().then(() => 'closed');
    const pause = new Promise((resolve) => setTimeout(resolve, 200, 'still closing'));
    await expect(Promise.race([close, pause])).resolves.toBe('still closing');
    answer(newPair({ access_token: 'access-new' }));
    await expect(call).resolves.toMatchObject({ accessToken: 'access-new' });
    await close;
    const other = await createTokensApp({ databaseUrl: database.url, options: options() });
    await expect(other.app.get(TokenManager).getIdpToken(user, 'acme')).resolves.toMatchObject({
      accessToken: 'access-new',
    });
    await other.app.close();
    expect(endpoint.redeemed).toEqual(['refresh-old']);
    recovered('app.close() during a refresh');
  });

  it('a change of keys that seals its row anew', async () => {
    await storeExpired();
    const call = tokens.getIdpToken(user, 'acme');
    await asked;
    const second = { id: 'second', secret: newKey() };
    const other = await createTokensApp({ databaseUrl: database.url, options: options([second, key]) });
    const location = { table: 'auth_tokens', keycloakUserId: user, idp: 'acme' };
    const resealed = other.app.get(TokenCipher).seal('refresh-old', { ...location, column: 'refresh_token' });
    await database.query('UPDATE auth_tokens SET refresh_token = $2 WHERE keycloak_user_id = $1', [user, resealed]);
    answer(newPair({ access_token: 'access-new' }));
    await expect(call).resolves.toMatchObject({ accessToken: 'access-new' });
    await expect(other.app.get(TokenManager).getIdpToken(user, 'acme')).resolves.toMatchObject({
      accessToken: 'access-new',
    });
    await other.app.close();
    await database.query("DELETE FROM token_keys WHERE id = 'second'"); // the next applications do not have the key
    recovered('key change (re-seal) during a refresh');
  });
});

describe('a way to the database that is cut', () => {
  /** Starts an application behind a proxy, with single-use refresh tokens and a lease of 3 s. */
  async function behindProxy() {
    const proxy = new DatabaseProxy(database.url);
    const policy = { exchangeTimeoutMs: 1000, leaseMs: 3000 };
    const acme = { clientId: 'client', clientSecret: 'secret', tokenEndpoint: endpoint.url, policy };
    const settings = { ...options(), identityProviders: { acme } };
    const cut = await createTokensApp({ databaseUrl: await proxy.open(), options: settings });
    const whole = await createTokensApp({ databaseUrl: database.url, options: settings });
    return {
      proxy,
      holder: cut.app.get(TokenManager),
      other: whole.app.get(TokenManager),
      close: async () => {
        await Promise.all([cut.app.close(), whole.app.close()]);
        await proxy.close();
      },
    };
  }

  it('for longer than the lease does not cost a single-use token: its holder brings the pair before anybody else asks', async () => {
    await storeExpired();
    const { proxy, holder, other, close } = await behindProxy();
    const call = holder.getIdpToken(user, 'acme');
    await asked;
    await proxy.close();
    answer(newPair({ access_token: 'access-new' }));
    await until(async () => Number((await row())?.lease_expires_at) < Date.now());
    await proxy.open();
    await expect(other.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-new' });
    await expect(call).resolves.toMatchObject({ accessToken: 'access-new' });
    expect(endpoint.redeemed).toEqual(['refresh-old']);
    await close();
    recovered('database out of reach for longer than the lease');
  });

  it('at the verdict of the provider: it is recorded all the same', async () => {
    await storeExpired();
    const { proxy, holder, close } = await behindProxy();
    const call = holder.getIdpToken(user, 'acme');
    await asked;
    proxy.loseAnswers();
    answer({ status: 400, body: { error: 'invalid_grant' } });
    await expect(call).rejects.toMatchObject({ code: 'ERR_TOKENS_REAUTHENTICATION_REQUIRED' });
    await expect(row()).resolves.toMatchObject({ status: 'reauthentication_required', lease_id: null });
    expect(endpoint.redeemed).toEqual(['refresh-old']);
    await close();
  });
});

describe('a refresh under way gives way', () => {
  it('to a deletion and a new login: the login stands', async () => {
    await storeExpired();
    const call = tokens.getIdpToken(user, 'acme');
    await asked;
    await tokens.revokeIdpTokens(user, 'acme');
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'access-of-login', refreshToken: 'refresh-of-login' });
    answer(newPair({ refresh_token: 'refresh-successor' }));
    await expect(call).resolves.toMatchObject({ accessToken: 'access-of-login' });
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-of-login' });
    await until(() => endpoint.revoked.length === 2);
    expect([...endpoint.revoked].sort()).toEqual(['refresh-old', 'refresh-successor']);
    recovered('delete and re-link during a refresh');
  });

  it('to a deletion: the row stays away and the new pair is revoked', async () => {
    await storeExpired();
    const call = tokens.getIdpToken(user, 'acme');
    await asked;
    await tokens.revokeIdpTokens(user, 'acme');
    answer(newPair({ refresh_token: 'refresh-successor' }));
    await expect(call).rejects.toThrow(TokensNotFoundError);
    await expect(row()).resolves.toBeUndefined();
    await until(() => endpoint.revoked.includes('refresh-successor'));
  });

  it('to nothing else: its own invalid_grant does not mark a login that came meanwhile', async () => {
    await storeExpired();
    const call = tokens.getIdpToken(user, 'acme');
    await asked;
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'access-of-login', refreshToken: 'refresh-of-login' });
    answer({ status: 400, body: { error: 'invalid_grant' } });
    await expect(call).resolves.toMatchObject({ accessToken: 'access-of-login' });
    await expect(row()).resolves.toMatchObject({ status: 'active', last_error_code: null });
    recovered('new login during a refresh that is rejected');
  });
});

describe('an invalid_grant', () => {
  /** Makes a takeover while the first holder still waits for its answer. The provider refuses the second request. */
  async function takeOverAndBeRefused() {
    await storeExpired();
    const holder = tokens.getIdpToken(user, 'acme');
    await asked;
    const answerToHolder = answer;
    await database.query('UPDATE auth_tokens SET lease_expires_at = now() WHERE keycloak_user_id = $1', [user]);
    endpoint.answer = () => ({ status: 400, body: { error: 'invalid_grant' } });
    const other = await createTokensApp({ databaseUrl: database.url, options: options() });
    const taker = other.app.get(TokenManager);
    await expect(taker.getIdpToken(user, 'acme')).rejects.toMatchObject({ code: 'ERR_TOKENS_REFRESH_UNAVAILABLE' });
    expect(endpoint.redeemed).toEqual(['refresh-old', 'refresh-old']);
    return { other, taker, holder, answerToHolder };
  }

  it('after a takeover is not believed at once: the holder’s late success lands and both go on', async () => {
    const { other, taker, holder, answerToHolder } = await takeOverAndBeRefused();
    await expect(row()).resolves.toMatchObject({ status: 'active', quarantined_until: expect.any(Date) });
    answerToHolder(newPair({ access_token: 'access-new' }));
    await expect(holder).resolves.toMatchObject({ accessToken: 'access-new' });
    await expect(taker.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-new' });
    await expect(row()).resolves.toMatchObject({ status: 'active', quarantined_until: null, open_leases: 0 });
    await other.app.close();
    recovered('invalid_grant to the loser of a takeover');
  });

  it('that comes again after the quarantine is believed', async () => {
    const { other, taker, holder, answerToHolder } = await takeOverAndBeRefused();
    await database.query('UPDATE auth_tokens SET quarantined_until = now() WHERE keycloak_user_id = $1', [user]);
    const verdict = { code: 'ERR_TOKENS_REAUTHENTICATION_REQUIRED', reason: 'refresh_rejected' };
    await expect(taker.getIdpToken(user, 'acme')).rejects.toMatchObject(verdict);
    answerToHolder({ status: 400, body: { error: 'invalid_grant' } });
    await expect(holder).rejects.toMatchObject(verdict);
    await expect(row()).resolves.toMatchObject({ status: 'reauthentication_required' });
    await other.app.close();
  });
});

describe('the database', () => {
  let server: PostgresServer;

  beforeAll(async () => {
    server = await startPostgres();
    const dataSource = await openDataSource(server.url);
    await runTokenMigrations(dataSource);
    await dataSource.destroy();
  });

  afterAll(async () => {
    await server.stop();
  });

  it('may be stopped for 10 s at the commit: callers get the token, and it is stored when the database is back', async () => {
    const own = await createTokensApp({ databaseUrl: server.url, options: options() });
    const manager = own.app.get(TokenManager);
    await storeExpired(manager);
    const call = manager.getIdpToken(user, 'acme');
    await asked;
    await server.halt();
    answer(newPair({ access_token: 'access-new', refresh_token: 'refresh-new' }));
    // The caller gets the token after refresh.commitWaitMs, although it is not stored yet.
    await expect(call).resolves.toMatchObject({ accessToken: 'access-new' });
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    await server.resume();
    await own.app.close(); // waits until the pair is stored
    const next = await createTokensApp({ databaseUrl: server.url, options: options() });
    await expect(next.app.get(TokenManager).getIdpToken(user, 'acme')).resolves.toMatchObject({
      accessToken: 'access-new',
    });
    await next.app.close();
    expect(endpoint.redeemed).toEqual(['refresh-old']);
    recovered('database stopped for 10 s at the commit');
  });
});
