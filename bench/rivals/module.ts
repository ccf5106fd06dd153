import 'reflect-metadata';

import type { INestApplicationContext } from '@nestjs/common';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  runTokenMigrations,
  TokenCipher,
  type TokenLocation,
  TokenManager,
  tokensEntities,
  TokensModule,
  type TokensModuleOptions,
} from 'nestjs-idp-tokens';
import { DataSource } from 'typeorm';

import { fill, query, vacuum } from '../support/database.js';
import type { Contestant } from '../support/race.js';
import { accessTokenOf, IDP, refreshTokenOf, userId } from '../support/users.js';

/** The key of every run. It is in the source because the tokens of the bench are no secrets. */
const KEY = Buffer.alloc(32, 'nestjs-idp-tokens bench').toString('base64');

const CLIENT = { clientId: 'bench', clientSecret: 'bench' };

/** The providers of a table whose users have different providers. */
export const IDPS = ['github', 'gitlab', 'bitbucket', 'azure_devops'] as const;

export const BENCH_OPTIONS: TokensModuleOptions = {
  encryption: { keys: [{ id: 'bench', secret: KEY }] },
  identityProviders: { github: CLIENT, gitlab: CLIENT, bitbucket: CLIENT, azure_devops: CLIENT },
};

/** An application with the module. */
export interface ModuleApp {
  readonly app: INestApplicationContext;
  readonly tokens: TokenManager;
  readonly dataSource: DataSource;
}

export async function startModule(
  url: string,
  options: Partial<TokensModuleOptions> = {},
  poolSize = 10,
): Promise<ModuleApp> {
  @Module({
    imports: [
      TypeOrmModule.forRoot({ type: 'postgres', url, entities: tokensEntities, poolSize }),
      TokensModule.forRoot({ ...BENCH_OPTIONS, ...options }),
    ],
  })
  class BenchModule {}

  const app = await NestFactory.createApplicationContext(BenchModule, { logger: ['error'] });
  const dataSource = app.get(DataSource);
  await runTokenMigrations(dataSource);
  return { app, dataSource, tokens: app.get(TokenManager) };
}

/** Fills `auth_tokens` with users. `idpOf` names the provider of each user. `expiresAt` is in epoch seconds. */
export async function seedModule(
  { app, dataSource }: ModuleApp,
  url: string,
  users: number,
  expiresAt: number,
  idpOf: (n: number) => string = () => IDP,
): Promise<void> {
  const cipher = app.get(TokenCipher);
  const location = (n: number, column: TokenLocation['column']): TokenLocation => ({
    table: 'auth_tokens',
    column,
    keycloakUserId: userId(n),
    idp: idpOf(n),
  });
  await fill(
    url,
    `INSERT INTO auth_tokens (keycloak_user_id, identity_provider, access_token, refresh_token,
         access_token_expires_at, refresh_token_expires_at)
       SELECT id, idp, access_token, refresh_token, ${expiresAt}, 0
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS rows (id, idp, access_token, refresh_token)`,
    users,
    (n) => [
      userId(n),
      idpOf(n),
      cipher.seal(accessTokenOf(n), location(n, 'access_token')),
      cipher.seal(refreshTokenOf(n), location(n, 'refresh_token')),
    ],
  );
  await vacuum(dataSource, 'auth_tokens');
}

/** Makes the access tokens of the first users expired. */
export async function expireTokens(url: string, users: number): Promise<void> {
  await query(
    url,
    `UPDATE auth_tokens SET access_token_expires_at = extract(epoch FROM now())::bigint - 1
       WHERE keycloak_user_id < $1`,
    [userId(users)],
  );
  await query(url, 'VACUUM auth_tokens');
}

export function moduleReads(
  { tokens }: ModuleApp,
  name = 'getIdpToken',
  idpOf: (n: number) => string = () => IDP,
): Contestant {
  return { name, call: (n) => tokens.getIdpToken(userId(n), idpOf(n)) };
}

export function moduleWrites({ tokens }: ModuleApp, expiresAt: number): Contestant {
  return {
    name: 'storeIdpTokens',
    call: (n) =>
      tokens.storeIdpTokens(userId(n), IDP, {
        accessToken: accessTokenOf(n),
        refreshToken: refreshTokenOf(n),
        accessTokenExpiresAt: expiresAt,
      }),
  };
}
