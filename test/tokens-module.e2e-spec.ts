import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  type DynamicModule,
  Global,
  type INestApplicationContext,
  Injectable,
  Module,
  type Type,
} from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';

import * as api from '../src/index.js';
import {
  AuthTokenStore,
  QueryRunnerScope,
  TokenDecryptionError,
  TokenManager,
  tokensEntities,
  TokensConfigurationError,
  TokensModule,
  type TokensModuleOptions,
  UnsupportedProviderError,
} from '../src/index.js';
import { ScriptedProvider } from './support/scripted-provider.js';
import { connectionsInUse, createTestDatabase, openDataSource, type TestDatabase } from './support/test-database.js';
import { newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

let database: TestDatabase;
let dataSource: DataSource;
let app: INestApplicationContext | undefined;

beforeAll(async () => {
  database = await createTestDatabase();
  dataSource = await openDataSource(database.url);
});

afterEach(async () => {
  await until(() => connectionsInUse(dataSource) === 0);
  await app?.close();
  app = undefined;
  await database.query('DELETE FROM token_keys'); // each application has a key of its own
});

afterAll(async () => {
  await dataSource.destroy();
  await database.drop();
});

/**
 * Provides a data source that outlives the applications, because an application that does not boot would leave a data
 * source of its own open.
 */
@Global()
@Module({})
class DataSourceModule {
  static with(provided: DataSource): DynamicModule {
    return {
      module: DataSourceModule,
      providers: [{ provide: DataSource, useValue: provided }],
      exports: [DataSource],
    };
  }
}

/** Boots an application. The test closes it at its end. */
async function boot(...imports: (Type | DynamicModule)[]): Promise<INestApplicationContext> {
  const testing = await Test.createTestingModule({ imports }).compile();
  testing.useLogger(false);
  app = await testing.init();
  return app;
}

/** Returns the error of an application that must not boot. */
async function bootFailure(...imports: (Type | DynamicModule)[]): Promise<Error> {
  return boot(...imports).then(
    () => {
      throw new Error('The application booted.');
    },
    (error: unknown) => error as Error,
  );
}

function rightOptions(): TokensModuleOptions {
  return {
    encryption: { keys: [{ id: 'test', secret: newKey() }] },
    identityProviders: { acme: new ScriptedProvider() },
  };
}

/** Returns options that are wrong in every way, as a host can get them from a wrong environment. */
function wrongOptions(): TokensModuleOptions {
  const options: object = {
    encryption: {
      keys: [
        { id: 'first', secret: 'c2hvcnQ=' },
        { id: 'first', secret: newKey() },
      ],
    },
    identityProviders: {
      github: { clientId: '', clientSecret: undefined },
      gitlab: { clientId: 'id', clientSecret: 'a secret value', baseUrl: 'gitlab.example.com' },
      acme: { clientId: 'id', clientSecret: 'a secret value' },
    },
    refresh: { leewaySeconds: '900', waitTimeout: 8 },
    preparedStatements: 'yes',
    connectionTimeoutMs: 0,
    hostQueryRunner: {},
    userId: 'sub',
    datasource: 'tokens',
  };
  return options as TokensModuleOptions;
}

/** The paths of the options that are wrong in {@link wrongOptions}. */
const faults = [
  'preparedStatements',
  'connectionTimeoutMs',
  'hostQueryRunner',
  'userId',
  'datasource',
  'encryption.keys[0].secret',
  'encryption.keys[1].id',
  'identityProviders.github.clientId',
  'identityProviders.github.clientSecret',
  'identityProviders.gitlab.baseUrl',
  'identityProviders.acme.tokenEndpoint',
  'refresh.leewaySeconds',
  'refresh.waitTimeout',
];

/** Returns the paths at the beginning of the lines of a configuration error, without duplicates. */
function faultPaths(error: Error): string[] {
  const lines = error.message.split('\n').filter((line) => line.startsWith('- '));
  return [...new Set(lines.map((line) => line.slice(2).split(' ')[0] ?? ''))];
}

async function expectToWork(booted: INestApplicationContext): Promise<void> {
  const tokens = booted.get(TokenManager, { strict: false });
  await tokens.storeIdpTokens('user-1', 'acme', { accessToken: 'an access token' });
  await expect(tokens.getIdpToken('user-1', 'acme')).resolves.toMatchObject({ accessToken: 'an access token' });
  await expect(tokens.getIdpToken('user-1', 'github')).rejects.toThrow(UnsupportedProviderError);
}

/** A configuration of the host, from which a factory makes the options. */
@Injectable()
class HostConfiguration {
  readonly options = rightOptions();
}

@Module({ providers: [HostConfiguration], exports: [HostConfiguration] })
class HostConfigurationModule {}

@Injectable()
class OptionsFactory {
  createTokensOptions(): TokensModuleOptions {
    return rightOptions();
  }
}

@Module({ providers: [OptionsFactory], exports: [OptionsFactory] })
class OptionsFactoryModule {}

@Injectable()
class AsyncOptionsFactory {
  constructor(private readonly configuration: HostConfiguration) {}

  createTokensOptions(): Promise<TokensModuleOptions> {
    return Promise.resolve(this.configuration.options);
  }
}

describe('TokensModule takes its options', () => {
  it.each([
    ['from forRoot', () => TokensModule.forRoot(rightOptions())],
    [
      'from a factory that injects what an imported module exports',
      () =>
        TokensModule.forRootAsync({
          imports: [HostConfigurationModule],
          inject: [HostConfiguration],
          useFactory: ({ options }: HostConfiguration) => Promise.resolve(options),
        }),
    ],
    [
      'from a class that it makes',
      () => TokensModule.forRootAsync({ imports: [HostConfigurationModule], useClass: AsyncOptionsFactory }),
    ],
    [
      'from a provider that exists',
      () => TokensModule.forRootAsync({ imports: [OptionsFactoryModule], useExisting: OptionsFactory }),
    ],
  ])('%s', async (_, tokensModule) => {
    await expectToWork(await boot(DataSourceModule.with(dataSource), tokensModule()));
  });
});

describe('TokensModule with wrong options', () => {
  it.each([
    ['forRoot', () => TokensModule.forRoot(wrongOptions())],
    ['forRootAsync', () => TokensModule.forRootAsync({ useFactory: wrongOptions })],
  ])('stops the boot with one error that names every fault and no secret: %s', async (_, tokensModule) => {
    const error = await bootFailure(DataSourceModule.with(dataSource), tokensModule());
    expect(error).toBeInstanceOf(TokensConfigurationError);
    expect(faultPaths(error).sort()).toEqual([...faults].sort());
    expect(error.message).not.toMatch(/c2hvcnQ=|a secret value/);
  });

  it('says the same from forRoot and from forRootAsync', async () => {
    const options = wrongOptions();
    const direct = await bootFailure(DataSourceModule.with(dataSource), TokensModule.forRoot(options));
    const made = await bootFailure(
      DataSourceModule.with(dataSource),
      TokensModule.forRootAsync({ useFactory: () => options }),
    );
    expect(made.message).toBe(direct.message);
  });

  it.each([
    ['undefined', undefined],
    ['null', null],
    ['an empty object', {}],
  ])('names what is missing when a factory returns %s', async (_, nothing) => {
    const useFactory = () => nothing as TokensModuleOptions;
    const error = await bootFailure(DataSourceModule.with(dataSource), TokensModule.forRootAsync({ useFactory }));
    expect(error).toBeInstanceOf(TokensConfigurationError);
    expect(faultPaths(error)).toEqual(['encryption', 'identityProviders']);
  });
});

/** A service of the host in a module that does not import TokensModule. */
@Injectable()
class Feature {
  constructor(readonly tokens: TokenManager) {}
}

@Module({ providers: [Feature] })
class FeatureModule {}

describe('TokensModule, isGlobal', () => {
  const tokensModules: [string, (isGlobal?: boolean) => DynamicModule][] = [
    ['forRoot', (isGlobal) => TokensModule.forRoot({ ...rightOptions(), isGlobal })],
    ['forRootAsync', (isGlobal) => TokensModule.forRootAsync({ useFactory: rightOptions, isGlobal })],
  ];

  it.each(tokensModules)('true: a module that does not import it can inject TokenManager (%s)', async (_, tokens) => {
    const booted = await boot(DataSourceModule.with(dataSource), tokens(true), FeatureModule);
    expect(booted.get(Feature, { strict: false }).tokens).toBe(booted.get(TokenManager, { strict: false }));
  });

  it.each(tokensModules)('false, which is the default: it cannot (%s)', async (_, tokens) => {
    for (const isGlobal of [false, undefined]) {
      const error = await bootFailure(DataSourceModule.with(dataSource), tokens(isGlobal), FeatureModule);
      expect(error.message).toMatch(/dependencies of the Feature .*TokenManager/);
    }
  });
});

/** The classes that a part of an application injects, from the instance that its module imports. */
@Injectable()
class Tokens {
  constructor(
    readonly manager: TokenManager,
    readonly store: AuthTokenStore,
    readonly scope: QueryRunnerScope,
  ) {}
}

@Module({
  imports: [TokensModule.forRoot({ ...rightOptions(), dataSource: 'first' })],
  providers: [Tokens],
})
class FirstModule {}

@Module({
  imports: [TokensModule.forRootAsync({ useFactory: rightOptions, dataSource: 'second' })],
  providers: [Tokens],
})
class SecondModule {}

describe('Two instances of TokensModule on two data sources of one application', () => {
  const key = { keycloakUserId: 'user-1', idp: 'acme' };
  const pair = { accessToken: 'an access token', refreshToken: 'a refresh token' };
  let otherDatabase: TestDatabase;
  let first: Tokens;
  let second: Tokens;

  beforeEach(async () => {
    await database.query('DELETE FROM auth_tokens');
    otherDatabase = await createTestDatabase();
    const postgres = { type: 'postgres', entities: tokensEntities, retryAttempts: 0 } as const;
    const booted = await boot(
      TypeOrmModule.forRoot({ ...postgres, name: 'first', url: database.url }),
      TypeOrmModule.forRoot({ ...postgres, name: 'second', url: otherDatabase.url }),
      FirstModule,
      SecondModule,
    );
    // Without strict, get() searches all modules and finds the same instance for both.
    first = booted.select(FirstModule).get(Tokens, { strict: true });
    second = booted.select(SecondModule).get(Tokens, { strict: true });
  });

  afterEach(async () => {
    await otherDatabase.drop();
  });

  it('do not see what the other stored', async () => {
    await first.manager.storeIdpTokens('user-1', 'acme', pair);
    await expect(first.store.loadTokens(key)).resolves.not.toBeNull();
    await expect(second.store.loadTokens(key)).resolves.toBeNull();
  });

  it('do not join the transaction of the other', async () => {
    const failure = new Error('rolled back');
    const work = first.scope.run(async () => {
      expect(second.scope.current()).toBeUndefined();
      await first.manager.storeIdpTokens('user-1', 'acme', pair);
      await second.manager.storeIdpTokens('user-1', 'acme', pair);
      throw failure;
    });
    await expect(work).rejects.toBe(failure);
    await expect(first.store.loadTokens(key)).resolves.toBeNull();
    await expect(second.store.loadTokens(key)).resolves.not.toBeNull();
  });

  it('do not open what the other sealed', async () => {
    await first.manager.storeIdpTokens('user-1', 'acme', pair);
    const sealed = await first.store.loadTokens(key);
    if (sealed) await second.store.storeTokens(key, sealed);
    await expect(first.manager.getIdpToken('user-1', 'acme')).resolves.toMatchObject({ accessToken: pair.accessToken });
    await expect(second.manager.getIdpToken('user-1', 'acme')).rejects.toThrow(TokenDecryptionError);
  });
});

describe('TokensModule without what it needs of the host', () => {
  it('does not boot on a data source that nobody registered, and names it', async () => {
    for (const tokensModule of [
      TokensModule.forRoot({ ...rightOptions(), dataSource: 'nowhere' }),
      TokensModule.forRootAsync({ useFactory: rightOptions, dataSource: 'nowhere' }),
    ]) {
      const error = await bootFailure(DataSourceModule.with(dataSource), tokensModule);
      expect(error.message).toMatch(/nowhereDataSource/);
    }
  });

  it('says what to add when the data source does not know the entities', async () => {
    const bare = await openDataSource(database.url, { entities: [] });
    const error = await bootFailure(DataSourceModule.with(bare), TokensModule.forRoot(rightOptions()));
    await bare.destroy();
    expect(error).toBeInstanceOf(TokensConfigurationError);
    expect(error.message).toContain('Add ...tokensEntities to the entities');
  });

  it('boots before a data source that is initialised later, and works once it is', async () => {
    const late = new DataSource({ type: 'postgres', url: database.url, entities: tokensEntities });
    const booted = await boot(DataSourceModule.with(late), TokensModule.forRoot(rightOptions()));
    await late.initialize();
    await expectToWork(booted);
    await late.destroy();
  });
});

describe('The package', () => {
  it('exports exactly this', () => {
    expect(Object.keys(api).sort()).toEqual([
      'AccountLinks',
      'AccountLinksController',
      'AmbiguousAccountError',
      'AuthTokenStore',
      'AuthTokens',
      'AuthenticationRequiredError',
      'DisconnectedAccount',
      'IdpToken',
      'IdpTokenGuard',
      'InsufficientScopeError',
      'InvalidTokenInputError',
      'KeyInUseError',
      'KeycloakAuthGuard',
      'KeycloakMisconfiguredError',
      'KeycloakSessionExpiredError',
      'KeycloakSessions',
      'KeycloakTokens',
      'KeycloakUnavailableError',
      'KeycloakUsers',
      'LinkAttempt',
      'LinkRefusedError',
      'OAuth2Provider',
      'OfflineTokenStore',
      'ProviderMisconfiguredError',
      'ProviderType',
      'ProviderUnavailableError',
      'QueryRunnerInterceptor',
      'QueryRunnerScope',
      'ReauthenticationRequiredError',
      'RefreshInProgressError',
      'RefreshUnavailableError',
      'RequireIdpToken',
      'StoredOfflineToken',
      'TokenCipher',
      'TokenDecryptionError',
      'TokenKeyRecord',
      'TokenKeyRotation',
      'TokenManager',
      'TokenRevocation',
      'TokenStoreUnavailableError',
      'TokensConfigurationError',
      'TokensError',
      'TokensExceptionFilter',
      'TokensModule',
      'TokensNotFoundError',
      'TokensUsageError',
      'UnsupportedProviderError',
      'UsableIdpToken',
      'UserAuthTokens',
      'UserOfflineToken',
      'completePolicy',
      'defineTokensConfig',
      'runTokenMigrations',
      'tokensEntities',
      'tokensMigrations',
    ]);
  });
});
