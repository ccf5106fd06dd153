import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication, LoggerService } from '@nestjs/common';

import {
  AccountLinks,
  InvalidTokenInputError,
  LinkRefusedError,
  ProviderMisconfiguredError,
  ProviderUnavailableError,
  TokenManager,
  TokensConfigurationError,
  type TokensModuleOptions,
} from '../src/index.js';
import { type Answer, CodeFlowProvider } from './support/code-flow-provider.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const REDIRECT_URI = 'https://host.example/connections';

let database: TestDatabase;
let provider: CodeFlowProvider;
/** A server that wants the requests of the module. */
let malicious: CodeFlowProvider;
let apps: INestApplication[];
let links: AccountLinks;
let manager: TokenManager;
let user: string;
let users = 0;

function entries(of = provider): TokensModuleOptions['identityProviders'] {
  const { client, issuer } = of;
  return {
    openid: { ...client, issuer, redirectUri: `${REDIRECT_URI}/openid/callback`, scopes: ['openid'] },
    plain: {
      ...client,
      authorizationEndpoint: `${issuer}/authorize`,
      tokenEndpoint: `${issuer}/token`,
      revocationEndpoint: `${issuer}/revoke`,
      accountEndpoint: `${issuer}/user`,
      redirectUri: `${REDIRECT_URI}/plain/callback`,
    },
  };
}

/** Starts a further application on the database, which knows nothing of the server yet. */
async function startApp(of = provider): Promise<INestApplication> {
  const { app } = await createTokensApp({ databaseUrl: database.url, options: { identityProviders: entries(of) } });
  apps.push(app);
  return app;
}

beforeAll(async () => {
  database = await createTestDatabase();
  [provider, malicious] = await Promise.all([CodeFlowProvider.start(), CodeFlowProvider.start()]);
  apps = [];
  const app = await startApp();
  links = app.get(AccountLinks);
  manager = app.get(TokenManager);
});

afterAll(async () => {
  await Promise.all(apps.map((app) => app.close()));
  await Promise.all([provider.close(), malicious.close()]);
  await database.drop();
});

beforeEach(() => {
  user = `user-${++users}`;
  provider.revoked.length = 0;
});

afterEach(() => {
  provider.instead.clear();
  provider.metadata = provider.tokens = provider.claims = (given) => given;
});

async function link(idp: string, subject: string, options: Parameters<AccountLinks['begin']>[2] = {}, by = links) {
  const { authorizationUrl } = await by.begin(user, idp, options);
  return by.finish(user, provider.authorize(authorizationUrl, subject));
}

function failure(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    (value) => value,
    (error: unknown) => error,
  );
}

function answer(status: number, body = '', headers: Record<string, string> = {}): Answer {
  return (response) => response.writeHead(status, headers).end(body);
}

/** Expects that the user has the tokens of before, and that no revocation is under way. */
async function expectUntouched(idp: string, subject: string, accessToken: string): Promise<void> {
  await expect(links.list(user)).resolves.toMatchObject([{ idp, subject, state: 'active' }]);
  await expect(manager.getIdpToken(user, idp)).resolves.toMatchObject({ accessToken });
  expect(await database.query('SELECT FROM token_revocations')).toEqual([]);
  expect(provider.revoked).toEqual([]);
}

describe('New tokens whose account the provider does not tell', () => {
  const untold: [string, Answer][] = [
    ['an error', answer(500)],
    ['a rate limit', answer(403, '{"message":"API rate limit exceeded"}')],
    ['a page', answer(200, '<html>mallory</html>', { 'content-type': 'text/html' })],
    ['an account without an id', answer(200, '{"login":"mallory"}')],
  ];

  it.each(untold)('replace none of a known account: the provider answers with %s', async (_, instead) => {
    await link('plain', 'ada');
    const { accessToken } = await manager.getIdpToken(user, 'plain');
    provider.instead.set('/user', instead);
    const error = await failure(link('plain', 'mallory'));
    expect(error).toBeInstanceOf(ProviderUnavailableError);
    expect((error as Error).message).toContain('The stored tokens are untouched');
    await expectUntouched('plain', 'ada', accessToken);
    provider.instead.clear();
    await expect(link('plain', 'ada')).resolves.toMatchObject({ subject: 'ada' });
  });

  it.each(untold)('are stored if no account is connected: the provider answers with %s', async (_, instead) => {
    provider.instead.set('/user', instead);
    await expect(link('plain', 'ada')).resolves.toMatchObject({ subject: null });
    await expect(manager.getIdpToken(user, 'plain')).resolves.toBeDefined();
    await expect(link('plain', 'ada')).resolves.toMatchObject({ subject: null });
    provider.instead.clear();
    await expect(link('plain', 'ada')).resolves.toMatchObject({ subject: 'ada' });
  });

  it('replace those of a known account if the host allows it, and never get its refresh token', async () => {
    await link('plain', 'ada');
    provider.instead.set('/user', answer(500));
    provider.tokens = (fields) => ({ ...fields, refresh_token: undefined });
    await expect(link('plain', 'grace', { replaceAccount: true })).resolves.toMatchObject({ subject: null });
    await expect(links.list(user)).resolves.toMatchObject([{ subject: null, hasRefreshToken: false }]);
    const { accessToken } = await manager.getIdpToken(user, 'plain');
    expect(provider.subjects.get(accessToken)).toBe('grace');
  });
});

describe('New tokens whose ID token cannot be checked, because the keys are out of reach,', () => {
  it.each([
    ['an error', answer(503)],
    ['a page', answer(200, '<html></html>')],
    ['a redirect', answer(302, '', { location: 'https://evil.example/jwks' })],
  ])('are not stored and not revoked, because a revocation could end the stored ones: %s', async (_, instead) => {
    await link('openid', 'ada');
    const { accessToken } = await manager.getIdpToken(user, 'openid');
    const fresh = (await startApp()).get(AccountLinks);
    provider.instead.set('/jwks', instead);
    await expect(link('openid', 'ada', {}, fresh)).rejects.toThrow(ProviderUnavailableError);
    await expectUntouched('openid', 'ada', accessToken);
    provider.instead.clear();
    await expect(link('openid', 'ada', {}, fresh)).resolves.toMatchObject({ subject: 'ada' });
  });
});

describe('A redirect', () => {
  const elsewhere = (path: string) => answer(307, '', { location: `${malicious.issuer}${path}` });

  it.each(['/token', '/user'])('of %s is not followed', async (path) => {
    for (const status of [301, 302, 303, 307, 308]) {
      provider.instead.set(path, answer(status, '', { location: `${malicious.issuer}${path}` }));
      await failure(link('plain', `ada-${status}`));
    }
    expect(malicious.paths).toEqual([]);
  });

  it.each(['/.well-known/openid-configuration', '/jwks', '/par'])('of %s is not followed', async (path) => {
    provider.metadata = (metadata) => ({
      ...metadata,
      pushed_authorization_request_endpoint: `${provider.issuer}/par`,
    });
    provider.instead.set(path, elsewhere(path));
    const fresh = (await startApp()).get(AccountLinks);
    const error = await failure(link('openid', 'ada', {}, fresh));
    expect([ProviderUnavailableError, ProviderMisconfiguredError]).toContain((error as Error).constructor);
    expect(malicious.paths).toEqual([]);
    await expect(links.list(user)).resolves.toEqual([]);
  });
});

describe('The callers of a link', () => {
  it('cannot name a provider that no column can hold', async () => {
    for (const idp of ['a\0b', '\ud800', '', ' ', 'x'.repeat(256)]) {
      await expect(links.finish(user, { state: 's' }, { idp })).rejects.toThrow(InvalidTokenInputError);
      await expect(links.begin(user, idp)).rejects.toThrow(InvalidTokenInputError);
    }
    await expect(links.finish(user, { state: 'a\0b' })).rejects.toMatchObject({ reason: 'unknown_attempt' });
  });

  it('cannot ask for more scopes than a row can have', async () => {
    const scopes = Array.from({ length: 400 }, (_, index) => `scope-${index}-${'x'.repeat(40)}`);
    await expect(links.begin(user, 'plain', { scopes })).rejects.toThrow(InvalidTokenInputError);
    await expect(links.begin(user, 'plain', { scopes: scopes.slice(0, 200) })).resolves.toBeDefined();
  });

  it('get a refusal for a scope that the server does not have, also if the request is pushed', async () => {
    provider.metadata = (metadata) => ({
      ...metadata,
      pushed_authorization_request_endpoint: `${provider.issuer}/par`,
    });
    provider.instead.set('/par', answer(400, '{"error":"invalid_scope"}'));
    const fresh = (await startApp()).get(AccountLinks);
    const error = await failure(fresh.begin(user, 'openid', { scopes: ['nonsense'] }));
    expect(error).toBeInstanceOf(LinkRefusedError);
    expect(error).toMatchObject({ reason: 'provider_error', providerCode: 'invalid_scope' });
    expect(await database.query('SELECT FROM link_attempts WHERE keycloak_user_id = $1', [user])).toEqual([]);
  });

  it('cannot make a host trust one redirect URI for two providers', async () => {
    const entry = { ...provider.client, issuer: provider.issuer, redirectUri: REDIRECT_URI };
    const options = { identityProviders: { one: entry, two: entry } };
    const error = await failure(createTokensApp({ databaseUrl: database.url, options }));
    expect(error).toBeInstanceOf(TokensConfigurationError);
    expect((error as Error).message).toContain('identityProviders.two.redirectUri must differ from that of "one"');
  });

  it('that left attempts behind are cleaned up after by later ones', async () => {
    await database.query(
      `INSERT INTO link_attempts (state_hash, keycloak_user_id, identity_provider, account, scopes, code_verifier, expires_at)
         SELECT 'old-' || each, 'gone-' || each, 'plain', '', '', 'v1.test.x', now() - interval '1 second'
           FROM generate_series(1, 1000) AS each`,
    );
    for (let count = 0; count < 10; count++) await links.begin(user, 'plain');
    expect(await database.query("SELECT FROM link_attempts WHERE state_hash LIKE 'old-%'")).toEqual([]);
  });
});

describe('The log', () => {
  it('has no state, code, code verifier or token, whatever fails', async () => {
    const logged: string[] = [];
    const log = (...parts: unknown[]) => logged.push(parts.map(String).join(' '));
    const logger: LoggerService = { log, warn: log, error: log, debug: log, verbose: log, fatal: log };
    const [app] = apps;
    app?.useLogger(logger);
    const secrets = new Set([provider.client.clientSecret]);
    const remember = (secret: string | null | undefined) => {
      if (secret) secrets.add(secret);
    };
    /** Begins, remembers the secrets, and finishes. */
    const follow = async (idp: string, change: (callback: URL) => void = () => undefined) => {
      const { authorizationUrl } = await links.begin(user, idp);
      const callback = provider.authorize(authorizationUrl, `subject-${user}`);
      change(callback);
      for (const name of ['state', 'code']) remember(callback.searchParams.get(name));
      const error = await failure(links.finish(user, callback));
      remember(provider.exchanges.at(-1)?.form.get('code_verifier'));
      if (error instanceof Error) log(error.message, error.stack, JSON.stringify(error));
    };
    try {
      provider.instead.set('/user', answer(500, '<b>access-of-</b>'));
      await follow('plain');
      provider.instead.set('/token', answer(400, '{"error":"invalid_grant","error_description":"code of the user"}'));
      await follow('plain');
      provider.instead.set('/token', answer(401, '{"error":"invalid_client"}'));
      await follow('plain');
      provider.instead.set('/token', answer(500));
      await follow('plain');
      provider.instead.clear();
      provider.claims = (claims) => ({ ...claims, nonce: 'other' });
      await follow('openid');
      await follow('openid', ({ searchParams }) => {
        searchParams.set('iss', 'https://evil.example');
      });
      await follow('plain', ({ searchParams }) => {
        searchParams.append('code', 'second-code');
      });
      await until(() => provider.revoked.length > 0);
    } finally {
      app?.useLogger(false);
    }
    expect(secrets.size).toBeGreaterThan(15);
    expect(logged.join('\n')).toContain(`did not tell the account of user "${user}" (http_500)`);
    for (const secret of [...secrets, 'second-code', 'access-of-', 'refresh-of-', 'eyJ', 'code of the user']) {
      expect(logged.join('\n')).not.toContain(secret);
    }
  });
});
