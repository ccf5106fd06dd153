import { randomBytes } from 'node:crypto';

import { type INestApplication, type ModuleMetadata } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';

import { tokensEntities, TokensModule, type TokensModuleOptions } from '../../src/index.js';

/** A key for tests, never the same twice. */
export function newKey(): string {
  return randomBytes(32).toString('base64');
}

/** What {@link createTokensApp} builds an application from. */
export interface TokensAppSetup extends Pick<ModuleMetadata, 'controllers' | 'providers'> {
  databaseUrl: string;
  options?: Partial<TokensModuleOptions>;
  poolSize?: number;
}

/** An initialised Nest application with the module on a database; it closes with `app.close()`. */
export async function createTokensApp(
  setup: TokensAppSetup,
): Promise<{ app: INestApplication; dataSource: DataSource }> {
  const { databaseUrl, options, poolSize = 10, controllers = [], providers = [] } = setup;
  const testing = await Test.createTestingModule({
    imports: [
      TypeOrmModule.forRoot({
        type: 'postgres',
        url: databaseUrl,
        entities: tokensEntities,
        poolSize,
        retryAttempts: 0,
      }),
      TokensModule.forRoot({
        encryption: { keys: [{ id: 'test', secret: newKey() }] },
        identityProviders: {},
        ...options,
      }),
    ],
    controllers,
    providers,
  }).compile();
  testing.useLogger(false);
  const app = testing.createNestApplication();
  await app.init();
  return { app, dataSource: app.get(DataSource) };
}
