import type { Server } from 'node:http';

import { afterEach, describe, expect, it, jest } from '@jest/globals';
import {
  type CanActivate,
  Controller,
  type ExecutionContext,
  Get,
  type INestApplication,
  Injectable,
  Module,
  type ModuleMetadata,
  Post,
  UseFilters,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { Test, type TestingModule, type TestingModuleBuilder } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import request from 'supertest';
import type { QueryRunner } from 'typeorm';

import {
  AccountLinks,
  AuthTokenStore,
  IdpToken,
  IdpTokenGuard,
  type IdpTokens,
  KeycloakAuthGuard,
  OfflineTokenStore,
  KeycloakSessionExpiredError,
  QueryRunnerInterceptor,
  QueryRunnerScope,
  RefreshInProgressError,
  RefreshUnavailableError,
  RequireIdpToken,
  type SealedToken,
  TokenManager,
  tokensEntities,
  TokensExceptionFilter,
  TokensModule,
  TokensNotFoundError,
  TokenStoreUnavailableError,
  TokensUsageError,
  UnsupportedProviderError,
  UsableIdpToken,
} from '../src/index.js';
import { KeycloakTokenVerifier } from '../src/keycloak/keycloak-token-verifier.js';
import { sodium } from '../src/sealing/sodium.js';
import { DisconnectedAccountsTable } from '../src/storage/disconnected-accounts/disconnected-accounts.table.js';
import { TokenRevocationsTable } from '../src/storage/token-revocations/token-revocations.table.js';
import { idpToken, TestTokens, TokensTestingModule, type TokensTestingOptions } from '../src/testing/index.js';
import { gate } from './support/gate.js';
import { outside } from './support/manager-under-test.js';
import { everythingPrinted } from './support/secrets.js';
import { newKey } from './support/tokens-app.js';

@Injectable()
class AuthGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    context.switchToHttp().getRequest<{ user?: object }>().user = { sub: 'ada', account: 'account-1' };
    return true;
  }
}

@Controller('repositories')
@UseFilters(TokensExceptionFilter)
@UseGuards(AuthGuard, IdpTokenGuard)
@RequireIdpToken('github')
class RepositoriesController {
  constructor(private readonly tokens: TokenManager) {}

  @Get()
  list(@IdpToken('github') token: IdpToken): string {
    return token.accessToken;
  }

  @Post()
  @UseInterceptors(QueryRunnerInterceptor)
  async create(): Promise<never> {
    await this.tokens.storeIdpTokens('ada', 'github', { accessToken: 'of a handler that fails' });
    throw new TokensNotFoundError({ keycloakUserId: 'ada', idp: 'acme' });
  }
}

@Controller('me')
@UseFilters(TokensExceptionFilter)
@UseGuards(KeycloakAuthGuard, IdpTokenGuard)
@RequireIdpToken('github')
class MeController {
  @Get()
  get(@IdpToken('github') token: IdpToken): string {
    return token.accessToken;
  }
}

/** A part of the host that has a database, which is not there. */
const nowhere = TypeOrmModule.forRoot({
  type: 'postgres',
  url: 'postgres://nobody@127.0.0.1:9/nowhere',
  entities: tokensEntities,
  retryAttempts: 0,
});
const tokensModule = TokensModule.forRoot({
  encryption: { keys: [{ id: 'a', secret: newKey() }] },
  identityProviders: {},
});

@Module({})
class NoDatabaseModule {}

@Module({ imports: [nowhere, tokensModule], exports: [TokensModule] })
class PersistenceModule {}

@Module({ imports: [PersistenceModule], controllers: [RepositoriesController, MeController] })
class AppModule {}

let app: INestApplication | undefined;

afterEach(async () => {
  jest.useRealTimers();
  await app?.close();
  app = undefined;
});

async function listen(testing: TestingModuleBuilder): Promise<Server> {
  app = (await testing.compile()).createNestApplication({ logger: false });
  await app.init();
  return app.getHttpServer() as Server;
}

function compile(options: TokensTestingOptions = {}, metadata: ModuleMetadata = {}): Promise<TestingModule> {
  return Test.createTestingModule({ ...metadata, imports: [TokensTestingModule.forRoot(options)] }).compile();
}

describe('IdpTokenGuard', () => {
  it('needs only a TokenManager, so that a unit test of a controller needs no TokensModule', async () => {
    const getIdpToken = jest.fn(() => Promise.resolve(idpToken('the token of a fake')));
    const server = await listen(
      Test.createTestingModule({
        controllers: [RepositoriesController],
        providers: [
          { provide: TokenManager, useValue: { getIdpToken } },
          { provide: QueryRunnerScope, useValue: {} },
        ],
      }),
    );
    await request(server).get('/repositories').expect(200, 'the token of a fake');
    expect(getIdpToken.mock.calls).toEqual([['ada', 'github']]);
  });
});

describe('UsableIdpToken', () => {
  it('is the class of every IdpToken, and prints redacted', () => {
    const token: IdpToken = new UsableIdpToken('a secret text', 1_790_000_000, '7');
    expect(token).toMatchObject({ accessToken: 'a secret text', expiresAt: 1_790_000_000, version: '7' });
    expect(JSON.stringify(token)).toBe('{"accessToken":"[redacted]","expiresAt":1790000000,"version":"7"}');
    expect(idpToken('another secret')).toBeInstanceOf(UsableIdpToken);
    expect(idpToken('another secret')).toMatchObject({ accessToken: 'another secret', expiresAt: 0, version: '1' });
    expect(everythingPrinted(idpToken('another secret', { expiresAt: 5, version: '2' }))).not.toContain('secret');
    expect(idpToken('x', { expiresAt: 5, version: '2' })).toMatchObject({ expiresAt: 5, version: '2' });
  });
});

describe('An application whose database is not there', () => {
  it('boots with TokensTestingModule in place of the module that has the database', async () => {
    const server = await listen(
      Test.createTestingModule({ imports: [AppModule] })
        .overrideModule(PersistenceModule)
        .useModule(TokensTestingModule.forRoot({ tokens: { ada: { github: 'in memory' } } })),
    );
    await request(server).get('/repositories').expect(200, 'in memory');
  });

  it('boots with TokensTestingModule in place of the TokensModule that a variable has', async () => {
    const server = await listen(
      Test.createTestingModule({ imports: [AppModule] })
        .overrideModule(nowhere)
        .useModule(NoDatabaseModule)
        .overrideModule(tokensModule)
        .useModule(TokensTestingModule.forRoot({ tokens: { ada: { github: 'in memory' } } })),
    );
    await request(server).get('/repositories').expect(200, 'in memory');
  });
});

describe('TokensTestingModule', () => {
  it('has what guards, decorators, filters and interceptors need', async () => {
    const server = await listen(
      Test.createTestingModule({
        imports: [
          TokensTestingModule.forRoot({
            tokens: { ada: { github: 'of ada' }, bob: { github: 'of bob' } },
            bearerTokens: { 'bearer-of-bob': { sub: 'bob' } },
          }),
        ],
        controllers: [RepositoriesController, MeController],
      }),
    );
    await request(server).get('/repositories').expect(200, 'of ada');
    await request(server).post('/repositories').expect(403);
    await request(server).get('/repositories').expect(200, 'of ada');
    await request(server).get('/me').set('authorization', 'Bearer bearer-of-bob').expect(200, 'of bob');
    const refused = await request(server).get('/me').set('authorization', 'Bearer another').expect(401);
    expect(refused.headers['www-authenticate']).toBe('Bearer error="invalid_token"');
    expect(refused.body).toMatchObject({ code: 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED' });

    app?.get(TestTokens).fail('ada', 'github', new RefreshInProgressError({ keycloakUserId: 'ada', idp: 'github' }));
    const failed = await request(server).get('/repositories').expect(503);
    expect(failed.headers['retry-after']).toBe('1');
  });

  it('takes userId and isGlobal as TokensModule does', async () => {
    @Module({ controllers: [RepositoriesController] })
    class FeatureModule {}
    const server = await listen(
      Test.createTestingModule({
        imports: [
          FeatureModule,
          TokensTestingModule.forRoot({
            isGlobal: true,
            tokens: { 'account-1': { github: 'of the account' } },
            userId: (host) => (host as { user?: { account: string } }).user?.account,
          }),
        ],
      }),
    );
    await request(server).get('/repositories').expect(200, 'of the account');
  });

  it('has its tokens before everything that reads them, also in a module that is not initialised', async () => {
    const READ = 'READ';
    const testing = await compile(
      { tokens: { ada: { github: 'a token' } } },
      {
        providers: [
          {
            provide: READ,
            inject: [TokenManager],
            useFactory: async (tokens: TokenManager) => (await tokens.getIdpToken('ada', 'github')).accessToken,
          },
        ],
      },
    );
    expect(testing.get(READ)).toBe('a token');
  });

  it('needs no libsodium', async () => {
    await compile({ tokens: { ada: { github: 'a token' } } });
    expect(() => sodium()).toThrow('it is not loaded');
  });

  it('keeps the tokens of two modules apart', async () => {
    const first = await compile({ tokens: { ada: { github: 'of the first' } } });
    const second = await compile();
    await expect(second.get(TokenManager).getIdpToken('ada', 'github')).rejects.toThrow(TokensNotFoundError);
    await expect(first.get(TokenManager).getIdpToken('ada', 'github')).resolves.toMatchObject({
      accessToken: 'of the first',
    });
  });

  it('refuses tokens that TokensModule would refuse, when it boots', async () => {
    const unknown = { providers: ['gitlab'], tokens: { ada: { github: 'a token' } } };
    await expect(compile(unknown)).rejects.toThrow(UnsupportedProviderError);
    await expect(compile({ tokens: { ada: { github: '' } } })).rejects.toThrow(/access token must be a non-empty/);
    await expect(compile({ providers: [' '] })).rejects.toThrow(/TokensTestingModule are wrong: identityProviders\. /);
  });

  it('has every provider that options can name, and no other one', async () => {
    const manager = (await compile()).get(TokenManager);
    await expect(manager.reactivateIdpTokens('any name')).resolves.toBe(0);
    for (const idp of ['', ' ', 'x'.repeat(300), undefined as unknown as string]) {
      await expect(manager.reactivateIdpTokens(idp)).rejects.toThrow(UnsupportedProviderError);
    }
  });

  it('refuses the bearer tokens that a realm would refuse for their claims', async () => {
    jest.useFakeTimers({ now: 1_800_000_000_000 });
    const now = 1_800_000_000;
    const testing = await compile({
      bearerTokens: {
        'for ever': { sub: 'ada' },
        good: { sub: 'ada', exp: now + 60, nbf: now, typ: 'Bearer' },
        expired: { sub: 'ada', exp: now },
        'without a readable expiry': { sub: 'ada', exp: 'tomorrow' as never },
        'not yet good': { sub: 'ada', nbf: now + 1 },
        'of nobody': { exp: now + 60 },
        'a refresh token': { sub: 'ada', typ: 'Refresh' },
        'bound to a key': { sub: 'ada', cnf: { jkt: 'thumbprint' } },
      },
    });
    const verifier = testing.get(KeycloakTokenVerifier, { strict: false });
    const codeOf = async (token: string) => {
      try {
        return (await verifier.verify(token)).sub;
      } catch (error) {
        return error instanceof KeycloakSessionExpiredError ? error.code : error;
      }
    };
    const refused = 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED';
    expect(await codeOf('for ever')).toBe('ada');
    expect(await codeOf('good')).toBe('ada');
    expect(await codeOf('expired')).toBe(refused);
    expect(await codeOf('without a readable expiry')).toBe(refused);
    expect(await codeOf('not yet good')).toBe(refused);
    expect(await codeOf('of nobody')).toBe(refused);
    expect(await codeOf('a refresh token')).toBe(refused);
    expect(await codeOf('bound to a key')).toBe(refused);
    jest.advanceTimersByTime(60_000);
    expect(await codeOf('good')).toBe(refused);
    expect(await codeOf('for ever')).toBe('ada');
    expect(await codeOf('not yet good')).toBe('ada');
  });

  it('knows the providers by their names', async () => {
    const testing = await compile({
      tokens: { ada: { gitlab: 'a token', acme: 'a token', bitbucket_data_center: 'x' } },
    });
    const expiryAt = async (idp: string) => (await testing.get(TokenManager).getIdpToken('ada', idp)).expiresAt;
    expect(Math.abs((await expiryAt('gitlab')) - Date.now() / 1000 - 7200)).toBeLessThan(5);
    expect(await expiryAt('acme')).toBe(0);
    expect(await expiryAt('bitbucket_data_center')).toBe(0);
  });
});

describe('A refresh of TokensTestingModule', () => {
  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['a text', 'a token'],
    ['an empty object', {}],
    ['an access token that is no text', { accessToken: 7 }],
    ['an unknown kind', { kind: 'success', tokens: { accessToken: 'x' } }],
  ])('has a lost answer if the host answers with %s', async (_, answer) => {
    const pair = { accessToken: 'old', refreshToken: 'refresh', accessTokenExpiresAt: 1 };
    const testing = await compile({ refresh: () => answer as IdpTokens, tokens: { ada: { acme: pair } } });
    const refreshed = testing.get(TokenManager).getIdpToken('ada', 'acme');
    await expect(refreshed).rejects.toThrow(RefreshUnavailableError);
    await expect(refreshed).rejects.toThrow(/answer was lost \(INVALID_ANSWER\)/);
  });

  it('names no code of the host that could be a token', async () => {
    const pair = { accessToken: 'old', refreshToken: 'refresh', accessTokenExpiresAt: 1 };
    const refresh = () => ({ kind: 'not-redeemed', code: 'a secret text' }) as const;
    const testing = await compile({ refresh, tokens: { ada: { acme: pair } } });
    await expect(testing.get(TokenManager).getIdpToken('ada', 'acme')).rejects.toThrow(/request \(UNNAMED\)/);
  });

  it('numbers the tokens, if the host does not answer it', async () => {
    const testing = await compile({ tokens: { ada: { github: 'token' } } });
    const manager = testing.get(TokenManager);
    const first = await manager.getIdpToken('ada', 'github');
    const second = await manager.getIdpToken('ada', 'github', { rejectedVersion: first.version });
    const third = await manager.getIdpToken('ada', 'github', { rejectedVersion: second.version });
    expect([first, second, third].map(({ accessToken }) => accessToken)).toEqual([
      'token',
      'token-refreshed-1',
      'token-refreshed-2',
    ]);
    expect(testing.get(TestTokens).stored('ada', 'github')).toMatchObject({
      refreshToken: 'token-refresh-refreshed-2',
    });
  });

  it('is answered by the host, and fails as the host says', async () => {
    const refresh = jest.fn<NonNullable<TokensTestingOptions['refresh']>>();
    const expired = {
      accessToken: 'old',
      refreshToken: 'refresh',
      accessTokenExpiresAt: 1,
      refreshTokenExpiresAt: 9e9,
    };
    const testing = await compile({ refresh, tokens: { ada: { github: expired } } });
    const get = () => testing.get(TokenManager).getIdpToken('ada', 'github');
    const failure = new Error('The provider of the test is not ready.');
    refresh.mockRejectedValueOnce(failure);
    await expect(get()).rejects.toBe(failure);
    refresh.mockReturnValueOnce({ accessToken: 'new', accessTokenExpiresAt: 8e12 });
    await expect(get()).rejects.toThrow('accessTokenExpiresAt must be whole epoch seconds');
    refresh.mockReturnValueOnce({ accessToken: 'new', accessTokenExpiresAt: 8e9 });
    await expect(get()).resolves.toMatchObject({ accessToken: 'new', expiresAt: 8e9 });
    expect(refresh.mock.calls).toEqual(Array.from({ length: 3 }, () => ['ada', 'github', 'refresh']));
    const kept = { refreshToken: 'refresh', refreshTokenExpiresAt: 9e9 };
    expect(testing.get(TestTokens).stored('ada', 'github')).toMatchObject(kept);

    await testing.get(TokenManager).storeIdpTokens('ada', 'github', expired);
    refresh.mockReturnValueOnce({ accessToken: 'new', refreshToken: 'rotated' });
    await get();
    const rotated = { refreshToken: 'rotated', refreshTokenExpiresAt: 0 };
    expect(testing.get(TestTokens).stored('ada', 'github')).toMatchObject(rotated);
  });

  it('needs no timers, so that a test can let tokens expire by fake ones', async () => {
    jest.useFakeTimers();
    const testing = await compile();
    const manager = testing.get(TokenManager);
    const expiresAt = Math.floor(Date.now() / 1000) + 7200;
    await manager.storeIdpTokens('ada', 'github', {
      accessToken: 't',
      refreshToken: 'r',
      accessTokenExpiresAt: expiresAt,
    });
    jest.advanceTimersByTime(3_600_000);
    await expect(manager.getIdpToken('ada', 'github')).resolves.toMatchObject({ accessToken: 't', expiresAt });
    const demanding = { minValiditySeconds: 3601 };
    await expect(manager.getIdpToken('ada', 'github', demanding)).resolves.toMatchObject({
      accessToken: 't-refreshed-1',
    });
    jest.advanceTimersByTime(3_600_000);
    await expect(manager.getIdpToken('ada', 'github')).resolves.toMatchObject({ accessToken: 't-refreshed-2' });
    await testing.close();
  });
});

describe('TestTokens', () => {
  it('has what was stored and revoked, in plaintext', async () => {
    const testing = await compile({ tokens: { ada: { github: 'a token' } } });
    const [tokens, manager] = [testing.get(TestTokens), testing.get(TokenManager)];
    expect(tokens.stored('bob', 'github')).toBeNull();
    expect(tokens.offlineToken('bob')).toBeNull();
    const pair = { accessToken: 'a', refreshToken: 'r', accessTokenExpiresAt: 5, refreshTokenExpiresAt: 6 };
    await manager.storeIdpTokens('bob', 'github', pair);
    await manager.storeOfflineToken('bob', 'offline');
    expect(tokens.stored('bob', 'github')).toEqual({ ...pair, version: expect.stringMatching(/^\d+$/) });
    expect(tokens.offlineToken('bob')).toBe('offline');
    await manager.revokeIdpTokens('ada', 'github');
    await manager.storeIdpTokens('ada', 'bitbucket', { accessToken: 'alone' });
    await manager.revokeIdpTokens('ada', 'bitbucket');
    expect(tokens.revoked).toEqual([
      { userId: 'ada', idp: 'github', accessToken: 'a token', refreshToken: 'a token-refresh' },
      { userId: 'ada', idp: 'bitbucket', accessToken: 'alone', refreshToken: '' },
    ]);
    expect(() => tokens.stored('', 'github')).toThrow('The user id must be a non-empty string.');
  });

  it('returns texts that the host sealed itself as they are', async () => {
    const testing = await compile();
    const sealed = {
      accessToken: 'sealed elsewhere' as SealedToken,
      accessTokenExpiresAt: 0,
      refreshTokenExpiresAt: 0,
    };
    await testing.get(AuthTokenStore).getInstance('ada', 'acme').storeTokens(sealed);
    await testing.get(OfflineTokenStore).storeToken('ada', 'sealed elsewhere');
    expect(testing.get(TestTokens).stored('ada', 'acme')).toMatchObject({ accessToken: 'sealed elsewhere' });
    expect(testing.get(TestTokens).offlineToken('ada')).toBe('sealed elsewhere');
  });

  it('makes the calls of one user and provider fail, once or until recover', async () => {
    const testing = await compile({ tokens: { ada: { github: 'a token', acme: 'another' } } });
    const [tokens, manager] = [testing.get(TestTokens), testing.get(TokenManager)];
    const failure = new RefreshInProgressError({ keycloakUserId: 'ada', idp: 'github' });
    tokens.fail('ada', 'github', failure);
    for (const call of [
      () => manager.getIdpToken('ada', 'github'),
      () => manager.storeIdpTokens('ada', 'github', { accessToken: 'x' }),
      () => manager.revokeIdpTokens('ada', 'github'),
      () => testing.get(AuthTokenStore).loadTokens({ keycloakUserId: 'ada', idp: 'github' }),
      () => testing.get(AuthTokenStore).deleteTokens({ keycloakUserId: 'ada', idp: 'github' }),
    ]) {
      await expect(call()).rejects.toBe(failure);
    }
    await expect(manager.getIdpToken('ada', 'acme')).resolves.toMatchObject({ accessToken: 'another' });
    tokens.recover('ada', 'github');
    await expect(manager.getIdpToken('ada', 'github')).resolves.toMatchObject({ accessToken: 'a token' });
    tokens.fail('ada', 'github', failure, { once: true });
    await expect(manager.getIdpToken('ada', 'github')).rejects.toBe(failure);
    await expect(manager.getIdpToken('ada', 'github')).resolves.toMatchObject({ accessToken: 'a token' });
  });

  it('makes the surrounding transaction fail by an error of the store, and by no other error of the module', async () => {
    const testing = await compile({ tokens: { ada: { github: 'before' } } });
    const [tokens, manager] = [testing.get(TestTokens), testing.get(TokenManager)];
    const storeWith = (error: Error) =>
      testing.get(QueryRunnerScope).run(async () => {
        await manager.storeIdpTokens('bob', 'github', { accessToken: error.message });
        tokens.fail('ada', 'github', error, { once: true });
        await expect(manager.getIdpToken('ada', 'github')).rejects.toBe(error);
      });
    await storeWith(new RefreshInProgressError({ keycloakUserId: 'ada', idp: 'github' }));
    const { accessToken } = await manager.getIdpToken('bob', 'github');
    expect(accessToken).toContain('has not ended yet');
    for (const error of [new TokenStoreUnavailableError('the store is away'), new Error('the test says so')]) {
      await expect(storeWith(error)).rejects.toMatchObject({ sqlState: '25P02' });
      await expect(manager.getIdpToken('bob', 'github')).resolves.toMatchObject({ accessToken });
    }
  });

  it('shows what is committed', async () => {
    const testing = await compile({ tokens: { ada: { github: 'before' } } });
    const tokens = testing.get(TestTokens);
    await testing.get(QueryRunnerScope).run(async () => {
      await testing.get(TokenManager).storeIdpTokens('ada', 'github', { accessToken: 'after' });
      expect(tokens.stored('ada', 'github')).toMatchObject({ accessToken: 'before' });
    });
    expect(tokens.stored('ada', 'github')).toMatchObject({ accessToken: 'after' });
  });
});

describe('The account links of TokensTestingModule', () => {
  it('list and end the connections of the options, and say that they link none', async () => {
    const testing = await compile({ tokens: { ada: { github: 'access', acme: { accessToken: 'other' } } } });
    const links = testing.get(AccountLinks);
    await expect(links.list('ada')).resolves.toMatchObject([
      { idp: 'acme', account: '', subject: null, state: 'active', hasRefreshToken: false },
      { idp: 'github', account: '', subject: null, state: 'active', hasRefreshToken: true },
    ]);
    await expect(links.unlink('ada', 'github')).resolves.toBe(true);
    await expect(links.list('ada')).resolves.toMatchObject([{ idp: 'acme' }]);
    await expect(links.begin('ada', 'github')).rejects.toThrow(TokensUsageError);
    await expect(links.finish('ada', {})).rejects.toThrow(
      /AccountLinks\.finish does not work with TokensTestingModule/,
    );
  });
});

describe('The query runner of TokensTestingModule', () => {
  it('says that it executes no SQL', async () => {
    const testing = await compile();
    await testing.get(QueryRunnerScope).run(async (runner) => {
      const calls = [
        () => runner.query('INSERT INTO host_things VALUES (1)'),
        () => runner.sql`SELECT 2`,
        () => runner.stream('SELECT 3'),
        () => runner.manager.query('SELECT 4'),
        () => runner.manager.find('host_things'),
        () => runner.hasTable('host_things'),
        () => runner.getTable('host_things'),
        () => runner.createSchema('host'),
        () => runner.query('SET TRANSACTION ISOLATION LEVEL NOPE'),
      ];
      for (const call of calls)
        await expect((async () => (await call()) as unknown)()).rejects.toThrow(TokensUsageError);
      await expect(runner.query('SELECT now()')).rejects.toThrow(
        /has no database, so it executes no SQL\. Join a runner/,
      );
    });
  });

  it('may be one of the host, by hostQueryRunner', async () => {
    let offered: QueryRunner | undefined;
    const testing = await compile({ hostQueryRunner: () => offered });
    const host = await compile();
    await host.get(QueryRunnerScope).run(async (runner) => {
      offered = runner;
      expect(testing.get(QueryRunnerScope).current()).toBe(runner);
      await testing.get(TokenManager).storeIdpTokens('ada', 'github', { accessToken: 'x' });
      expect(testing.get(TestTokens).stored('ada', 'github')).toBeNull();
    });
    expect(testing.get(TestTokens).stored('ada', 'github')).toMatchObject({ accessToken: 'x' });
  });
});

describe('The tables of TokensTestingModule', () => {
  it('tell the listener of the outbox what was added, and give each pair again after its backoff', async () => {
    jest.useFakeTimers();
    const outbox = (await compile()).get(TokenRevocationsTable);
    const claim = async (revocable: string[] = ['acme']) => {
      const claimed = await outbox.claim({ revocable, busy: [], limit: 10 });
      return claimed.map(({ attempts }) => attempts);
    };
    let added = 0;
    outbox.whenAdded(() => added++);
    const sealed = { accessToken: 'a' as SealedToken, refreshToken: '', clientId: null } as const;
    await outbox.add({ keycloakUserId: 'ada', idp: 'acme', account: '', ...sealed });
    expect(added).toBe(1);

    await expect(claim()).resolves.toEqual([1]);
    jest.advanceTimersByTime(29_999);
    await expect(claim()).resolves.toEqual([]);
    jest.advanceTimersByTime(1);
    await expect(claim()).resolves.toEqual([2]);
    await outbox.postpone('1', 'http_503', 90_000);
    jest.advanceTimersByTime(60_000);
    await expect(claim()).resolves.toEqual([]);
    jest.advanceTimersByTime(30_000);
    await expect(claim()).resolves.toEqual([3]);
    for (let attempts = 4; attempts < 12; attempts++) {
      jest.advanceTimersByTime(3_600_000);
      await expect(claim()).resolves.toEqual([attempts]);
    }
    await expect(claim([])).resolves.toEqual([]);
    jest.advanceTimersByTime(30 * 24 * 3_600_000);
    await expect(claim([])).resolves.toEqual([12]);
  });

  it('keep a writer waiting as long as a real server may take, and inside a transaction without a limit', async () => {
    jest.useFakeTimers();
    const testing = await compile({ tokens: { ada: { acme: 'a token' } } });
    const manager = testing.get(TokenManager);
    const store = (accessToken: string) => manager.storeIdpTokens('ada', 'acme', { accessToken });
    const settled: string[] = [];
    const noting = (name: string, call: () => Promise<unknown>) =>
      outside(() =>
        call().then(
          () => settled.push(name),
          (error: unknown) => settled.push(`${name}: ${String(error)}`),
        ),
      );
    const storeOutside = noting('store', () => store('of the store'));
    const revokeOutside = noting('revocation', () => manager.revokeIdpTokens('ada', 'acme'));
    const runOutside = noting('run', () => testing.get(QueryRunnerScope).run(() => store('of the other transaction')));
    let waiting: Promise<unknown>[] = [];
    await testing.get(QueryRunnerScope).run(async () => {
      await store('another');
      waiting = [storeOutside(), revokeOutside(), runOutside()];
      await jest.advanceTimersByTimeAsync(9900);
      expect(settled).toEqual([]);
      await jest.advanceTimersByTimeAsync(200);
      const unanswered = expect.stringMatching(
        /^\w+: TokenStoreUnavailableError: PostgreSQL did not answer the request/,
      );
      expect(settled).toEqual([unanswered, unanswered]);
      await jest.advanceTimersByTimeAsync(3_600_000);
      expect(settled).toHaveLength(2);
    });
    await Promise.all(waiting);
    expect(settled[2]).toBe('run');
    const key = { keycloakUserId: 'ada', idp: 'acme', account: '' };
    await expect(testing.get(DisconnectedAccountsTable).has(key)).resolves.toBe(false);
    expect(testing.get(TestTokens).stored('ada', 'acme')).toMatchObject({ accessToken: 'of the other transaction' });
    expect(testing.get(TestTokens).revoked).toEqual([]);
  });

  it('free the rows of a transaction whose connection broke, and undo it', async () => {
    jest.useFakeTimers();
    const testing = await compile({ tokens: { ada: { acme: 'a token' } } });
    const store = (accessToken: string) => testing.get(TokenManager).storeIdpTokens('ada', 'acme', { accessToken });
    const storeOutside = outside(() => store('of the writer'));
    let waiting: Promise<void> | undefined;
    const broken = testing.get(QueryRunnerScope).run(async (runner) => {
      await store('of the lost transaction');
      waiting = storeOutside();
      Object.assign(runner, { isReleased: true }); // as TypeORM does when the connection breaks
      await jest.advanceTimersByTimeAsync(1000);
    });
    await expect(broken).rejects.toThrow(/The connection of the surrounding transaction broke/);
    await waiting;
    expect(testing.get(TestTokens).stored('ada', 'acme')).toMatchObject({ accessToken: 'of the writer' });
  });

  it('let a transaction end only after the statements that its work did not await', async () => {
    const testing = await compile({ tokens: { ada: { acme: 'a token' }, bob: { acme: 'a token' } } });
    const scope = testing.get(QueryRunnerScope);
    const store = (user: string, accessToken: string) =>
      testing.get(TokenManager).storeIdpTokens(user, 'acme', { accessToken });
    const [isLocked, mayEnd] = [gate(), gate()];
    const first = scope.run(async () => {
      await store('ada', 'of the first');
      isLocked.open();
      await mayEnd.passed;
    });
    await isLocked.passed;
    const second = scope.run(async () => {
      await store('bob', 'of the second');
      void store('ada', 'of the second');
      await Promise.resolve();
    });
    await expect(Promise.race([second, new Promise((resolve) => setImmediate(resolve, 'open'))])).resolves.toBe('open');
    mayEnd.open();
    await Promise.all([first, second]);
    for (const user of ['ada', 'bob']) {
      expect(testing.get(TestTokens).stored(user, 'acme')).toMatchObject({ accessToken: 'of the second' });
    }
  });

  it('know a login that comes during a refresh, also when the clock of the test stands still', async () => {
    jest.useFakeTimers();
    const begun = gate();
    const answered = gate();
    const refresh: TokensTestingOptions['refresh'] = async () => {
      begun.open();
      await answered.passed;
      return { kind: 'terminal', code: 'invalid_grant' };
    };
    const pair = { accessToken: 'old', refreshToken: 'refresh', accessTokenExpiresAt: 1 };
    const testing = await compile({ refresh, tokens: { ada: { gitlab: pair } } });
    const manager = testing.get(TokenManager);
    const refreshed = manager.getIdpToken('ada', 'gitlab');
    await begun.passed;
    await manager.storeIdpTokens('ada', 'gitlab', { accessToken: 'of the login' });
    answered.open();
    await expect(refreshed).resolves.toMatchObject({ accessToken: 'of the login' });
    expect(testing.get(TestTokens).stored('ada', 'gitlab')).toMatchObject({ refreshToken: '' });
  });
});
