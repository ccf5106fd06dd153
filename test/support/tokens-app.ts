import { randomBytes } from 'node:crypto';

import { type INestApplication, type INestApplicationContext, type ModuleMetadata } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';

import { tokensEntities, TokensModule, type TokensModuleOptions } from '../../src/index.js';
import { poolerOptions, urlUnderTest } from './test-database.js';

/** Returns a new random key. */
export function newKey(): string {
  return randomBytes(32).toString('base64');
}

/** The key of the suite. All applications on one database have the same, because the registry of keys refuses others. */
export const TEST_KEY = { id: 'test', secret: newKey() };

/** The input of {@link createTokensApp}. */
export interface TokensAppSetup extends Pick<ModuleMetadata, 'controllers' | 'providers'> {
  /** Modules beside those of TypeORM and of the package. */
  imports?: NonNullable<ModuleMetadata['imports']>;
  databaseUrl: string;
  /** Whether the application does without the pooler of the suites, if they have one. Default: false. */
  isDirect?: boolean;
  options?: Partial<TokensModuleOptions>;
  poolSize?: number;
}

/** Closes an application whose boot failed. NestJS 11 then only throws the error of the boot again. */
export async function closeUnbooted(app: INestApplicationContext): Promise<void> {
  const dataSource = app.get(DataSource, { strict: false });
  await app.close().catch(() => dataSource.destroy());
}

/** Starts a Nest application with the module on a database. The caller closes it with `app.close()`. */
export async function createTokensApp(
  setup: TokensAppSetup,
): Promise<{ app: INestApplication; dataSource: DataSource }> {
  const {
    databaseUrl,
    isDirect = false,
    options,
    poolSize = 10,
    imports = [],
    controllers = [],
    providers = [],
  } = setup;
  const testing = await Test.createTestingModule({
    imports: [
      TypeOrmModule.forRoot({
        type: 'postgres',
        url: isDirect ? databaseUrl : urlUnderTest(databaseUrl),
        entities: tokensEntities,
        poolSize,
        retryAttempts: 0,
      }),
      TokensModule.forRoot({
        encryption: { keys: [TEST_KEY] },
        identityProviders: {},
        ...(isDirect ? {} : poolerOptions()),
        ...options,
      }),
      ...imports,
    ],
    controllers,
    providers,
  }).compile();
  testing.useLogger(false);
  const app = testing.createNestApplication();
  await app.init();
  return { app, dataSource: app.get(DataSource) };
}
