import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { text } from 'node:stream/consumers';

import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import {
  type ArgumentsHost,
  type CanActivate,
  Catch,
  ConflictException,
  Controller,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  HttpCode,
  Inject,
  Injectable,
  Param,
  Post,
  Req,
  Scope,
  UnauthorizedException,
  UseFilters,
  UseGuards,
  UseInterceptors,
  ValidationPipe,
} from '@nestjs/common';
import { APP_PIPE, HttpAdapterHost } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { IsString } from 'class-validator';
import { from, type Observable } from 'rxjs';
import request from 'supertest';
import { DataSource } from 'typeorm';

import * as api from '../src/index.js';
import {
  AmbiguousAccountError,
  AuthenticationRequiredError,
  InsufficientScopeError,
  IdpToken,
  IdpTokenGuard,
  InvalidTokenInputError,
  KeyInUseError,
  KeycloakAuthGuard,
  KeycloakMisconfiguredError,
  KeycloakSessionExpiredError,
  KeycloakUnavailableError,
  LinkRefusedError,
  ProviderMisconfiguredError,
  ProviderUnavailableError,
  QueryRunnerInterceptor,
  QueryRunnerScope,
  ReauthenticationRequiredError,
  RefreshInProgressError,
  RefreshUnavailableError,
  type RequestWithIdpTokens,
  RequireIdpToken,
  TokenDecryptionError,
  TokenManager,
  TokensConfigurationError,
  TokensError,
  type TokensErrorCode,
  TokensExceptionFilter,
  TokensNotFoundError,
  TokensUsageError,
  TokenStoreUnavailableError,
  UnsupportedProviderError,
} from '../src/index.js';
import { type HttpHost, httpPlatforms, startHttpHost } from './support/http-host.js';
import { KeycloakStandIn } from './support/keycloak-stand-in.js';
import { ScriptedProvider } from './support/scripted-provider.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { until } from './support/until.js';

const HOUR = 3600;
const NAMED_NOWHERE = 'user-named-in-no-answer';

/** A request with the properties that both platforms have and those that the guard of the host adds. */
interface HostRequest extends RequestWithIdpTokens {
  headers: Record<string, string | undefined>;
  user?: { sub: string };
}

/** How often Nest has created each class of the host. */
const constructions = new Map<string, number>();
function countConstruction(name: string): void {
  constructions.set(name, (constructions.get(name) ?? 0) + 1);
}

/** The authentication of the host. In this test the caller names its user, and the guard refuses no caller. */
@Injectable()
class AuthGuard implements CanActivate {
  constructor(readonly tokens: TokenManager) {
    countConstruction('AuthGuard');
  }

  canActivate(context: ExecutionContext): boolean {
    const hostRequest = context.switchToHttp().getRequest<HostRequest>();
    const sub = hostRequest.headers['x-user'];
    if (sub) hostRequest.user = { sub };
    return true;
  }
}

@Controller('repositories')
@UseGuards(AuthGuard, IdpTokenGuard)
@RequireIdpToken('acme')
class RepositoriesController {
  constructor(
    readonly tokens: TokenManager,
    readonly scope: QueryRunnerScope,
  ) {
    countConstruction('RepositoriesController');
  }

  @Get()
  list(@IdpToken('acme') token: IdpToken, @Req() { idpTokens }: HostRequest): object {
    return { accessToken: token.accessToken, expiresAt: token.expiresAt, isOnRequest: idpTokens?.acme === token };
  }

  @Get('mirrors')
  @RequireIdpToken('acme', 'globex')
  mirrors(@IdpToken('acme') acme: IdpToken, @IdpToken('globex') globex: IdpToken): object {
    return { acme: acme.accessToken, globex: globex.accessToken };
  }

  @Get('globex')
  @RequireIdpToken('globex')
  globex(@Req() { idpTokens = {} }: HostRequest): object {
    return { idps: Object.keys(idpTokens) };
  }

  @Get('other-token')
  otherToken(@IdpToken('globex') token: IdpToken): object {
    return token;
  }

  @Get('careless')
  careless(@IdpToken('acme') token: IdpToken, @Req() { idpTokens }: HostRequest): object {
    return { token, idpTokens };
  }

  @Get('unknown-provider')
  @RequireIdpToken('initech')
  unknownProvider(): object {
    return {};
  }
}

@Controller('public')
class PublicController {
  @Get()
  @UseGuards(IdpTokenGuard)
  open(@Req() { idpTokens }: HostRequest): object {
    return { hasTokens: idpTokens !== undefined };
  }

  @Get('unguarded')
  @RequireIdpToken('acme')
  unguarded(@IdpToken('acme') token: IdpToken): object {
    return token;
  }
}

const subject = { keycloakUserId: NAMED_NOWHERE, idp: 'acme' };

/** One error of every code, and the answer that the exception filter must give. */
const answers: Record<
  TokensErrorCode,
  { error: TokensError; answer: object; retryAfter?: string; challenge?: string }
> = {
  ERR_TOKENS_CONFIGURATION: {
    error: new TokensConfigurationError('The option x is wrong.'),
    answer: { status: 500, title: 'Internal Server Error' },
  },
  ERR_TOKENS_USAGE: {
    error: new TokensUsageError('The guard is missing.'),
    answer: { status: 500, title: 'Internal Server Error' },
  },
  ERR_TOKENS_AUTHENTICATION_REQUIRED: {
    error: new AuthenticationRequiredError(),
    answer: { status: 401, title: 'Unauthorized' },
    challenge: 'Bearer',
  },
  ERR_TOKENS_INVALID_INPUT: {
    error: new InvalidTokenInputError('The user id must be a non-empty string.'),
    answer: { status: 400, title: 'Bad Request' },
  },
  ERR_TOKENS_NOT_FOUND: {
    error: new TokensNotFoundError(subject),
    answer: { status: 403, title: 'Forbidden', idp: 'acme' },
  },
  ERR_TOKENS_AMBIGUOUS_ACCOUNT: {
    error: new AmbiguousAccountError(subject, ['home', 'work']),
    answer: { status: 409, title: 'Conflict', idp: 'acme', accounts: ['home', 'work'] },
  },
  ERR_TOKENS_INSUFFICIENT_SCOPE: {
    error: new InsufficientScopeError({ ...subject, account: 'work' }, ['repo', 'user']),
    answer: {
      ...{ status: 403, title: 'Forbidden', idp: 'acme', account: 'work' },
      ...{ reason: 'not_granted', missing_scopes: ['repo', 'user'] },
    },
  },
  ERR_TOKENS_REAUTHENTICATION_REQUIRED: {
    error: new ReauthenticationRequiredError(subject, 'refresh_token_expired'),
    answer: { status: 403, title: 'Forbidden', idp: 'acme', reason: 'refresh_token_expired' },
  },
  ERR_TOKENS_REFRESH_IN_PROGRESS: {
    error: new RefreshInProgressError(subject, 1001),
    answer: { status: 503, title: 'Service Unavailable', idp: 'acme' },
    retryAfter: '2',
  },
  ERR_TOKENS_REFRESH_UNAVAILABLE: {
    error: new RefreshUnavailableError(subject, 'the provider is down', 61_400),
    answer: { status: 503, title: 'Service Unavailable', idp: 'acme' },
    retryAfter: '62',
  },
  ERR_TOKENS_PROVIDER_MISCONFIGURED: {
    error: new ProviderMisconfiguredError(subject, 'invalid_client'),
    answer: { status: 500, title: 'Internal Server Error', idp: 'acme' },
  },
  ERR_TOKENS_UNSUPPORTED_PROVIDER: {
    error: new UnsupportedProviderError('initech', ['acme']),
    answer: { status: 400, title: 'Bad Request', idp: 'initech' },
  },
  ERR_TOKENS_DECRYPTION: {
    error: new TokenDecryptionError('The key "2025" is missing.', '2025'),
    answer: { status: 500, title: 'Internal Server Error' },
  },
  ERR_TOKENS_KEY_IN_USE: {
    error: new KeyInUseError('2025', 'texts name it', 'Wait', {}),
    answer: { status: 409, title: 'Conflict' },
    retryAfter: '1',
  },
  ERR_TOKENS_STORE_UNAVAILABLE: {
    error: new TokenStoreUnavailableError('PostgreSQL refused to load tokens.', '57P01', 'some_constraint'),
    answer: { status: 503, title: 'Service Unavailable' },
    retryAfter: '1',
  },
  ERR_TOKENS_KEYCLOAK_UNAVAILABLE: {
    error: new KeycloakUnavailableError('Keycloak did not answer.'),
    answer: { status: 503, title: 'Service Unavailable' },
    retryAfter: '1',
  },
  ERR_TOKENS_KEYCLOAK_MISCONFIGURED: {
    error: new KeycloakMisconfiguredError('Keycloak refused client "backend" with "invalid_client".'),
    answer: { status: 500, title: 'Internal Server Error' },
  },
  ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED: {
    error: new KeycloakSessionExpiredError('Keycloak knows no such session.'),
    answer: { status: 401, title: 'Unauthorized' },
    challenge: 'Bearer error="invalid_token"',
  },
  ERR_TOKENS_LINK_REFUSED: {
    error: new LinkRefusedError('other_user', { idp: 'acme', providerCode: NAMED_NOWHERE }),
    answer: { status: 403, title: 'Forbidden', idp: 'acme', reason: 'other_user' },
  },
  ERR_TOKENS_PROVIDER_UNAVAILABLE: {
    error: new ProviderUnavailableError('acme', 'the provider is down', 2500),
    answer: { status: 503, title: 'Service Unavailable', idp: 'acme' },
    retryAfter: '3',
  },
};

@Controller('errors')
class ErrorsController {
  @Get('store/:sqlState')
  refuse(@Param('sqlState') sqlState: string): never {
    throw new TokenStoreUnavailableError('PostgreSQL refused to load tokens.', sqlState);
  }

  @Get(':code')
  throw(@Param('code') code: TokensErrorCode): never {
    throw answers[code].error;
  }
}

/** A service of the host. Nest creates a new one for every request. */
@Injectable({ scope: Scope.REQUEST })
class LinkHistory {
  constructor(private readonly scope: QueryRunnerScope) {}

  async add(note: string): Promise<void> {
    await this.scope.run((queryRunner) => queryRunner.query('INSERT INTO link_history (note) VALUES ($1)', [note]));
  }
}

@Injectable()
class LinkService {
  constructor(
    private readonly tokens: TokenManager,
    private readonly scope: QueryRunnerScope,
  ) {
    countConstruction('LinkService');
  }

  async link(user: string): Promise<void> {
    await this.tokens.storeIdpTokens(user, 'acme', { accessToken: `access of ${user}`, accessTokenExpiresAt: 0 });
    await this.scope.run(async (queryRunner) => {
      await queryRunner.query('INSERT INTO link_history (note) VALUES ($1)', [user]);
      await this.tokens.storeIdpTokens(user, 'globex', { accessToken: `access of ${user}`, accessTokenExpiresAt: 0 });
    });
  }
}

/** A controller whose requests each run in one transaction. */
@Controller('links')
@UseInterceptors(QueryRunnerInterceptor)
class LinksController {
  constructor(
    private readonly links: LinkService,
    private readonly scope: QueryRunnerScope,
    @Inject(DataSource) private readonly dataSource: DataSource,
  ) {
    countConstruction('LinksController');
  }

  @Post(':user')
  async link(@Param('user') user: string): Promise<object> {
    await this.links.link(user);
    return this.transaction();
  }

  @Post(':user/refused')
  async refuse(@Param('user') user: string): Promise<never> {
    await this.links.link(user);
    throw new ConflictException('The account belongs to someone else.');
  }

  @Post(':user/refused-by-observable')
  refuseLater(@Param('user') user: string): Observable<never> {
    return from(this.refuse(user));
  }

  @Post(':user/idle')
  @HttpCode(200)
  idle(): object {
    return this.transaction();
  }

  private transaction(): object {
    return { connections: connectionsInUse(this.dataSource), isBound: this.scope.current() !== undefined };
  }
}

@Controller('scoped-links')
@UseInterceptors(QueryRunnerInterceptor)
class RequestScopedLinksController {
  constructor(
    private readonly history: LinkHistory,
    private readonly links: LinkService,
  ) {}

  @Post(':user/refused')
  async refuse(@Param('user') user: string): Promise<never> {
    await this.history.add(user);
    await this.links.link(user);
    throw new ConflictException();
  }
}

describe.each(httpPlatforms)('On $platform', ({ createApplication }) => {
  const acme = new ScriptedProvider();
  const globex = new ScriptedProvider();
  let database: TestDatabase;
  let host: HttpHost;
  let tokens: TokenManager;

  beforeAll(async () => {
    constructions.clear();
    database = await createTestDatabase();
    await database.query('CREATE TABLE link_history (note varchar NOT NULL)');
    host = await startHttpHost({
      databaseUrl: database.url,
      createApplication,
      options: { identityProviders: { acme, globex } },
      controllers: [
        RepositoriesController,
        PublicController,
        ErrorsController,
        LinksController,
        RequestScopedLinksController,
      ],
      // Most hosts have such a pipe. It must not change the tokens.
      providers: [LinkService, LinkHistory, { provide: APP_PIPE, useValue: new ValidationPipe({ transform: true }) }],
    });
    tokens = host.app.get(TokenManager);
  });

  afterEach(async () => {
    await until(() => connectionsInUse(host.dataSource) === 0);
    host.logged.error.length = 0;
    host.logged.debug.length = 0;
  });

  afterAll(async () => {
    await host.app.close();
    await database.drop();
  });

  let users = 0;
  function newUser(): string {
    return `user-${++users}`;
  }

  function get(path: string, user?: string): request.Test {
    const call = request(host.url).get(path);
    return user ? call.set('x-user', user) : call;
  }

  function expiresIn(seconds: number): number {
    return Math.floor(Date.now() / 1000) + seconds;
  }

  /** Stores an access token that expired a minute ago, and returns its user. */
  async function userWithExpiredToken(idp = 'acme'): Promise<string> {
    const user = newUser();
    const pair = { accessToken: `old access of ${user}`, refreshToken: `refresh of ${user}` };
    await tokens.storeIdpTokens(user, idp, { ...pair, accessTokenExpiresAt: expiresIn(-60) });
    return user;
  }

  async function rowsOf(user: string): Promise<unknown[]> {
    const links = 'SELECT identity_provider AS name FROM auth_tokens WHERE keycloak_user_id = $1';
    const notes = 'SELECT note AS name FROM link_history WHERE note = $1';
    return database.query(`${links} UNION ALL ${notes} ORDER BY name`, [user]);
  }

  describe('IdpTokenGuard and @IdpToken', () => {
    it('hand a fresh token to the handler and leave it on the request', async () => {
      const user = newUser();
      const accessTokenExpiresAt = expiresIn(8 * HOUR);
      await tokens.storeIdpTokens(user, 'acme', { accessToken: 'fresh', refreshToken: 'unused', accessTokenExpiresAt });
      const response = await get('/repositories', user);
      expect(response.status).toBe(200);
      expect(response.body).toEqual({ accessToken: 'fresh', expiresAt: accessTokenExpiresAt, isOnRequest: true });
      expect(acme.redeemed).not.toContain('unused');
    });

    it('refresh an expired token once for 30 parallel requests', async () => {
      const user = await userWithExpiredToken();
      acme.onRefresh(`refresh of ${user}`, {
        kind: 'success',
        tokens: { accessToken: 'new access', refreshToken: 'new refresh', accessTokenExpiresIn: 8 * HOUR },
      });
      const responses = await Promise.all(Array.from({ length: 30 }, () => get('/repositories', user)));
      expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200]));
      expect(new Set(responses.map(({ text }) => text)).size).toBe(1);
      expect(responses[0]?.body).toMatchObject({ accessToken: 'new access' });
      expect(acme.redeemed.filter((refreshToken) => refreshToken === `refresh of ${user}`)).toHaveLength(1);
    });

    it('get the tokens of several providers', async () => {
      const user = newUser();
      await tokens.storeIdpTokens(user, 'acme', { accessToken: 'of acme' });
      await tokens.storeIdpTokens(user, 'globex', { accessToken: 'of globex' });
      const response = await get('/repositories/mirrors', user);
      expect(response.body).toEqual({ acme: 'of acme', globex: 'of globex' });
    });

    it("require what the handler's decorator names instead of the controller's", async () => {
      const user = newUser();
      await tokens.storeIdpTokens(user, 'globex', { accessToken: 'of globex' });
      const response = await get('/repositories/globex', user);
      expect(response.status).toBe(200);
      expect(response.body).toEqual({ idps: ['globex'] });
    });

    it('let a handler without @RequireIdpToken pass, also without a user', async () => {
      const response = await get('/public');
      expect(response.status).toBe(200);
      expect(response.body).toEqual({ hasTokens: false });
    });

    it('answer 401 to a request without a user, and tell the developer instead of the client what may be wrong', async () => {
      const response = await get('/repositories');
      expect(response.status).toBe(401);
      expect(response.body).toEqual({ statusCode: 401, message: 'Unauthorized' });
      expect(host.logged.debug).toContainEqual(expect.stringContaining('before IdpTokenGuard'));
    });

    it('print no token that a handler carelessly returns', async () => {
      const user = newUser();
      await tokens.storeIdpTokens(user, 'acme', { accessToken: 'a secret' });
      const response = await get('/repositories/careless', user);
      expect(response.status).toBe(200);
      expect(response.text).toContain('[redacted]');
      expect(response.text).not.toContain('a secret');
    });

    it('say how to repair @IdpToken for a provider that the handler does not require', async () => {
      const user = newUser();
      await tokens.storeIdpTokens(user, 'acme', { accessToken: 'of acme' });
      const response = await get('/repositories/other-token', user);
      expect(response.status).toBe(500);
      expect(response.body).toMatchObject({ code: 'ERR_TOKENS_USAGE' });
      expect(host.logged.error).toEqual([
        expect.stringContaining(`@IdpToken('globex') needs @RequireIdpToken('globex') and @UseGuards(IdpTokenGuard)`),
      ]);
    });

    it('say how to repair @IdpToken without the guard', async () => {
      const response = await get('/public/unguarded', newUser());
      expect(response.status).toBe(500);
      expect(response.body).toMatchObject({ code: 'ERR_TOKENS_USAGE' });
      expect(host.logged.error).toEqual([
        expect.stringContaining(`@IdpToken('acme') needs @RequireIdpToken('acme') and @UseGuards(IdpTokenGuard)`),
      ]);
    });
  });

  describe('A request whose tokens cannot be had', () => {
    it('is answered 403 when the user has not connected the account', async () => {
      const response = await get('/repositories', newUser());
      expect(response.status).toBe(403);
      expect(response.body).toMatchObject({ code: 'ERR_TOKENS_NOT_FOUND', idp: 'acme' });
    });

    it('is answered 403 with the reason when the provider rejects the refresh token', async () => {
      const user = await userWithExpiredToken();
      acme.onRefresh(`refresh of ${user}`, { kind: 'terminal', code: 'invalid_grant' });
      const response = await get('/repositories', user);
      expect(response.status).toBe(403);
      expect(response.body).toMatchObject({ code: 'ERR_TOKENS_REAUTHENTICATION_REQUIRED', reason: 'refresh_rejected' });
    });

    it('is answered 503 with the pause that the provider asked for', async () => {
      const user = await userWithExpiredToken();
      acme.onRefresh(`refresh of ${user}`, { kind: 'not-redeemed', code: 'http_429', retryAfterMs: 61_500 });
      const response = await get('/repositories', user);
      expect(response.status).toBe(503);
      expect(response.headers['retry-after']).toBe('62');
      expect(response.body).toMatchObject({ code: 'ERR_TOKENS_REFRESH_UNAVAILABLE', idp: 'acme' });
    });

    it('is answered 500 when the provider refuses the application', async () => {
      const user = await userWithExpiredToken();
      acme.onRefresh(`refresh of ${user}`, { kind: 'configuration', code: 'invalid_client' });
      const response = await get('/repositories', user);
      expect(response.status).toBe(500);
      expect(response.body).toMatchObject({ code: 'ERR_TOKENS_PROVIDER_MISCONFIGURED', idp: 'acme' });
      expect(response.text).not.toContain('invalid_client');
      expect(host.logged.error).toEqual([expect.stringContaining('"invalid_client"')]);
    });

    it('is answered 400 when the provider is not configured', async () => {
      const response = await get('/repositories/unknown-provider', newUser());
      expect(response.status).toBe(400);
      expect(response.body).toMatchObject({ code: 'ERR_TOKENS_UNSUPPORTED_PROVIDER', idp: 'initech' });
      expect(response.text).not.toContain('globex');
    });

    it('is answered 403 when one of several tokens is missing', async () => {
      const user = newUser();
      await tokens.storeIdpTokens(user, 'acme', { accessToken: 'of acme' });
      const response = await get('/repositories/mirrors', user);
      expect(response.status).toBe(403);
      expect(response.body).toMatchObject({ code: 'ERR_TOKENS_NOT_FOUND', idp: 'globex' });
    });

    it('is answered for the provider that is named first when several tokens cannot be had', async () => {
      const user = await userWithExpiredToken();
      acme.onRefresh(`refresh of ${user}`, async () => {
        await new Promise((resolve) => setTimeout(resolve, 100)); // the other token has failed by then
        return { kind: 'terminal', code: 'invalid_grant' };
      });
      const response = await get('/repositories/mirrors', user);
      expect(response.body).toMatchObject({ code: 'ERR_TOKENS_REAUTHENTICATION_REQUIRED', idp: 'acme' });
    });
  });

  describe('TokensExceptionFilter', () => {
    it('is tested with an error of every class', () => {
      const tested = new Set(Object.values(answers).map(({ error }) => error.constructor));
      const exported = Object.values(api).filter(
        (value) => typeof value === 'function' && value.prototype instanceof TokensError,
      );
      expect(new Set(exported)).toEqual(tested);
    });

    it.each(Object.entries(answers))('answers %s', async (code, { error, answer, retryAfter, challenge }) => {
      expect(error.code).toBe(code);
      const response = await get(`/errors/${code}`, NAMED_NOWHERE);
      expect(response.body).toEqual({ type: 'about:blank', detail: expect.stringMatching(/\w+\.$/), code, ...answer });
      expect(answer).toMatchObject({ status: response.status });
      expect(response.headers['content-type']).toMatch(/^application\/problem\+json(;|$)/);
      expect(response.headers['www-authenticate']).toBe(challenge);
      expect(response.headers['retry-after']).toBe(retryAfter);
      expect(retryAfter !== undefined).toBe(error.retryable);
    });

    it.each(Object.entries(answers))(
      'sends no message, user or detail of %s, and logs what is ours to repair',
      async (code, { error }) => {
        const response = await get(`/errors/${code}`, NAMED_NOWHERE);
        expect(response.text).not.toContain(error.message);
        expect(response.text).not.toMatch(/user-named-in-no-answer|57P01|some_constraint|2025|invalid_client|is down/);
        expect(host.logged.error).toEqual(response.status < 500 ? [] : [`${code}: ${error.message}`]);
      },
    );
  });

  describe('A refusal of the database', () => {
    it.each(['42P01', '28P01', '42501'])('that stays (%s) is answered 500, not to come back', async (sqlState) => {
      const response = await get(`/errors/store/${sqlState}`);
      expect(response.status).toBe(500);
      expect(response.headers['retry-after']).toBeUndefined();
      expect(response.body).toEqual({
        type: 'about:blank',
        title: 'Internal Server Error',
        status: 500,
        detail: 'The token store refuses this server.',
        code: 'ERR_TOKENS_STORE_UNAVAILABLE',
      });
      expect(host.logged.error).toEqual(['ERR_TOKENS_STORE_UNAVAILABLE: PostgreSQL refused to load tokens.']);
    });

    it.each(['08006', '40001', '53300'])('that passes (%s) is answered 503, to come back', async (sqlState) => {
      const response = await get(`/errors/store/${sqlState}`);
      expect(response.status).toBe(503);
      expect(response.headers['retry-after']).toBe('1');
      expect(response.body).toMatchObject({ detail: 'The token store cannot be reached. Try again shortly.' });
    });
  });

  describe('QueryRunnerInterceptor', () => {
    it('commits what the handler wrote before the answer is sent', async () => {
      const user = newUser();
      const response = await request(host.url).post(`/links/${user}`);
      expect(response.status).toBe(201);
      expect(response.body).toEqual({ connections: 1, isBound: true });
      await expect(rowsOf(user)).resolves.toEqual([{ name: 'acme' }, { name: 'globex' }, { name: user }]);
    });

    it.each([
      ['links', 'refused'],
      ['links', 'refused-by-observable'],
      ['scoped-links', 'refused'],
    ])("leaves neither tokens nor the host's rows when POST /%s/:user/%s throws", async (controller, action) => {
      const user = newUser();
      const response = await request(host.url).post(`/${controller}/${user}/${action}`);
      expect(response.status).toBe(409);
      await expect(rowsOf(user)).resolves.toEqual([]);
    });

    it('answers an error, not a success, when the commit fails', async () => {
      const user = newUser();
      await database.query(`
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused at commit'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON link_history DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW WHEN (NEW.note = '${user}') EXECUTE FUNCTION refuse()`);
      const response = await request(host.url).post(`/links/${user}`);
      expect(response.status).toBe(503);
      expect(response.body).toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE' });
      await expect(rowsOf(user)).resolves.toEqual([]);
    });

    it('takes no connection for a handler that runs no statement', async () => {
      const response = await request(host.url).post(`/links/${newUser()}/idle`);
      expect(response.status).toBe(200);
      expect(response.body).toEqual({ connections: 0, isBound: false });
    });

    it('gives parallel requests a transaction each', async () => {
      const refused = Array.from({ length: 15 }, newUser);
      const linked = Array.from({ length: 15 }, newUser);
      await Promise.all([
        ...refused.map((user) => request(host.url).post(`/links/${user}/refused`).expect(409)),
        ...linked.map((user) => request(host.url).post(`/links/${user}`).expect(201)),
      ]);
      const left = await Promise.all([...refused, ...linked].map(rowsOf));
      expect(left.map((rows) => rows.length)).toEqual([...refused.map(() => 0), ...linked.map(() => 3)]);
    });
  });

  describe('Classes of the host that inject the module', () => {
    it('stay singletons: Nest makes them once for all requests', async () => {
      const user = newUser();
      await tokens.storeIdpTokens(user, 'acme', { accessToken: 'x' });
      const before = new Map(constructions);
      for (let round = 0; round < 3; round++) {
        await get('/repositories', user).expect(200);
        await request(host.url).post(`/links/${user}`).expect(201);
      }
      expect(before).toEqual(
        new Map([
          ['AuthGuard', 1],
          ['RepositoriesController', 1],
          ['LinkService', 1],
          ['LinksController', 1],
        ]),
      );
      expect(constructions).toEqual(before);
      // Nest throws if get() is called for a class of the request scope.
      expect(host.app.get(LinksController)).toBeInstanceOf(LinksController);
      expect(host.app.get(RepositoriesController).tokens).toBe(tokens);
      expect(() => host.app.get(RequestScopedLinksController)).toThrow(/scoped/);
    });
  });
});

describe.each(httpPlatforms)('On $platform, with options of its own', ({ createApplication }) => {
  const acme = new ScriptedProvider();
  let database: TestDatabase;
  let host: HttpHost;

  beforeAll(async () => {
    database = await createTestDatabase();
    host = await startHttpHost({
      databaseUrl: database.url,
      createApplication,
      options: {
        identityProviders: { acme },
        refresh: { waitTimeoutMs: 50 },
        userId: (hostRequest) => (hostRequest as HostRequest).headers['x-account'],
      },
      controllers: [RepositoriesController],
    });
  });

  afterAll(async () => {
    await host.app.close();
    await database.drop();
  });

  it('the user id is read as the userId option says', async () => {
    await host.app.get(TokenManager).storeIdpTokens('account-1', 'acme', { accessToken: 'of the account' });
    const response = await request(host.url).get('/repositories').set('x-account', 'account-1').set('x-user', 'user-1');
    expect(response.body).toMatchObject({ accessToken: 'of the account' });
    await request(host.url).get('/repositories').set('x-user', 'account-1').expect(401);
  });

  it('a refresh that outlasts refresh.waitTimeoutMs is answered 503, and the next request gets its token', async () => {
    const expired = { accessToken: 'old', refreshToken: 'slow', accessTokenExpiresAt: 1 };
    await host.app.get(TokenManager).storeIdpTokens('account-2', 'acme', expired);
    let answer: () => void = () => undefined;
    acme.onRefresh('slow', async () => {
      await new Promise<void>((resolve) => (answer = resolve));
      return { kind: 'success', tokens: { accessToken: 'new' } };
    });
    const early = await request(host.url).get('/repositories').set('x-account', 'account-2');
    expect(early.status).toBe(503);
    expect(early.headers['retry-after']).toBe('1');
    expect(early.body).toMatchObject({ code: 'ERR_TOKENS_REFRESH_IN_PROGRESS', idp: 'acme' });
    answer();
    const late = await request(host.url).get('/repositories').set('x-account', 'account-2');
    expect(late.body).toMatchObject({ accessToken: 'new' });
    expect(acme.redeemed).toEqual(['slow']);
  });
});

/** A class of the host. The compiler names it as the type of the parameter. */
class GitHubToken {
  @IsString()
  login!: string;

  readonly accessToken!: string;
}

@Controller('validated')
@UseGuards(AuthGuard, IdpTokenGuard)
@RequireIdpToken('acme')
class ValidatedController {
  @Get()
  list(@IdpToken('acme') token: IdpToken): object {
    return { accessToken: token.accessToken, version: token.version, isToken: 'toJSON' in token };
  }

  @Get('own-class')
  ownClass(@IdpToken('acme') token: GitHubToken): object {
    return { accessToken: token.accessToken };
  }

  @Get('own-pipe')
  ownPipe(
    @IdpToken('acme', new ValidationPipe({ validateCustomDecorators: true, transform: true })) token: IdpToken,
  ): object {
    return { accessToken: token.accessToken };
  }
}

const pipes = [
  { transform: true },
  { whitelist: true },
  { whitelist: true, forbidNonWhitelisted: true },
  { forbidUnknownValues: true },
  { transform: true, whitelist: true, forbidNonWhitelisted: true, forbidUnknownValues: true },
  { transform: true, transformOptions: { excludeExtraneousValues: true, enableImplicitConversion: true } },
  {},
];

describe.each(httpPlatforms)('On $platform, under a pipe that validates custom decorators', ({ createApplication }) => {
  it.each(pipes)('@IdpToken gives the token: %j', async (options) => {
    const database = await createTestDatabase();
    const pipe = new ValidationPipe({ ...options, validateCustomDecorators: true });
    const host = await startHttpHost({
      databaseUrl: database.url,
      createApplication,
      options: { identityProviders: { acme: new ScriptedProvider() } },
      controllers: [ValidatedController],
      providers: [{ provide: APP_PIPE, useValue: pipe }],
    });
    try {
      await host.app.get(TokenManager).storeIdpTokens('ada', 'acme', { accessToken: 'of ada' });
      const get = (path: string) => request(host.url).get(path).set('x-user', 'ada');
      const response = await get('/validated');
      expect({ status: response.status, body: response.body as unknown }).toEqual({
        status: 200,
        body: { accessToken: 'of ada', version: expect.stringMatching(/^\d+$/), isToken: true },
      });
      await get('/validated/own-class').expect(200, { accessToken: 'of ada' });
      await get('/validated/own-pipe').expect(200, { accessToken: 'of ada' });
    } finally {
      await host.app.close();
      await database.drop();
    }
  });
});

/** A filter of the host that goes by the class of an error. */
@Catch(KeycloakSessionExpiredError)
class LoginRedirect implements ExceptionFilter<KeycloakSessionExpiredError> {
  constructor(private readonly adapterHost: HttpAdapterHost) {}

  catch(error: KeycloakSessionExpiredError, host: ArgumentsHost): void {
    this.adapterHost.httpAdapter.reply(host.switchToHttp().getResponse(), { code: error.code, login: '/login' }, 419);
  }
}

/** A filter of the host that names another way to log in. */
@Catch(KeycloakSessionExpiredError)
class OwnChallenge implements ExceptionFilter<KeycloakSessionExpiredError> {
  constructor(private readonly adapterHost: HttpAdapterHost) {}

  catch(error: KeycloakSessionExpiredError, host: ArgumentsHost): void {
    const { httpAdapter } = this.adapterHost;
    const response: unknown = host.switchToHttp().getResponse();
    httpAdapter.setHeader(response, 'WWW-Authenticate', 'ApiKey');
    httpAdapter.reply(response, { code: error.code }, 401);
  }
}

/** A guard of the host that lets a request in by an API key if it has no good bearer token. */
@Injectable()
class BearerOrKeyGuard extends KeycloakAuthGuard {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    try {
      return await super.canActivate(context);
    } catch (error) {
      switch (context.switchToHttp().getRequest<HostRequest>().headers['x-key']) {
        case 'good':
          return true;
        case 'blocked':
          return false;
        case 'unknown':
          throw new UnauthorizedException();
        default:
          throw error;
      }
    }
  }
}

@Controller('keycloak')
class KeycloakController {
  @Get()
  @UseGuards(KeycloakAuthGuard)
  in(): object {
    return { isIn: true };
  }

  @Get('tokens')
  @UseGuards(KeycloakAuthGuard, IdpTokenGuard)
  @RequireIdpToken('acme')
  tokens(): object {
    return { isIn: true };
  }

  @Get('filtered')
  @UseFilters(TokensExceptionFilter)
  @UseGuards(KeycloakAuthGuard)
  filtered(): object {
    return { isIn: true };
  }

  @Get('redirected')
  @UseFilters(LoginRedirect)
  @UseGuards(KeycloakAuthGuard)
  redirected(): object {
    return { isIn: true };
  }

  @Get('own-challenge')
  @UseFilters(OwnChallenge)
  @UseGuards(KeycloakAuthGuard)
  ownChallenge(): object {
    return { isIn: true };
  }

  @Get('key')
  @UseGuards(BearerOrKeyGuard)
  key(): object {
    return { isIn: true };
  }
}

describe.each(httpPlatforms)('On $platform, without TokensExceptionFilter', ({ createApplication }) => {
  const keycloak = new KeycloakStandIn();
  let database: TestDatabase;
  let host: HttpHost;

  beforeAll(async () => {
    await keycloak.start();
    database = await createTestDatabase();
    const client = { clientId: 'backend', clientSecret: 'backend-secret' };
    host = await startHttpHost({
      databaseUrl: database.url,
      createApplication,
      hasFilter: false,
      options: {
        keycloak: { serverUrl: keycloak.url, realm: 'app', ...client },
        identityProviders: { acme: new ScriptedProvider() },
      },
      controllers: [KeycloakController],
    });
  });

  afterAll(async () => {
    await host.app.close();
    await keycloak.stop();
    await database.drop();
  });

  const get = (path: string, authorization?: string) =>
    request(host.url)
      .get(path)
      .set(authorization === undefined ? {} : { authorization });

  it('KeycloakAuthGuard answers 401 to a request without a good bearer token', async () => {
    const expired = await keycloak.forge({}, { expiresAt: 1 });
    for (const [authorization, challenge] of [
      [undefined, 'Bearer'],
      ['Basic YTpi', 'Bearer'],
      ['Bearer garbage', 'Bearer error="invalid_token"'],
      [`Bearer ${expired}`, 'Bearer error="invalid_token"'],
    ]) {
      for (const path of ['/keycloak', '/keycloak/tokens', '/keycloak/key']) {
        const response = await get(path, authorization);
        expect({ status: response.status, body: response.body as unknown }).toEqual({
          status: 401,
          body: { statusCode: 401, message: 'Unauthorized' },
        });
        expect(response.headers['www-authenticate']).toBe(challenge);
        expect(response.text).not.toContain(expired.slice(0, 20));
      }
    }
    expect(host.logged.error.join()).not.toContain(expired.slice(0, 20));
  });

  it('KeycloakAuthGuard lets a good token in', async () => {
    await get('/keycloak', `Bearer ${await keycloak.forge({})}`).expect(200, { isIn: true });
  });

  it('a fault of Keycloak is no 401', async () => {
    const idle = await startHttpHost({
      databaseUrl: database.url,
      createApplication,
      hasFilter: false,
      options: {
        keycloak: { serverUrl: 'http://127.0.0.1:9', realm: 'app', clientId: 'backend', clientSecret: 'x' },
        identityProviders: {},
      },
      controllers: [KeycloakController],
    });
    const response = await request(idle.url)
      .get('/keycloak')
      .set('authorization', `Bearer ${await keycloak.forge({})}`);
    await idle.app.close();
    expect(response.status).toBe(500);
    expect(response.headers['www-authenticate']).toBeUndefined();
  });

  it('the filter on a handler answers as it does for the whole application', async () => {
    const response = await get('/keycloak/filtered', 'Bearer garbage');
    expect(response.status).toBe(401);
    expect(response.type).toBe('application/problem+json');
    expect(response.headers['www-authenticate']).toBe('Bearer error="invalid_token"');
    expect(response.body).toEqual({
      type: 'about:blank',
      title: 'Unauthorized',
      status: 401,
      detail: 'The session has ended. Log in again.',
      code: 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED',
    });
  });

  it('a filter of the host gets the error by its class', async () => {
    await get('/keycloak/redirected', 'Bearer garbage').expect(419, {
      code: 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED',
      login: '/login',
    });
  });

  it('a guard of the host that catches the error decides, and its answer has no challenge', async () => {
    for (const authorization of ['Bearer garbage', undefined]) {
      const response = await get('/keycloak/key', authorization).set('x-key', 'good').expect(200, { isIn: true });
      expect(response.headers).not.toHaveProperty('www-authenticate');
    }
  });

  it('only a 401 has the challenge, also if the guard of the host or its filter answers otherwise', async () => {
    const redirected = await get('/keycloak/redirected', 'Bearer garbage').expect(419);
    expect(redirected.headers).not.toHaveProperty('www-authenticate');
    const forbidden = await get('/keycloak/key', 'Bearer garbage').set('x-key', 'blocked').expect(403);
    expect(forbidden.headers).not.toHaveProperty('www-authenticate');
    const other = await get('/keycloak/key', 'Bearer garbage').set('x-key', 'unknown').expect(401);
    expect(other.headers['www-authenticate']).toBe('Bearer error="invalid_token"');
  });

  it('the challenge of the host replaces the one of the guard', async () => {
    const response = await get('/keycloak/own-challenge', 'Bearer garbage').expect(401);
    expect(response.headers['www-authenticate']).toBe('ApiKey');
  });
});

describe('On Fastify with HTTP/2', () => {
  const keycloak = new KeycloakStandIn();
  let database: TestDatabase;
  let host: HttpHost;
  let session: ClientHttp2Session;

  beforeAll(async () => {
    await keycloak.start();
    database = await createTestDatabase();
    host = await startHttpHost({
      databaseUrl: database.url,
      createApplication: async (testing) => {
        // Nest has no type for this adapter.
        const adapter = new FastifyAdapter({ http2: true } as object);
        const app = testing.createNestApplication<NestFastifyApplication>(adapter);
        await app.init();
        return app;
      },
      hasFilter: false,
      options: {
        keycloak: { serverUrl: keycloak.url, realm: 'app', clientId: 'backend', clientSecret: 'backend-secret' },
        identityProviders: { acme: new ScriptedProvider() },
      },
      controllers: [KeycloakController, RepositoriesController],
    });
    await host.app.get(TokenManager).storeIdpTokens('ada', 'acme', { accessToken: 'of ada' });
    session = connect(host.url);
  });

  afterAll(async () => {
    session.close();
    await host.app.close();
    await keycloak.stop();
    await database.drop();
  });

  async function get(path: string, headers: Record<string, string> = {}): Promise<Record<string, unknown>> {
    const stream = session.request({ ':path': path, ...headers });
    const [response, body] = await Promise.all([once(stream, 'response'), text(stream)]);
    const [{ ':status': status, 'www-authenticate': challenge }] = response as [Record<string, unknown>];
    return { status, challenge, body: JSON.parse(body) as unknown };
  }

  it('the guards find the request, and only a 401 has the challenge', async () => {
    const isIn = { status: 200, challenge: undefined, body: { isIn: true } };
    const good = { authorization: `Bearer ${await keycloak.forge({})}` };
    await expect(get('/keycloak', good)).resolves.toEqual(isIn);
    await expect(get('/keycloak')).resolves.toMatchObject({ status: 401, challenge: 'Bearer' });
    await expect(get('/keycloak/key', { 'x-key': 'good' })).resolves.toEqual(isIn);
    const { body } = await get('/repositories', { 'x-user': 'ada' });
    expect(body).toMatchObject({ accessToken: 'of ada', isOnRequest: true });
  });
});
