import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import pg from 'pg';
import type { DataSource, QueryRunner } from 'typeorm';

import { AuthTokenStore, OfflineTokenStore, QueryRunnerScope, type SealedToken, TokenManager } from '../src/index.js';
import { ScriptedProvider } from './support/scripted-provider.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { PAIR } from './support/token-statements.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

let database: TestDatabase;
let endpoint: TokenEndpoint;
let app: INestApplication;
let dataSource: DataSource;
let tokens: TokenManager;
let store: AuthTokenStore;
let scope: QueryRunnerScope;
let hostQueryRunner: () => QueryRunner | undefined = () => undefined;
const slow = new ScriptedProvider();

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  const client = { clientId: 'client', clientSecret: 'client-secret', tokenEndpoint: endpoint.url };
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: database.url,
    options: {
      identityProviders: { acme: { ...client, revocationEndpoint: `${endpoint.url}/revoke` }, slow },
      hostQueryRunner: () => hostQueryRunner(),
    },
  }));
  tokens = app.get(TokenManager);
  store = app.get(AuthTokenStore);
  scope = app.get(QueryRunnerScope);
});

let user = '';
let users = 0;

beforeEach(() => {
  user = `user-${++users}`;
  endpoint.redeemed.length = 0;
  endpoint.answer = () => newPair();
});

afterEach(async () => {
  hostQueryRunner = () => undefined;
  await until(() => connectionsInUse(dataSource) === 0);
});

afterAll(async () => {
  await app.close();
  await endpoint.close();
  await database.drop();
});

const STALE = { accessToken: 'access-old', refreshToken: 'refresh-old', accessTokenExpiresAt: 1 };

describe('a key that its caller changes after a call has begun', () => {
  const calls: [string, (key: { keycloakUserId: string; idp: string }) => Promise<unknown>, unknown][] = [
    ['loadTokens', (key) => store.loadTokens(key).then((row) => row?.accessToken), 'own'],
    [
      'loadTokens with a callback',
      (key) => store.loadTokens(key, () => Promise.resolve(null)).then((row) => row?.accessToken),
      'own',
    ],
    ['isAccessTokenValid', (key) => store.isAccessTokenValid(key), true],
    ['isRefreshTokenValid', (key) => store.isRefreshTokenValid(key), true],
    ['deleteTokens', (key) => store.deleteTokens(key).then((row) => row?.accessToken), 'own'],
    ['storeTokens', (key) => store.storeTokens(key, { ...PAIR, accessToken: 'new' as SealedToken }), undefined],
  ];

  it.each(calls)('has %s answer for the user that was named, and no other', async (_, call, answer) => {
    const own = { keycloakUserId: user, idp: 'acme' };
    const other = { keycloakUserId: `${user}-other`, idp: 'acme' };
    await store.storeTokens(own, { ...PAIR, accessToken: 'own' as SealedToken });
    await store.storeTokens(other, {
      ...PAIR,
      accessToken: 'other' as SealedToken,
      refreshToken: '',
      accessTokenExpiresAt: 1,
    });
    const key = { ...own };
    const answered = call(key);
    key.keycloakUserId = other.keycloakUserId;
    await expect(answered).resolves.toEqual(answer);
    await expect(store.loadTokens(other)).resolves.toMatchObject({ accessToken: 'other' });
  });
});

describe('a runner that carries one transaction after the other', () => {
  const ends: [string, (runner: QueryRunner) => Promise<unknown>][] = [
    ['commits', (runner) => runner.commitTransaction()],
    ['rolls back', (runner) => runner.rollbackTransaction()],
    [
      'rolls back to a savepoint and commits',
      async (runner) => {
        await runner.query('ROLLBACK TO SAVEPOINT before');
        await runner.commitTransaction();
      },
    ],
  ];

  it.each(ends)('refreshes in the second what the first has stored when that %s', async (_, end) => {
    await tokens.storeIdpTokens(user, 'acme', STALE);
    const runner = dataSource.createQueryRunner();
    await runner.startTransaction();
    await runner.query('SAVEPOINT before');
    await scope.join(runner, () => tokens.storeIdpTokens(user, 'acme', STALE));
    const inTheFirst = scope.join(runner, () => tokens.getIdpToken(user, 'acme'));
    await expect(inTheFirst).rejects.toThrow(/stored in the current transaction, which must be committed first/);
    await end(runner);
    await runner.startTransaction();
    const inTheSecond = await scope.join(runner, () => tokens.getIdpToken(user, 'acme'));
    await runner.commitTransaction();
    await runner.release();
    expect(inTheSecond.accessToken).toMatch(/^access-secret-/);
    expect(endpoint.redeemed).toEqual(['refresh-old']);
  });
});

describe('an access token', () => {
  it('that expires while its caller waits for a provider that then fails is not handed out', async () => {
    const expiresAt = Math.ceil(Date.now() / 1000) + 1;
    await tokens.storeIdpTokens(user, 'slow', {
      accessToken: 'dying',
      refreshToken: user,
      accessTokenExpiresAt: expiresAt,
    });
    slow.onRefresh(user, async () => {
      await until(() => Date.now() > expiresAt * 1000 + 50);
      return { kind: 'not-redeemed', code: 'HTTP_503' };
    });
    // The token now looks as if it was issued long ago. So it is stale, and it still works for a second.
    const age = "UPDATE auth_tokens SET issued_at = issued_at - interval '8 hours' WHERE keycloak_user_id = $1";
    await database.query(age, [user]);
    const fetched = tokens.getIdpToken(user, 'slow');
    await expect(fetched).rejects.toMatchObject({ code: 'ERR_TOKENS_REFRESH_UNAVAILABLE' });
    expect(slow.redeemed).toEqual([user]);
  });

  it('that an API keeps refusing is redeemed three times at most in a tight loop, and others are served', async () => {
    await tokens.storeIdpTokens(user, 'acme', { ...STALE, accessTokenExpiresAt: 0 });
    let { version } = await tokens.getIdpToken(user, 'acme');
    const refusals: unknown[] = [];
    for (let call = 0; call < 50; call++) {
      await tokens.getIdpToken(user, 'acme', { rejectedVersion: version }).then(
        (token) => (version = token.version),
        (error: unknown) => refusals.push(error),
      );
    }
    expect(endpoint.redeemed.length).toBeLessThanOrEqual(3);
    expect(refusals.length).toBeGreaterThanOrEqual(47);
    for (const refusal of refusals) {
      expect(refusal).toMatchObject({
        code: 'ERR_TOKENS_REFRESH_UNAVAILABLE',
        retryAfterMs: expect.any(Number) as unknown,
      });
    }
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({ version });
  });
});

describe('a fault of the program', () => {
  it('in hostQueryRunner comes out as it is from every call', async () => {
    const fault = new TypeError('Cannot read properties of undefined');
    hostQueryRunner = () => {
      throw fault;
    };
    const key = { keycloakUserId: user, idp: 'acme' };
    await expect(store.loadTokens(key)).rejects.toBe(fault);
    await expect(store.storeTokens(key, PAIR)).rejects.toBe(fault);
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toBe(fault);
    await expect(scope.run(() => Promise.resolve())).rejects.toBe(fault);
  });

  it('in a type parser of the host comes out as it is, alone, shared and in a transaction', async () => {
    const key = { keycloakUserId: user, idp: 'acme' };
    await store.storeTokens(key, PAIR);
    const { BOOL } = pg.types.builtins;
    const parse = pg.types.getTypeParser(BOOL, 'text') as (value: string) => boolean;
    pg.types.setTypeParser(BOOL, () => {
      throw new TypeError('a parser of the host');
    });
    try {
      const reads = await Promise.allSettled([
        store.loadTokens(key),
        ...Array.from({ length: 4 }, () => store.loadTokens(key)),
        scope.run(() => store.loadTokens(key)),
      ]);
      for (const read of reads) {
        expect(read).toMatchObject({
          status: 'rejected',
          reason: { name: 'TypeError', message: 'a parser of the host' },
        });
      }
    } finally {
      pg.types.setTypeParser(BOOL, parse);
    }
    await expect(store.loadTokens(key)).resolves.not.toBeNull();
  });
});

describe('columns of the host', () => {
  const NAMES =
    `user_id idp position row_id id lease_ms lease_state seen_version seen_state granted_at refusal present version asked
    unlocked granted new_access_token new_version new_issued_at transaction_id updated inserted deleted noted stored own due attempts
    redeemed_version version_and_times keycloak_user_id identity_provider epoch now`.split(/\s+/);

  it('may have the names that the statements use, on every table', async () => {
    for (const table of ['auth_tokens', 'offline_tokens', 'token_revocations']) {
      const adds = NAMES.map((name) => `ADD COLUMN IF NOT EXISTS ${name} text DEFAULT 'host'`).join(', ');
      await database.query(`ALTER TABLE ${table} ${adds}`);
    }
    await tokens.storeIdpTokens(user, 'acme', STALE);
    const others = Array.from({ length: 4 }, (_, each) => `${user}-${each}`);
    for (const other of others) await tokens.storeIdpTokens(other, 'acme', STALE);
    const read = await Promise.all(others.map((other) => tokens.getIdpToken(other, 'acme')));
    for (const { accessToken } of read) expect(accessToken).toMatch(/^access-secret-/);
    await expect(tokens.getIdpToken(user, 'acme')).resolves.toMatchObject({
      accessToken: expect.stringMatching(/^access-s/),
    });
    await Promise.all([...others, user].map((each) => tokens.getIdpToken(each, 'acme')));
    await Promise.all(['acme', 'slow'].map((idp) => store.loadTokens({ keycloakUserId: user, idp })));
    await expect(tokens.revokeIdpTokens(user, 'acme')).resolves.toBe(true);
    await until(async () => (await database.query('SELECT FROM token_revocations')).length === 0);
    await expect(store.deleteTokens({ keycloakUserId: `${user}-0`, idp: 'acme' })).resolves.not.toBeNull();
    const offline = app.get(OfflineTokenStore);
    await offline.storeToken(user, 'one');
    await offline.storeToken(user, 'two');
    await expect(offline.replaceToken(user, 'two', 'three')).resolves.toBe(true);
    await expect(offline.loadToken(user)).resolves.toBe('three');
    await expect(offline.deleteToken(user)).resolves.toBe(true);
  });
});
