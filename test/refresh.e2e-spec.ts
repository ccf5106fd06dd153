import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import {
  ProviderMisconfiguredError,
  QueryRunnerScope,
  ReauthenticationRequiredError,
  RefreshInProgressError,
  RefreshUnavailableError,
  TokenManager,
  TokensNotFoundError,
} from '../src/index.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const HOUR = 3600;
const CLIENT = { clientId: 'client', clientSecret: 'client-secret' };

let database: TestDatabase;
let endpoint: TokenEndpoint;
let app: INestApplication;
let dataSource: DataSource;
let tokens: TokenManager;

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  const tokenEndpoint = endpoint.url;
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: database.url,
    poolSize: 5,
    options: {
      identityProviders: {
        acme: { ...CLIENT, tokenEndpoint, policy: { exchangeTimeoutMs: 400, leaseMs: 2400 } },
        surviving: { ...CLIENT, tokenEndpoint, policy: { oldAccessTokenSurvives: true } },
        patient: { ...CLIENT, tokenEndpoint },
      },
      refresh: { waitTimeoutMs: 3000, backoffBaseMs: 300 },
    },
  }));
  tokens = app.get(TokenManager);
});

let user = '';
let users = 0;

beforeEach(() => {
  user = `user-${++users}`;
  endpoint.redeemed.length = 0;
  endpoint.answer = () => newPair();
});

afterEach(async () => {
  await until(() => connectionsInUse(dataSource) === 0);
});

afterAll(async () => {
  await app.close();
  await endpoint.close();
  await database.drop();
});

function epoch(offset: number): number {
  return Math.floor(Date.now() / 1000) + offset;
}

async function storePair(accessTokenExpiresIn: number, idp = 'acme', extra = {}): Promise<void> {
  await tokens.storeIdpTokens(user, idp, {
    accessToken: 'access-old',
    refreshToken: 'refresh-old',
    accessTokenExpiresAt: epoch(accessTokenExpiresIn),
    ...extra,
  });
}

/** Moves the issue time of the stored pair back, so that its leeway is that of a token with a long lifetime. */
async function backdateIssue(): Promise<void> {
  await database.query(
    "UPDATE auth_tokens SET issued_at = issued_at - interval '8 hours' WHERE keycloak_user_id = $1",
    [user],
  );
}

async function row(): Promise<Record<string, unknown>> {
  const [found] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [user]);
  return found ?? {};
}

async function sessionsWaitingForLocks(): Promise<number> {
  const [found] = await database.query(
    `SELECT count(*)::int AS waiting FROM pg_stat_activity
       WHERE datname = current_database() AND wait_event_type = 'Lock'`,
  );
  return Number(found?.waiting);
}

async function runOutOfLease(): Promise<void> {
  await database.query(
    'UPDATE auth_tokens SET lease_expires_at = now(), retry_at = now() WHERE keycloak_user_id = $1',
    [user],
  );
}

describe('a fresh token', () => {
  it('is returned without a request', async () => {
    const expiresAt = epoch(8 * HOUR);
    await storePair(8 * HOUR, 'acme', { accessTokenExpiresAt: expiresAt });
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-old', expiresAt });
    expect(endpoint.redeemed).toEqual([]);
  });

  it('is refreshed when its provider’s API has rejected it, and only at the rejected version', async () => {
    await storePair(8 * HOUR);
    const { version } = await tokens.getIdpToken(user, 'acme');
    const renewed = await tokens.getIdpToken(user, 'acme', { rejectedVersion: version });
    expect(renewed.accessToken).toMatch(/^access-secret-/);
    await expect(tokens.getIdpToken(user, 'acme', { rejectedVersion: version })).resolves.toEqual(renewed);
    expect(endpoint.redeemed).toEqual(['refresh-old']);
  });

  it('is refreshed for a caller who needs it longer than it lives, not for the others', async () => {
    await storePair(2 * HOUR);
    await backdateIssue();
    await expect(tokens.getIdpToken(user, 'acme', { minValiditySeconds: HOUR })).resolves.toMatchObject({
      accessToken: 'access-old',
    });
    await tokens.getIdpToken(user, 'acme', { minValiditySeconds: 3 * HOUR });
    expect(endpoint.redeemed).toEqual(['refresh-old']);
  });

  it('is not refreshed again and again for a demand that no token can meet', async () => {
    await storePair(-1);
    endpoint.answer = () => newPair({ expires_in: 2 * HOUR });
    for (let call = 0; call < 5; call++) await tokens.getIdpToken(user, 'acme', { minValiditySeconds: 4 * HOUR });
    expect(endpoint.redeemed).toEqual(['refresh-old']);
  });
});

describe('a stale token', () => {
  it('is refreshed by one request for 200 concurrent callers, who all get its result', async () => {
    await storePair(-1);
    endpoint.answer = async () => {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return newPair();
    };
    const queryRunners = jest.spyOn(dataSource, 'createQueryRunner');
    const results = await Promise.all(Array.from({ length: 200 }, () => tokens.getIdpToken(user, 'acme')));
    expect(endpoint.redeemed).toEqual(['refresh-old']);
    // All callers share one flight. It takes a few shared reads, one lease and one commit.
    expect(queryRunners.mock.calls.length).toBeLessThanOrEqual(8);
    queryRunners.mockRestore();
    expect(new Set(results.map(({ accessToken, version }) => accessToken + version)).size).toBe(1);
    expect(results[0]?.accessToken).toMatch(/^access-secret-/);
    expect(results[0]?.expiresAt).toBeGreaterThan(epoch(HOUR - 5));
    expect(results[0]?.expiresAt).toBeLessThanOrEqual(epoch(HOUR + 1));
  });

  it('leaves a clean row behind whose version and parent name the exchange', async () => {
    await storePair(-1);
    const before = await row();
    await tokens.getIdpToken(user, 'acme');
    await expect(row()).resolves.toMatchObject({
      parent_version: before.token_version,
      lease_id: null,
      lease_expires_at: null,
      open_leases: 0,
      failure_count: 0,
      status: 'active',
    });
  });

  it('chains: each refresh redeems the refresh token of the one before', async () => {
    await storePair(-1);
    const first = await tokens.getIdpToken(user, 'acme');
    const second = await tokens.getIdpToken(user, 'acme', { rejectedVersion: first.version });
    await tokens.getIdpToken(user, 'acme', { rejectedVersion: second.version });
    const suffix = (token: string) => token.replace('access', 'refresh');
    expect(endpoint.redeemed).toEqual(['refresh-old', suffix(first.accessToken), suffix(second.accessToken)]);
  });

  it('keeps the old refresh token when the provider omits it, and the stored refresh expiry when that is omitted', async () => {
    const refreshTokenExpiresAt = epoch(30 * 24 * HOUR);
    await storePair(-1, 'acme', { refreshTokenExpiresAt });
    endpoint.answer = () => newPair({ refresh_token: undefined });
    const { version } = await tokens.getIdpToken(user, 'acme');
    await expect(row()).resolves.toMatchObject({ refresh_token_expires_at: String(refreshTokenExpiresAt) });
    await tokens.getIdpToken(user, 'acme', { rejectedVersion: version });
    expect(endpoint.redeemed).toEqual(['refresh-old', 'refresh-old']);
  });

  it('stores the expiries that the provider names, and 0 when it names none', async () => {
    await storePair(-1);
    endpoint.answer = () => newPair({ expires_in: undefined, refresh_token_expires_in: HOUR });
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ expiresAt: 0 });
    const { refresh_token_expires_at: expiresAt } = await row();
    expect(Math.abs(Number(expiresAt) - epoch(HOUR))).toBeLessThan(5);
  });

  it('is refreshed once more after each failure, not while its backoff lasts', async () => {
    await storePair(-1);
    endpoint.answer = () => ({ status: 503 });
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(RefreshUnavailableError);
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(/the last try failed \(http_503\)/);
    expect(endpoint.redeemed).toHaveLength(1);
    await expect(row()).resolves.toMatchObject({ failure_count: 1, last_error_code: 'http_503', lease_id: null });
    await database.query('UPDATE auth_tokens SET retry_at = now() WHERE keycloak_user_id = $1', [user]);
    endpoint.answer = () => newPair();
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ expiresAt: expect.any(Number) });
    await expect(row()).resolves.toMatchObject({ failure_count: 0, last_error_code: null, retry_at: null });
  });

  it('honours Retry-After', async () => {
    await storePair(-1);
    endpoint.answer = () => ({ status: 429, headers: { 'retry-after': '120' } });
    const failure = tokens.getIdpToken(user, 'acme');
    await expect(failure).rejects.toThrow(RefreshUnavailableError);
    await expect(failure).rejects.toMatchObject({ retryAfterMs: 120_000, retryable: true });
    const again = tokens.getIdpToken(user, 'acme');
    await expect(again).rejects.toMatchObject({ code: 'ERR_TOKENS_REFRESH_UNAVAILABLE' });
    expect(endpoint.redeemed).toHaveLength(1);
  });
});

describe('a stale token that still works', () => {
  const inTransientFailures: [string, () => void][] = [
    ['the provider is down', () => (endpoint.answer = () => ({ status: 503 }))],
    ['the provider limits the rate', () => (endpoint.answer = () => ({ status: 429 }))],
    ['the answer is lost', () => (endpoint.answer = () => (response) => response.destroy())],
  ];

  it.each(inTransientFailures)('is returned with its real expiry while %s', async (_, break_) => {
    await storePair(60);
    await backdateIssue();
    break_();
    for (let call = 0; call < 3; call++) {
      await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({
        accessToken: 'access-old',
        expiresAt: expect.closeTo(epoch(60), -1),
      });
    }
    await expect(row()).resolves.toMatchObject({ status: 'active' });
  });

  it('is not returned to the caller whose request was rejected with it', async () => {
    await storePair(60);
    await backdateIssue();
    endpoint.answer = () => ({ status: 503 });
    const { version } = await tokens.getIdpToken(user, 'acme');
    await expect(tokens.getIdpToken(user, 'acme', { rejectedVersion: version })).rejects.toThrow(
      RefreshUnavailableError,
    );
  });

  it('is returned to the callers behind the first when it outlives the refresh', async () => {
    await storePair(60, 'surviving');
    await backdateIssue();
    let answer: () => void = () => undefined;
    const asked = new Promise<void>((reached) => {
      endpoint.answer = () => {
        reached();
        return new Promise(
          (resolve) =>
            (answer = () => {
              resolve(newPair());
            }),
        );
      };
    });
    const first = tokens.getIdpToken(user, 'surviving');
    await asked;
    await expect(tokens.getIdpToken(user, 'surviving')).resolves.toMatchObject({ accessToken: 'access-old' });
    answer();
    await expect(first).resolves.toMatchObject({ accessToken: expect.stringMatching(/^access-secret-/) });
  });

  it('is waited for when the refresh ends it', async () => {
    await storePair(60);
    await backdateIssue();
    const results = await Promise.all([tokens.getIdpToken(user, 'acme'), tokens.getIdpToken(user, 'acme')]);
    expect(results.map(({ accessToken }) => accessToken)).not.toContain('access-old');
  });
});

describe('the verdicts of the provider', () => {
  it.each(['invalid_grant', 'bad_refresh_token', 'invalid_token'])(
    '%s ends the grant and keeps the row',
    async (error) => {
      await storePair(-1);
      endpoint.answer = () => ({ status: error === 'bad_refresh_token' ? 200 : 400, body: { error } });
      const failure = tokens.getIdpToken(user, 'acme');
      await expect(failure).rejects.toThrow(ReauthenticationRequiredError);
      await expect(failure).rejects.toMatchObject({ reason: 'refresh_rejected' });
      await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(ReauthenticationRequiredError);
      expect(endpoint.redeemed).toHaveLength(1);
      await expect(row()).resolves.toMatchObject({ status: 'reauthentication_required', last_error_code: error });
      await storePair(8 * HOUR);
      await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-old' });
    },
  );

  it('a wrong client secret does not keep a token from being used that still works', async () => {
    await storePair(60);
    await backdateIssue();
    endpoint.answer = () => ({ status: 401, body: { error: 'invalid_client' } });
    for (let call = 0; call < 3; call++) {
      await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-old' });
    }
    expect(endpoint.redeemed).toHaveLength(1);
  });

  it.each([
    ['invalid_client', 401],
    ['incorrect_client_credentials', 200],
    ['unauthorized_client', 400],
    ['http_404', 404],
  ])('%s blames the configuration, time and again, and never asks the user to reconnect', async (code, status) => {
    await storePair(-1);
    endpoint.answer = () => ({ status, body: status === 404 ? 'not here' : { error: code } });
    for (let call = 0; call < 3; call++) {
      const failure = tokens.getIdpToken(user, 'acme');
      await expect(failure).rejects.toThrow(ProviderMisconfiguredError);
      await expect(failure).rejects.toMatchObject({ providerCode: code, retryable: false });
    }
    expect(endpoint.redeemed).toHaveLength(1);
    await expect(row()).resolves.toMatchObject({
      status: 'active',
      failure_kind: 'configuration',
      last_error_code: code,
      lease_id: null,
    });
  });

  it('an answer that is lost at once is asked for once more, inside the lease', async () => {
    await storePair(-1);
    endpoint.answer = () => (endpoint.redeemed.length === 1 ? (response) => response.destroy() : newPair());
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ expiresAt: expect.any(Number) });
    expect(endpoint.redeemed).toEqual(['refresh-old', 'refresh-old']);
  });

  it('an answer that stays lost leaves the lease to run out: nobody sends the token again, or waits, before', async () => {
    await storePair(-1);
    endpoint.answer = () => ({ status: 500 });
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(/the provider's answer was lost \(http_500\)/);
    expect(endpoint.redeemed).toHaveLength(2);
    endpoint.answer = () => newPair();
    const startedAt = performance.now();
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(/the last try failed \(http_500\)/);
    expect(performance.now() - startedAt).toBeLessThan(1000);
    expect(endpoint.redeemed).toHaveLength(2);
    await expect(row()).resolves.toMatchObject({ open_leases: 1, lease_id: expect.any(String) });
    await runOutOfLease();
    const recovered = await tokens.getIdpToken(user, 'acme');
    expect(recovered.accessToken).toMatch(/^access-secret-/);
    expect(endpoint.redeemed).toHaveLength(3);
  });

  it('a lease that ran out is not taken over while the access token works, unless the API rejected it', async () => {
    await storePair(60);
    await backdateIssue();
    endpoint.answer = () => ({ status: 500 });
    const { version } = await tokens.getIdpToken(user, 'acme');
    await runOutOfLease();
    endpoint.answer = () => newPair();
    const startedAt = performance.now();
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-old' });
    expect(performance.now() - startedAt).toBeLessThan(1000);
    expect(endpoint.redeemed).toHaveLength(2);
    await expect(tokens.getIdpToken(user, 'acme', { rejectedVersion: version })).resolves.toMatchObject({
      accessToken: expect.stringMatching(/^access-secret-/),
    });
  });

  it('a resend that settles nothing leaves the first answer lost: the token is not sent a third time', async () => {
    await storePair(60);
    await backdateIssue();
    endpoint.answer = () =>
      endpoint.redeemed.length === 1
        ? (response) => response.destroy()
        : { status: 429, headers: { 'retry-after': '0' } };
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-old' });
    await expect(row()).resolves.toMatchObject({ open_leases: 1, lease_id: expect.any(String) });
    await database.query('UPDATE auth_tokens SET retry_at = now() WHERE keycloak_user_id = $1', [user]);
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'access-old' });
    expect(endpoint.redeemed).toHaveLength(2);
  });

  it('no answer by the deadline counts as lost', async () => {
    await storePair(-1, 'acme');
    endpoint.answer = () => new Promise(() => undefined);
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(/answer was lost \(TIMEOUT\)/);
    expect(endpoint.redeemed.length).toBeLessThanOrEqual(2);
  });
});

describe('what cannot be refreshed', () => {
  it('asks for a new login when there is no refresh token, once the access token is of no use', async () => {
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'eternal' });
    const eternal = await tokens.getIdpToken(user, 'acme');
    expect(eternal).toMatchObject({ accessToken: 'eternal', expiresAt: 0 });
    const rejected = tokens.getIdpToken(user, 'acme', { rejectedVersion: eternal.version });
    await expect(rejected).rejects.toThrow(ReauthenticationRequiredError);
    await expect(rejected).rejects.toMatchObject({ reason: 'no_refresh_token' });
    await tokens.storeIdpTokens(user, 'acme', { accessToken: 'stale', accessTokenExpiresAt: epoch(20) });
    await backdateIssue();
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: 'stale' });
  });

  it('asks for a new login when both tokens have expired', async () => {
    await storePair(-2, 'acme', { refreshTokenExpiresAt: epoch(-1) });
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toMatchObject({ reason: 'refresh_token_expired' });
    expect(endpoint.redeemed).toEqual([]);
  });

  it('says that a stale pair of the current transaction must be committed first, and does not block', async () => {
    const scope = app.get(QueryRunnerScope);
    await scope.run(async () => {
      await storePair(-1);
      await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(/current transaction, which must be committed/);
    });
    expect(endpoint.redeemed).toEqual([]);
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ expiresAt: expect.any(Number) });
  });

  it('does not hold a connection while a transaction of the host has the row: the pair is stored when it is free', async () => {
    await storePair(-1, 'patient');
    const runner = dataSource.createQueryRunner();
    endpoint.answer = async () => {
      await runner.startTransaction();
      await runner.query('SELECT FROM auth_tokens WHERE keycloak_user_id = $1 FOR UPDATE', [user]);
      return newPair({ access_token: 'access-new' });
    };
    const call = tokens.getIdpToken(user, 'patient');
    await until(() => runner.isTransactionActive);
    let mostInUse = 0;
    for (let look = 0; look < 20; look++) {
      mostInUse = Math.max(mostInUse, await sessionsWaitingForLocks());
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(mostInUse).toBe(0);
    await runner.commitTransaction();
    await runner.release();
    await expect(call).resolves.toMatchObject({ accessToken: 'access-new' });
    expect(endpoint.redeemed).toHaveLength(1);
  });

  it('is served under lazy transactions on a pool as small as their number', async () => {
    const scope = app.get(QueryRunnerScope);
    await storePair(-1);
    const calls = Array.from({ length: 5 }, () => scope.run(() => tokens.getIdpToken(user, 'acme'), { lazy: true }));
    const results = await Promise.all(calls);
    expect(new Set(results.map(({ version }) => version)).size).toBe(1);
  });

  it('can be refreshed in a second transaction on the runner whose first one stored it', async () => {
    const scope = app.get(QueryRunnerScope);
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    await scope.join(runner, () => storePair(-1));
    await runner.commitTransaction();
    await runner.startTransaction();
    const token = await scope.join(runner, () => tokens.getIdpToken(user, 'acme'));
    expect(token.accessToken).toMatch(/^access-secret-/);
    await runner.commitTransaction();
    await runner.release();
  });

  it('does not wait for a row that a transaction of the host has locked', async () => {
    await storePair(-1);
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query('SELECT FROM auth_tokens WHERE keycloak_user_id = $1 FOR UPDATE', [user]);
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(RefreshInProgressError);
    await until(() => connectionsInUse(dataSource) === 1);
    await runner.rollbackTransaction();
    await runner.release();
    expect(endpoint.redeemed).toEqual([]);
  });

  it('refreshes outside of a surrounding transaction, whose rollback does not destroy the new pair', async () => {
    await storePair(-1);
    let refreshed = '';
    const run = app.get(QueryRunnerScope).run(async () => {
      refreshed = (await tokens.getIdpToken(user, 'acme')).accessToken;
      throw new Error('rolled back');
    });
    await expect(run).rejects.toThrow('rolled back');
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ accessToken: refreshed });
    expect(endpoint.redeemed).toHaveLength(1);
  });
});

describe('a caller who stops waiting', () => {
  it('gets the reason of its signal while the refresh goes on for the next', async () => {
    await storePair(-1, 'patient');
    const caller = new AbortController();
    endpoint.answer = async () => {
      caller.abort(new Error('gone'));
      await new Promise((resolve) => setTimeout(resolve, 100));
      return newPair();
    };
    await expect(tokens.getIdpToken(user, 'patient', { signal: caller.signal })).rejects.toThrow('gone');
    await expect(tokens.getIdpToken(user, 'patient')).resolves.toMatchObject({ expiresAt: expect.any(Number) });
    expect(endpoint.redeemed).toHaveLength(1);
  });

  it('does not start anything with a signal that has aborted', async () => {
    await storePair(-1);
    const signal = AbortSignal.abort(new Error('too late'));
    await expect(tokens.getIdpToken(user, 'acme', { signal })).rejects.toThrow('too late');
    expect(endpoint.redeemed).toEqual([]);
  });

  it('is told after waitTimeoutMs that the refresh is in progress, and the next call gets its result', async () => {
    await storePair(-1, 'patient');
    let answer: () => void = () => undefined;
    endpoint.answer = () =>
      new Promise(
        (resolve) =>
          (answer = () => {
            resolve(newPair());
          }),
      );
    const waiting = tokens.getIdpToken(user, 'patient');
    await expect(waiting).rejects.toThrow(RefreshInProgressError);
    await expect(waiting).rejects.toMatchObject({ retryable: true });
    answer();
    await expect(tokens.getIdpToken(user, 'patient')).resolves.toMatchObject({ expiresAt: expect.any(Number) });
    expect(endpoint.redeemed).toHaveLength(1);
  });
});

describe('a pair that is deleted while its refresh fails', () => {
  it('is not served any more, although it would still work', async () => {
    await storePair(60);
    await backdateIssue();
    endpoint.answer = async () => {
      await tokens.revokeIdpTokens(user, 'acme');
      return { status: 503 };
    };
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(TokensNotFoundError);
  });
});
