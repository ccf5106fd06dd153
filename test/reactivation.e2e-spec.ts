import { readFile } from 'node:fs/promises';

import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import {
  type EndedGrants,
  InvalidTokenInputError,
  QueryRunnerScope,
  ReauthenticationRequiredError,
  TokenManager,
  UnsupportedProviderError,
} from '../src/index.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp } from './support/tokens-app.js';

const CLIENT = { clientId: 'client', clientSecret: 'client-secret' };

let database: TestDatabase;
let endpoint: TokenEndpoint;
/** A userinfo endpoint that calls every access token dead. */
let witness: TokenEndpoint;
let asked = 0;
let app: INestApplication;
let tokens: TokenManager;
let users: string[] = [];
let rounds = 0;

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  witness = await startTokenEndpoint();
  witness.answer = () => {
    asked++;
    return { status: 401 };
  };
  const entry = {
    ...CLIENT,
    tokenEndpoint: endpoint.url,
    userinfoEndpoint: witness.url,
    policy: { refreshEndsAccessToken: true, takeoverDelayMs: 0 },
  };
  ({ app } = await createTokensApp({
    databaseUrl: database.url,
    options: { identityProviders: { acme: entry, other: entry } },
  }));
  tokens = app.get(TokenManager);
});

afterAll(async () => {
  await app.close();
  await endpoint.close();
  await witness.close();
  await database.drop();
});

beforeEach(async () => {
  rounds++;
  users = [1, 2, 3, 4].map((number) => `user-${rounds}-${number}`);
  endpoint.redeemed.length = 0;
  await database.query('DELETE FROM auth_tokens');
  for (const user of users) {
    const pair = { accessToken: `access-${user}`, refreshToken: `refresh-${user}`, accessTokenExpiresAt: 1 };
    await tokens.storeIdpTokens(user, 'acme', pair);
  }
  endpoint.answer = () => ({ status: 400, body: { error: 'invalid_grant' } });
  for (const user of users) {
    await expect(tokens.getIdpToken(user, 'acme')).rejects.toThrow(ReauthenticationRequiredError);
  }
  endpoint.redeemed.length = 0;
  endpoint.answer = () => newPair();
});

async function working(): Promise<string[]> {
  const all = await Promise.allSettled(users.map((user) => tokens.getIdpToken(user, 'acme')));
  return users.filter((_, index) => all[index]?.status === 'fulfilled');
}

describe('Grants that ended by mistake', () => {
  it('come back with their refresh tokens', async () => {
    await expect(working()).resolves.toEqual([]);
    await expect(tokens.reactivateIdpTokens('acme')).resolves.toBe(4);
    await expect(working()).resolves.toEqual(users);
    expect([...endpoint.redeemed].sort()).toEqual(users.map((user) => `refresh-${user}`));
    await expect(tokens.reactivateIdpTokens('acme')).resolves.toBe(0);
  });

  it.each<[string, () => EndedGrants, number]>([
    ['of some users', () => ({ userIds: users.slice(0, 2) }), 2],
    ['of no user', () => ({ userIds: [] }), 0],
    ['that ended since', () => ({ endedAfter: new Date(Date.now() - 60_000) }), 4],
    ['that end later', () => ({ endedAfter: new Date(Date.now() + 60_000) }), 0],
    ['with a code', () => ({ errorCode: 'invalid_grant' }), 4],
    ['with another code', () => ({ errorCode: 'bad_refresh_token' }), 0],
    ['by every condition', () => ({ userIds: users.slice(2), errorCode: 'invalid_grant' }), 2],
  ])('are chosen: %s', async (_, which, count) => {
    await expect(tokens.reactivateIdpTokens('acme', which())).resolves.toBe(count);
    await expect(working()).resolves.toHaveLength(count);
  });

  it('end again if they have really ended', async () => {
    await tokens.reactivateIdpTokens('acme', { userIds: users.slice(0, 1) });
    endpoint.answer = () => ({ status: 400, body: { error: 'invalid_grant' } });
    await expect(working()).resolves.toEqual([]);
    expect(endpoint.redeemed).toHaveLength(1);
  });

  it('are decided by the provider if their access token was found dead before its expiry', async () => {
    await database.query(
      `UPDATE auth_tokens SET last_error_code = 'ACCESS_TOKEN_DEAD', access_token_expires_at = 4102444800`,
    );
    await tokens.reactivateIdpTokens('acme');
    const all = await Promise.all(users.map((user) => tokens.getIdpToken(user, 'acme')));
    expect(all.every(({ accessToken }) => !users.includes(accessToken.replace('access-', '')))).toBe(true);
    expect(endpoint.redeemed).toHaveLength(4);
    expect(asked).toBe(0);
  });

  it('leave other providers, active grants and rows without a refresh token as they are', async () => {
    await database.query(`UPDATE auth_tokens SET refresh_token = '' WHERE keycloak_user_id = $1`, [users[0]]);
    await tokens.storeIdpTokens(users[1] ?? '', 'acme', { accessToken: 'new', refreshToken: 'new' });
    const before = await database.query('SELECT token_version FROM auth_tokens ORDER BY id');
    await expect(tokens.reactivateIdpTokens('other')).resolves.toBe(0);
    await expect(tokens.reactivateIdpTokens('acme')).resolves.toBe(2);
    await expect(database.query('SELECT token_version FROM auth_tokens ORDER BY id')).resolves.toEqual(before);
  });

  it('of Keycloak come back by the statement of the operations page', async () => {
    const page = await readFile(new URL('../docs/operations.md', import.meta.url), 'utf8');
    const statements = page.split('```sql\n').map((part) => part.split('```')[0] ?? '');
    const [statement = ''] = statements.filter((text) => text.startsWith('UPDATE offline_tokens'));
    await database.query(`INSERT INTO offline_tokens (user_id, offline_token, status, last_error_code)
      VALUES ('ended', 'sealed', 'reauthentication_required', 'invalid_grant')`);
    await database.query(statement);
    const row = await database.query("DELETE FROM offline_tokens WHERE user_id = 'ended' RETURNING status");
    expect(row).toEqual([{ status: 'active' }]);
  });

  it('come back or not with the transaction around the call', async () => {
    const run = app.get(QueryRunnerScope).run(async () => {
      await tokens.reactivateIdpTokens('acme');
      throw new Error('roll back');
    });
    await expect(run).rejects.toThrow('roll back');
    await expect(working()).resolves.toEqual([]);
  });

  it('are not looked for with arguments that cannot be meant', async () => {
    await expect(tokens.reactivateIdpTokens('acmee')).rejects.toThrow(UnsupportedProviderError);
    const wrong: unknown[] = [
      null,
      { userIds: [''] },
      { userIds: 'user-1' },
      { endedAfter: new Date('x') },
      { endedAfter: '2026-11-01' },
      { endedAfter: 0 },
      { errorCode: '' },
      { errorCode: 5 },
      { userId: 'user-1' },
    ];
    for (const which of wrong as EndedGrants[]) {
      await expect(tokens.reactivateIdpTokens('acme', which)).rejects.toThrow(InvalidTokenInputError);
    }
  });
});
