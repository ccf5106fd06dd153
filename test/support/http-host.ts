import { type INestApplication, type LoggerService, type ModuleMetadata } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test, type TestingModule } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';

import { tokensEntities, TokensExceptionFilter, TokensModule, type TokensModuleOptions } from '../../src/index.js';
import { TEST_KEY } from './tokens-app.js';

/** The HTTP platforms of Nest, for `describe.each`. */
export const httpPlatforms = [
  { platform: 'Express', createApplication: createExpressApplication },
  { platform: 'Fastify', createApplication: createFastifyApplication },
];

/** The input of {@link startHttpHost}. */
export interface HttpHostSetup extends Pick<ModuleMetadata, 'controllers' | 'providers'> {
  databaseUrl: string;
  options?: Partial<TokensModuleOptions>;
  createApplication: (testing: TestingModule) => Promise<INestApplication>;
  /** Whether the host registers the module's exception filter for all routes. Default: true. */
  hasFilter?: boolean;
}

/** A host that listens on a port of its own. */
export interface HttpHost {
  readonly app: INestApplication;
  readonly dataSource: DataSource;
  readonly url: string;
  /** The messages that the application logged, by level. */
  readonly logged: { readonly error: string[]; readonly debug: string[] };
}

/** Starts a host with the module and, unless the setup says otherwise, its exception filter. The caller closes it with `app.close()`. */
export async function startHttpHost(setup: HttpHostSetup): Promise<HttpHost> {
  const { databaseUrl, options, createApplication, controllers = [], providers = [], hasFilter = true } = setup;
  const testing = await Test.createTestingModule({
    imports: [
      TypeOrmModule.forRoot({ type: 'postgres', url: databaseUrl, entities: tokensEntities, retryAttempts: 0 }),
      TokensModule.forRoot({
        encryption: { keys: [TEST_KEY] },
        identityProviders: {},
        ...options,
      }),
    ],
    controllers,
    providers: [...(hasFilter ? [{ provide: APP_FILTER, useClass: TokensExceptionFilter }] : []), ...providers],
  }).compile();
  const logged: HttpHost['logged'] = { error: [], debug: [] };
  testing.useLogger(loggerInto(logged));
  const app = await createApplication(testing);
  // The server listens before the requests, because supertest would otherwise open and close it for each of them.
  await app.listen(0, '127.0.0.1');
  return { app, dataSource: app.get(DataSource), url: await app.getUrl(), logged };
}

async function createExpressApplication(testing: TestingModule): Promise<INestApplication> {
  const app = testing.createNestApplication(new ExpressAdapter());
  await app.init();
  return app;
}

async function createFastifyApplication(testing: TestingModule): Promise<INestApplication> {
  const app = testing.createNestApplication<NestFastifyApplication>(new FastifyAdapter());
  await app.init();
  await app.getHttpAdapter().getInstance().ready();
  return app;
}

function loggerInto(logged: HttpHost['logged']): LoggerService {
  const ignore = () => undefined;
  return {
    log: ignore,
    warn: ignore,
    error: (message: unknown) => logged.error.push(String(message)),
    debug: (message: unknown) => logged.debug.push(String(message)),
  };
}
