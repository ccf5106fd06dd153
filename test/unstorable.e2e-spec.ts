import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import { RefreshInProgressError, TokenManager, TokenStoreUnavailableError } from '../src/index.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp, newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

const encryption = { keys: [{ id: 'test', secret: newKey() }] };
let database: TestDatabase;
let endpoint: TokenEndpoint;
let app: INestApplication;
let tokens: TokenManager;

beforeAll(async () => {
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  const client = { clientId: 'client', clientSecret: 'client-secret' };
  ({ app } = await createTokensApp({
    databaseUrl: database.url,
    options: {
      encryption,
      identityProviders: { acme: { ...client, tokenEndpoint: endpoint.url } },
      refresh: { commitWaitMs: 200, shutdownTimeoutMs: 2000 },
    },
  }));
  tokens = app.get(TokenManager);
});

afterAll(async () => {
  await app.close();
  await endpoint.close();
  await database.drop();
});

const stale = { accessToken: 'short', refreshToken: 'refresh-old', accessTokenExpiresAt: 1 };

it('a refreshed pair too long for an adopted column is kept until the column is widened', async () => {
  await tokens.storeIdpTokens('ada', 'acme', stale);
  await database.query('ALTER TABLE auth_tokens ALTER COLUMN access_token TYPE varchar(300)');
  const accessToken = 'long'.repeat(200);
  endpoint.answer = () => newPair({ access_token: accessToken });
  const callers = await Promise.all(Array.from({ length: 5 }, () => tokens.getIdpToken('ada', 'acme')));
  for (const caller of callers) expect(caller.accessToken).toBe(accessToken);
  await expect(tokens.getIdpToken('ada', 'acme')).resolves.toMatchObject({ accessToken });
  expect(endpoint.redeemed).toEqual(['refresh-old']);

  await database.query('ALTER TABLE auth_tokens ALTER COLUMN access_token TYPE varchar');
  const isStored = async () => {
    const [row] = await database.query("SELECT parent_version FROM auth_tokens WHERE keycloak_user_id = 'ada'");
    return row?.parent_version !== null;
  };
  await until(isStored);
  await expect(tokens.getIdpToken('ada', 'acme')).resolves.toMatchObject({ accessToken });
  expect(endpoint.redeemed).toEqual(['refresh-old']);
});

it('keeps the lease of a pair that the database refuses, so that no other process sends the spent token', async () => {
  const policy = { exchangeTimeoutMs: 1000, leaseMs: 3500, takeoverDelayMs: 1000 };
  const acme = { clientId: 'client', clientSecret: 'client-secret', tokenEndpoint: endpoint.url, policy };
  const options = {
    encryption,
    identityProviders: { acme },
    refresh: { commitWaitMs: 200, waitTimeoutMs: 500, shutdownTimeoutMs: 2000 },
  };
  const holder = await createTokensApp({ databaseUrl: database.url, options });
  const other = await createTokensApp({ databaseUrl: database.url, options });
  try {
    endpoint.redeemed.length = 0;
    await database.query('DELETE FROM auth_tokens'); // because its tokens are too long for the column
    await tokens.storeIdpTokens('eve', 'acme', stale);
    await database.query('ALTER TABLE auth_tokens ALTER COLUMN access_token TYPE varchar(300)');
    const accessToken = 'long'.repeat(200);
    endpoint.answer = () => newPair({ access_token: accessToken });
    await holder.app.get(TokenManager).getIdpToken('eve', 'acme');
    const untilLeaseAndDelayAreOver = performance.now() + policy.leaseMs + policy.takeoverDelayMs + 2000;
    while (performance.now() < untilLeaseAndDelayAreOver) {
      await expect(other.app.get(TokenManager).getIdpToken('eve', 'acme')).rejects.toThrow(RefreshInProgressError);
    }
    await database.query('ALTER TABLE auth_tokens ALTER COLUMN access_token TYPE varchar');
    const isServed = () =>
      other.app
        .get(TokenManager)
        .getIdpToken('eve', 'acme')
        .then(
          (token) => token.accessToken === accessToken,
          () => false,
        );
    await until(isServed);
    expect(endpoint.redeemed).toEqual(['refresh-old']);
  } finally {
    await holder.app.close();
    await other.app.close();
  }
});

it('a store that a column is too short for says so, and that no second try helps', async () => {
  await database.query('ALTER TABLE auth_tokens ALTER COLUMN refresh_token TYPE varchar(300)');
  const stored = tokens.storeIdpTokens('bob', 'acme', { ...stale, refreshToken: 'long'.repeat(200) });
  await expect(stored).rejects.toBeInstanceOf(TokenStoreUnavailableError);
  await expect(stored).rejects.toMatchObject({ sqlState: '22001', retryable: false });
  await database.query('ALTER TABLE auth_tokens ALTER COLUMN refresh_token TYPE varchar');
});
