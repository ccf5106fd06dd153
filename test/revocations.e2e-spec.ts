import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { type INestApplication, Logger } from '@nestjs/common';

import { AuthTokenStore, QueryRunnerScope, TokenManager, TokensNotFoundError } from '../src/index.js';
import { TokenRevocationsTable } from '../src/storage/token-revocations/token-revocations.table.js';
import { TokenRevoker } from '../src/token-manager/token-revoker.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, type ScriptedAnswer, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const CLIENT = { clientId: 'client', clientSecret: 'client-secret' };

let database: TestDatabase;
let endpoint: TokenEndpoint;
let slow: TokenEndpoint;
let app: INestApplication;
let tokens: TokenManager;
/** The answers of the slow provider that it has not sent yet. */
const heldBack: (() => void)[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  slow = await startTokenEndpoint();
  const entry = ({ url }: TokenEndpoint) => ({ ...CLIENT, tokenEndpoint: url, revocationEndpoint: `${url}/revoke` });
  ({ app } = await createTokensApp({
    databaseUrl: database.url,
    poolSize: 5,
    options: { identityProviders: { healthy: entry(endpoint), slow: entry(slow) } },
  }));
  tokens = app.get(TokenManager);
  // Without its interval the revoker looks at the outbox only when something wakes it.
  app.get(TokenRevoker, { strict: false }).onModuleDestroy();
});

afterAll(async () => {
  await app.close();
  await endpoint.close();
  await slow.close();
  await database.drop();
});

beforeEach(() => {
  endpoint.answerRevocation = () => ({ status: 200 });
  slow.answerRevocation = () => (response) => {
    heldBack.push(() => response.end());
  };
});

afterEach(async () => {
  slow.answerRevocation = () => ({ status: 200 });
  for (const answer of heldBack.splice(0)) answer();
  await until(async () => (await pending()).length === 0);
  endpoint.revoked.length = 0;
  slow.revoked.length = 0;
  jest.restoreAllMocks();
});

let users = 0;

/** Stores a pair of a new user and revokes it. Returns its refresh token. */
async function revokeOne(idp: string, manager = tokens): Promise<string> {
  const user = `user-${++users}`;
  const refreshToken = `refresh-${users}`;
  await manager.storeIdpTokens(user, idp, { accessToken: `access-${users}`, refreshToken });
  await manager.revokeIdpTokens(user, idp);
  return refreshToken;
}

function pending(): Promise<Record<string, unknown>[]> {
  return database.query('SELECT identity_provider, last_error_code FROM token_revocations');
}

describe('The outbox of revocations', () => {
  it('lets no provider wait for another one that does not answer', async () => {
    const hanging = await Promise.all(Array.from({ length: 60 }, () => revokeOne('slow')));
    await until(() => slow.revoked.length > 0);
    const refreshToken = await revokeOne('healthy');
    await until(() => endpoint.revoked.length === 1);
    expect(endpoint.revoked).toEqual([refreshToken]);
    expect(slow.revoked.length).toBeLessThanOrEqual(20);
    await until(async () => (await pending()).length === hanging.length);
  });

  it('sends one provider at most 20 requests at a time, and all of them in the end', async () => {
    const all = await Promise.all(Array.from({ length: 50 }, () => revokeOne('slow')));
    for (const expected of [20, 40, 50]) {
      await until(() => slow.revoked.length >= Math.min(expected, all.length) || heldBack.length >= 20);
      expect(heldBack.length).toBeLessThanOrEqual(20);
      for (const answer of heldBack.splice(0)) answer();
    }
    await until(() => {
      for (const answer of heldBack.splice(0)) answer();
      return slow.revoked.length === all.length;
    });
    expect([...slow.revoked].sort()).toEqual(all.sort());
  });

  it('misses no pair that is noted while a round is under way', async () => {
    await revokeOne('slow');
    await until(() => heldBack.length === 1);
    const later = [await revokeOne('slow'), await revokeOne('healthy')];
    await until(() => endpoint.revoked.length === 1);
    expect(slow.revoked).toHaveLength(1);
    for (const answer of heldBack.splice(0)) answer();
    await until(() => slow.revoked.length === 2);
    expect([slow.revoked[1], endpoint.revoked[0]]).toEqual(later);
  });

  it('misses no pair of many that are noted at once', async () => {
    const all = await Promise.all(Array.from({ length: 45 }, () => revokeOne('healthy')));
    await until(() => endpoint.revoked.length === all.length);
  });

  it('sends at most 20 requests at a time for pairs that are older than 30 days, too', async () => {
    await tokens.storeIdpTokens('old', 'slow', { accessToken: 'a', refreshToken: 'r' });
    await database.query(
      `INSERT INTO token_revocations (keycloak_user_id, identity_provider, access_token, refresh_token, created_at)
         SELECT 'old', 'slow', access_token, refresh_token, now() - interval '40 days'
           FROM auth_tokens, generate_series(1, 70) WHERE keycloak_user_id = 'old'`,
    );
    await revokeOne('slow');
    await until(() => heldBack.length === 20);
    await revokeOne('healthy');
    await until(() => endpoint.revoked.length === 1);
    expect(heldBack).toHaveLength(20);
    await database.query("DELETE FROM token_revocations WHERE keycloak_user_id = 'old'");
  });

  it('revokes the new pair of a refresh whose row was deleted meanwhile', async () => {
    await tokens.storeIdpTokens('leaving', 'healthy', { accessToken: 'a', refreshToken: 'r', accessTokenExpiresAt: 1 });
    endpoint.answer = async () => {
      await app.get(AuthTokenStore).deleteTokens({ keycloakUserId: 'leaving', idp: 'healthy' });
      return newPair({ refresh_token: 'successor' });
    };
    await expect(tokens.getIdpToken('leaving', 'healthy')).rejects.toThrow(TokensNotFoundError);
    await until(() => endpoint.revoked.includes('successor'));
  });

  it('tries again soon after a statement of its own failed', async () => {
    const table = app.get(TokenRevocationsTable, { strict: false });
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    jest.spyOn(table, 'claim').mockRejectedValueOnce(new Error('connection lost'));
    await revokeOne('healthy');
    jest.spyOn(table, 'remove').mockRejectedValueOnce(new Error('connection lost'));
    await until(() => endpoint.revoked.length === 1);
    await until(async () => (await pending()).length === 1);
    await revokeOne('healthy');
    await until(() => endpoint.revoked.length === 2);
    // With its stack, because it is no error of the module.
    expect(warn.mock.calls.flat().join()).toMatch(/tries again: Error: connection lost\n +at /);
    await database.query('DELETE FROM token_revocations');
  });

  it('revokes after the commit of the transaction in which a pair was noted', async () => {
    const scope = app.get(QueryRunnerScope);
    await scope.run(async () => {
      await revokeOne('healthy');
      await scope.run(() => revokeOne('healthy'));
    });
    await until(() => endpoint.revoked.length === 2);
  });
});

describe('A revocation that the provider refuses', () => {
  function spies() {
    return {
      error: jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined),
      warn: jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined),
      log: jest.spyOn(Logger.prototype, 'log').mockImplementation(() => undefined),
    };
  }

  it.each<[string, ScriptedAnswer]>([
    ['invalid_request', { status: 400, body: { error: 'invalid_request' } }],
    ['invalid_token', { status: 400, body: { error: 'invalid_token' } }],
    ['http_400', { status: 400, body: 'spent' }],
  ])('is no alarm, because the pair may be spent already: %s', async (code, answer) => {
    const { error, warn, log } = spies();
    endpoint.answerRevocation = () => answer;
    const refreshToken = await revokeOne('healthy');
    await until(async () => endpoint.revoked.length === 1 && (await pending()).length === 0);
    expect(error).not.toHaveBeenCalled();
    expect(warn).not.toHaveBeenCalled();
    const text = log.mock.calls.flat().join();
    expect(text).toContain(`the provider refused the revocation (${code})`);
    expect(text).not.toContain(refreshToken);
  });

  it.each<[string, ScriptedAnswer]>([
    ['unsupported_token_type', { status: 400, body: { error: 'unsupported_token_type' } }],
    ['http_422', { status: 422 }],
  ])('is an alarm if the refusal is not about ended tokens: %s', async (code, answer) => {
    const { error } = spies();
    endpoint.answerRevocation = () => answer;
    await revokeOne('healthy');
    await until(async () => endpoint.revoked.length === 1 && (await pending()).length === 0);
    expect(error.mock.calls.flat().join()).toContain(`are not revoked (${code})`);
  });
});
