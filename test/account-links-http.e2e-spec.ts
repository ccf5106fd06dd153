import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import {
  type CanActivate,
  Get,
  Controller,
  type ExecutionContext,
  Injectable,
  UseGuards,
  ValidationPipe,
} from '@nestjs/common';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import request from 'supertest';

import { AccountLinks, AccountLinksController, TokenManager } from '../src/index.js';
import { CodeFlowProvider } from './support/code-flow-provider.js';
import { type HttpHost, httpPlatforms, startHttpHost } from './support/http-host.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { until } from './support/until.js';

interface HostRequest {
  headers: Record<string, string | undefined>;
  user?: { sub: string };
}

/** The authentication of the host: a session cookie or a bearer token that names the user. */
@Injectable()
class SessionGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const hostRequest = context.switchToHttp().getRequest<HostRequest>();
    const { cookie = '', authorization = '' } = hostRequest.headers;
    const sub = /session=(\w+)/.exec(cookie)?.[1] ?? /^Bearer (\w+)$/.exec(authorization)?.[1];
    if (sub) hostRequest.user = { sub };
    return true;
  }
}

@Controller('connections')
@UseGuards(SessionGuard)
class ConnectionsController extends AccountLinksController {}

/** A host that answers the list in its own way, and has a dependency of its own. */
@Controller('own')
@UseGuards(SessionGuard)
class OwnController extends AccountLinksController {
  constructor(readonly tokens: TokenManager) {
    super();
  }

  @Get()
  override async list(of: object): ReturnType<AccountLinksController['list']> {
    return (await super.list(of)).filter(({ state }) => state === 'active' && this.tokens instanceof TokenManager);
  }
}

describe.each(httpPlatforms)('The controller of account links on $platform', ({ createApplication }) => {
  let database: TestDatabase;
  let provider: CodeFlowProvider;
  let host: HttpHost;

  beforeAll(async () => {
    database = await createTestDatabase();
    provider = await CodeFlowProvider.start();
    host = await startHttpHost({
      databaseUrl: database.url,
      createApplication: async (testing) => {
        const app = await createApplication(testing);
        app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true }));
        return app;
      },
      hasFilter: false,
      controllers: [ConnectionsController, OwnController],
      options: {
        accountLinks: { allowedReturnTo: ['https://app.example'] },
        identityProviders: {
          acme: {
            ...provider.client,
            issuer: provider.issuer,
            redirectUri: 'https://host.example/connections/acme/callback',
            scopes: ['openid'],
          },
          other: {
            ...provider.client,
            tokenEndpoint: `${provider.issuer}/token`,
            authorizationEndpoint: `${provider.issuer}/authorize`,
            redirectUri: 'https://host.example/connections/other/callback',
          },
        },
      },
    });
  });

  afterAll(async () => {
    await host.app.close();
    await provider.close();
    await database.drop();
  });

  afterEach(() => {
    provider.instead.clear();
  });

  const cookie = (user: string) => `session=${user}`;
  const http = () => request(host.url);

  async function begin(user: string, body?: object, idp = 'acme'): Promise<string> {
    const answer = await http().post(`/connections/${idp}`).set('cookie', cookie(user)).send(body).expect(201);
    expect(answer.headers['cache-control']).toBe('no-store');
    const { authorizationUrl, expiresAt, ...others } = answer.body as Record<string, string>;
    expect(others).toEqual({});
    expect(new Date(expiresAt ?? '').getTime()).toBeGreaterThan(Date.now());
    return authorizationUrl ?? '';
  }

  /** Returns the path and the query of a callback at this host. */
  function pathOf({ pathname, search }: URL): string {
    return pathname + search;
  }

  it('links an account of a browser with a session cookie, lists it and ends it', async () => {
    const url = await begin('ada', { returnTo: '/settings?tab=accounts' });
    const answer = await http()
      .get(pathOf(provider.authorize(url, 'ada1')))
      .set('cookie', cookie('ada'))
      .expect(303);
    expect(answer.headers.location).toBe('/settings?tab=accounts');
    expect(answer.headers['referrer-policy']).toBe('no-referrer');
    expect(answer.headers['cache-control']).toBe('no-store');

    const list = await http().get('/connections').set('cookie', cookie('ada')).expect(200);
    expect(list.body).toEqual([
      {
        ...{ idp: 'acme', account: '', subject: 'ada1', name: 'ada1 of test', scopes: ['openid'], state: 'active' },
        hasRefreshToken: true,
        connectedAt: expect.stringMatching(/Z$/),
        refreshedAt: expect.stringMatching(/Z$/),
        accessTokenExpiresAt: expect.stringMatching(/Z$/),
        refreshTokenExpiresAt: null,
      },
    ]);
    await http()
      .get('/own')
      .set('cookie', cookie('ada'))
      .expect(200, list.body as object);

    await http().delete('/connections/acme?account=work').set('cookie', cookie('ada')).expect(204);
    await http().delete('/connections/acme').set('cookie', cookie('ada')).expect(204);
    await http().get('/connections').set('cookie', cookie('ada')).expect(200, []);
    await until(() => provider.revoked.some((token) => token.startsWith('refresh-of-ada1')));
  });

  it('links an account of a single-page application, which posts the query that it got', async () => {
    const url = await begin('grace', { account: 'work', returnTo: 'https://app.example/done' });
    const query = Object.fromEntries(provider.authorize(url, 'grace1').searchParams);
    const answer = await http()
      .post('/connections/acme/callback')
      .set('authorization', 'Bearer grace')
      .send(query)
      .expect(200);
    expect(answer.body).toEqual({
      ...{ idp: 'acme', account: 'work', subject: 'grace1', name: 'grace1 of test', scopes: ['openid'] },
      returnTo: 'https://app.example/done',
    });
  });

  it('sends the browser to / if the host said nothing', async () => {
    const url = await begin('linus');
    const answer = await http()
      .get(pathOf(provider.authorize(url, 'l')))
      .set('cookie', cookie('linus'))
      .expect(303);
    expect(answer.headers.location).toBe('/');
  });

  it('answers 401 to a callback without cookies, which leaves the attempt open', async () => {
    const url = await begin('ken');
    const callback = pathOf(provider.authorize(url, 'ken1'));
    const before = provider.exchangeCount;
    await http().get(callback).expect(401);
    await http().post('/connections/acme/callback').send({}).expect(401);
    expect(provider.exchangeCount).toBe(before);
    await http().get(callback).set('cookie', cookie('ken')).expect(303);
  });

  it.each([
    ['get', '/connections'],
    ['post', '/connections/acme'],
    ['delete', '/connections/acme'],
  ] as const)('answers 401 to %s %s without a user', async (method, path) => {
    await http()[method](path).expect(401);
  });

  it('answers a refusal as a problem that says neither who nor what the provider wrote', async () => {
    const url = await begin('dennis');
    const callback = pathOf(provider.refuse(url, 'access_denied', '<script>alert(1)</script>'));
    const answer = await http().get(callback).set('cookie', cookie('dennis')).expect(400);
    expect(answer.headers['content-type']).toContain('application/problem+json');
    expect(JSON.parse(answer.text)).toEqual({
      type: 'about:blank',
      title: 'Bad Request',
      status: 400,
      detail: 'The account was not linked. Begin again.',
      code: 'ERR_TOKENS_LINK_REFUSED',
      idp: 'acme',
      reason: 'denied',
    });
  });

  it('answers 403 to another user, and 400 to the callback of another provider', async () => {
    const url = await begin('barbara');
    const callback = provider.authorize(url, 'b');
    const other = await http().get(pathOf(callback)).set('cookie', cookie('eve')).expect(403);
    expect(JSON.parse(other.text)).toMatchObject({ reason: 'other_user' });
    const mixed = pathOf(callback).replace('/acme/', '/other/');
    const wrong = await http().get(mixed).set('cookie', cookie('barbara')).expect(400);
    expect(JSON.parse(wrong.text)).toMatchObject({ reason: 'issuer_mismatch' });
    await http().get(pathOf(callback)).set('cookie', cookie('barbara')).expect(303);
  });

  it('answers 503 with Retry-After if the provider is down', async () => {
    const url = await begin('edsger');
    provider.instead.set('/token', (response) => response.writeHead(503, { 'retry-after': '7' }).end());
    const answer = await http()
      .get(pathOf(provider.authorize(url, 'e')))
      .set('cookie', cookie('edsger'))
      .expect(503);
    expect(answer.headers['retry-after']).toBe('7');
    expect(JSON.parse(answer.text)).toMatchObject({ code: 'ERR_TOKENS_PROVIDER_UNAVAILABLE' });
  });

  it.each([
    [{ returnTo: '//evil.example' }],
    [{ returnTo: 'https://app.example.evil.example' }],
    [{ returnTo: ['/'] }],
    [{ scopes: 'read' }],
    [{ scopes: [{}] }],
    [{ account: 1 }],
    [{ replaceAccount: 'yes' }],
  ])('answers 400 to the options %j', async (body) => {
    const answer = await http().post('/connections/acme').set('cookie', cookie('ada')).send(body).expect(400);
    expect(JSON.parse(answer.text)).toMatchObject({ code: 'ERR_TOKENS_INVALID_INPUT' });
  });

  it('takes returnTo from the attempt alone, whatever the callback has', async () => {
    const url = await begin('radia', { returnTo: '/settings' });
    const callback = provider.authorize(url, 'r');
    for (const name of ['returnTo', 'return_to', 'redirect', 'url']) {
      callback.searchParams.set(name, 'https://evil.example');
    }
    const answer = await http().get(pathOf(callback)).set('cookie', cookie('radia')).expect(303);
    expect(answer.headers.location).toBe('/settings');
    expect(answer.text).not.toContain('evil');
  });

  it.each(['acme%00', '%00', '%20'])('answers 400 to the provider "%s"', async (idp) => {
    const calls = [
      http().post(`/connections/${idp}`),
      http().get(`/connections/${idp}/callback?state=s&code=c`),
      http().post(`/connections/${idp}/callback`).send({ state: 's', code: 'c' }),
      http().delete(`/connections/${idp}`),
    ];
    for (const call of calls) {
      const answer = await call.set('cookie', cookie('ada')).expect(400);
      expect(JSON.parse(answer.text)).toMatchObject({ code: 'ERR_TOKENS_INVALID_INPUT' });
    }
  });

  it('writes neither state nor code into the log of a failure', async () => {
    const url = await begin('sophie');
    const callback = provider.authorize(url, 's');
    provider.instead.set('/token', (response) => response.writeHead(401).end('{"error":"invalid_client"}'));
    const before = host.logged.error.length;
    await http().get(pathOf(callback)).set('cookie', cookie('sophie')).expect(500);
    const logged = host.logged.error.slice(before).join();
    expect(logged).toContain('ERR_TOKENS_PROVIDER_MISCONFIGURED');
    for (const name of ['state', 'code']) expect(logged).not.toContain(callback.searchParams.get(name));
  });

  it('answers 400 to a provider that is not configured', async () => {
    const answer = await http().post('/connections/nowhere').set('cookie', cookie('ada')).expect(400);
    expect(JSON.parse(answer.text)).toMatchObject({ code: 'ERR_TOKENS_UNSUPPORTED_PROVIDER' });
  });

  it('is described by @nestjs/swagger, which it does not import', () => {
    const document = SwaggerModule.createDocument(host.app, new DocumentBuilder().build());
    const { paths } = JSON.parse(JSON.stringify(document)) as { paths: Record<string, Record<string, object>> };
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((name) => `${name} ${path}`),
    );
    expect(routes.filter((route) => route.includes('/connections'))).toEqual([
      'get /connections',
      'post /connections/{idp}',
      'delete /connections/{idp}',
      'get /connections/{idp}/callback',
      'post /connections/{idp}/callback',
    ]);
    const begins = paths['/connections/{idp}']?.post as Record<string, unknown>;
    expect(begins.summary).toBe('Begin to connect an account');
    expect(JSON.stringify(begins.requestBody)).toContain('replaceAccount');
    expect(JSON.stringify(begins.parameters)).toContain('"name":"idp"');
    expect(Object.keys(begins.responses as object)).toEqual(expect.arrayContaining(['201', '400', '401', '503']));
    expect(JSON.stringify(paths['/connections/{idp}/callback']?.get)).toContain('"303"');
    expect(host.app.get(AccountLinks)).toBeInstanceOf(AccountLinks);
  });
});
