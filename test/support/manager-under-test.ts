import { AsyncResource } from 'node:async_hooks';

import type { Abstract, Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import type { QueryRunner } from 'typeorm';

import { type IdpTokens, TokenStoreUnavailableError } from '../../src/index.js';
import { randomId } from '../../src/postgres/random-id.js';
import { type RefusedRefresh, TestTokens, TokensTestingModule } from '../../src/testing/index.js';
import { createTestDatabase, openDataSource } from './test-database.js';
import { startTokenEndpoint } from './token-endpoint.js';
import { createTokensApp } from './tokens-app.js';
import { until } from './until.js';

/** The answer of a provider to a refresh: a pair with its lifetimes in seconds, or a refusal. */
export type ProviderAnswer =
  | {
      readonly accessToken: string;
      readonly refreshToken?: string;
      readonly expiresIn?: number;
      readonly scope?: string;
    }
  | { readonly status: 400 | 401 | 500 | 503; readonly error?: string };

/** A manager with what the behaviours need around it. The providers `acme`, `github` and `gitlab` are configured. */
export interface ManagerUnderTest {
  get<T>(type: Type<T> | Abstract<T>): T;
  /** Answers each refresh token. */
  answer: (refreshToken: string) => ProviderAnswer | Promise<ProviderAnswer>;
  /** The refresh tokens that the provider received, in their order. */
  readonly redeemed: string[];
  /** Resolves when the provider was asked to revoke this refresh token. */
  revocationOf(refreshToken: string): Promise<void>;
  /** Makes every store of this user at `acme` reject with an error of the store, until the returned function is called. */
  refuseStores(userId: string): Promise<() => Promise<void>>;
  /** Returns a runner of the host. The caller ends its transaction and releases it. */
  hostRunner(): QueryRunner;
  close(): Promise<void>;
}

/** Starts `TokensModule` on PostgreSQL and a token endpoint. */
export async function startRealManager(): Promise<ManagerUnderTest> {
  const database = await createTestDatabase();
  const endpoint = await startTokenEndpoint();
  const client = { clientId: 'client', clientSecret: 'client-secret' };
  const { app, dataSource } = await createTokensApp({
    databaseUrl: database.url,
    options: {
      identityProviders: {
        acme: { ...client, tokenEndpoint: endpoint.url, revocationEndpoint: `${endpoint.url}/revoke` },
        github: { ...client, tokenEndpoint: endpoint.url },
        gitlab: { ...client, tokenEndpoint: endpoint.url },
      },
    },
  });
  const manager: ManagerUnderTest = {
    get: (type) => app.get(type),
    answer: refuseAll,
    redeemed: endpoint.redeemed,
    revocationOf: (refreshToken) => until(() => endpoint.revoked.includes(refreshToken)),
    async refuseStores(userId) {
      const name = `refused_${randomId()}`;
      await dataSource.query(
        `ALTER TABLE auth_tokens ADD CONSTRAINT ${name} CHECK (keycloak_user_id <> '${userId}') NOT VALID`,
      );
      return async () => {
        await dataSource.query(`ALTER TABLE auth_tokens DROP CONSTRAINT ${name}`);
      };
    },
    hostRunner: () => dataSource.createQueryRunner(),
    async close() {
      await app.close();
      await endpoint.close();
      await database.drop();
    },
  };
  endpoint.answer = async (refreshToken) => {
    const answer = await manager.answer(refreshToken);
    if ('status' in answer) return { status: answer.status, body: { error: answer.error } };
    const { accessToken, refreshToken: successor, expiresIn, scope } = answer;
    return { body: { access_token: accessToken, refresh_token: successor, expires_in: expiresIn, scope } };
  };
  return manager;
}

/** Starts `TokensTestingModule`. Only the host that it tests has a database. */
export async function startFakeManager(): Promise<ManagerUnderTest> {
  const database = await createTestDatabase({ empty: true });
  const dataSource = await openDataSource(database.url);
  const redeemed: string[] = [];
  const testing = await Test.createTestingModule({
    imports: [
      TokensTestingModule.forRoot({
        providers: ['acme', 'github', 'gitlab'],
        async refresh(_userId, _idp, refreshToken) {
          redeemed.push(refreshToken);
          return fromProvider(await manager.answer(refreshToken));
        },
      }),
    ],
  }).compile();
  const tokens = testing.get(TestTokens);
  const manager: ManagerUnderTest = {
    get: (type) => testing.get(type),
    answer: refuseAll,
    redeemed,
    revocationOf: (refreshToken) => until(() => tokens.revoked.some((pair) => pair.refreshToken === refreshToken)),
    refuseStores(userId) {
      tokens.fail(userId, 'acme', new TokenStoreUnavailableError('The test refuses the row.', '23514'));
      return Promise.resolve(() => {
        tokens.recover(userId, 'acme');
        return Promise.resolve();
      });
    },
    hostRunner: () => dataSource.createQueryRunner(),
    async close() {
      await testing.close();
      await dataSource.destroy();
      await database.drop();
    },
  };
  return manager;
}

/** Returns a function that runs outside of the transaction in which it is later called. */
export function outside<Args extends unknown[], T>(call: (...args: Args) => T): (...args: Args) => T {
  return AsyncResource.bind(call);
}

function refuseAll(): ProviderAnswer {
  return { status: 400, error: 'invalid_grant' };
}

function fromProvider(answer: ProviderAnswer): IdpTokens | RefusedRefresh {
  if (!('status' in answer)) {
    const { accessToken, refreshToken, expiresIn, scope } = answer;
    const accessTokenExpiresAt = expiresIn === undefined ? 0 : Math.floor(Date.now() / 1000) + expiresIn;
    return { accessToken, refreshToken, accessTokenExpiresAt, scopes: scope };
  }
  const { status, error: code = `http_${status}` } = answer;
  if (status === 400) return { kind: 'terminal', code };
  if (status === 401) return { kind: 'configuration', code };
  return { kind: status === 500 ? 'ambiguous' : 'not-redeemed', code };
}
