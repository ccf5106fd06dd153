import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import type { DataSource } from 'typeorm';

import {
  AccountLinks,
  InsufficientScopeError,
  InvalidTokenInputError,
  LinkRefusedError,
  ProviderMisconfiguredError,
  ProviderUnavailableError,
  QueryRunnerScope,
  TokenManager,
  TokensConfigurationError,
  type TokensModuleOptions,
} from '../src/index.js';
import { CodeFlowProvider } from './support/code-flow-provider.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const REDIRECT_URI = 'https://host.example/connections';
const HOUR = 3600;

let database: TestDatabase;
let provider: CodeFlowProvider;
let app: INestApplication;
let dataSource: DataSource;
let links: AccountLinks;
let manager: TokenManager;
let user: string;
let users = 0;

/** Entries of one provider: as OpenID Connect, as plain OAuth 2.0, and as a GitHub of a customer. */
function entries(): TokensModuleOptions['identityProviders'] {
  const { client, issuer } = provider;
  return {
    openid: { ...client, issuer, redirectUri: `${REDIRECT_URI}/openid/callback`, scopes: ['openid', 'profile'] },
    plain: {
      ...client,
      authorizationEndpoint: `${issuer}/authorize?tenant=1`,
      tokenEndpoint: `${issuer}/token`,
      revocationEndpoint: `${issuer}/revoke`,
      redirectUri: `${REDIRECT_URI}/plain/callback`,
      scopes: ['read'],
      authorizationParameters: { prompt: 'consent', access_type: 'offline' },
      accountEndpoint: `${issuer}/user`,
    },
    unknown: {
      ...client,
      authorizationEndpoint: `${issuer}/authorize`,
      tokenEndpoint: `${issuer}/token`,
      redirectUri: `${REDIRECT_URI}/unknown/callback`,
    },
    all: {
      ...client,
      authorizationEndpoint: `${issuer}/authorize`,
      tokenEndpoint: `${issuer}/token`,
      redirectUri: `${REDIRECT_URI}/all/callback`,
      scopes: ['api/.default', 'offline_access'],
    },
    answering: {
      ...client,
      authorizationEndpoint: `${issuer}/authorize`,
      tokenEndpoint: `${issuer}/token`,
      redirectUri: `${REDIRECT_URI}/answering/callback`,
      readAccount: ({ team }) => team as { subject: string; name: string },
    },
    github: {
      ...client,
      tokenEndpoint: `${issuer}/token`,
      authorizationEndpoint: `${issuer}/authorize`,
      apiBaseUrl: issuer,
      redirectUri: `${REDIRECT_URI}/github/callback`,
      readAccount: ({ id, login }) => ({ subject: String(id), name: String(login) }),
    },
    gone: { ...client, issuer: 'http://127.0.0.1:9', redirectUri: `${REDIRECT_URI}/gone/callback` },
    without: { ...client, tokenEndpoint: `${issuer}/token` },
  };
}

beforeAll(async () => {
  database = await createTestDatabase();
  provider = await CodeFlowProvider.start();
  ({ app, dataSource } = await createTokensApp({
    databaseUrl: database.url,
    options: { identityProviders: entries(), accountLinks: { allowedReturnTo: ['https://app.example/settings'] } },
  }));
  links = app.get(AccountLinks);
  manager = app.get(TokenManager);
});

afterAll(async () => {
  await app.close();
  await provider.close();
  await database.drop();
});

beforeEach(() => {
  user = `user-${++users}`;
});

afterEach(async () => {
  provider.instead.clear();
  provider.metadata = provider.tokens = provider.claims = (given) => given;
  await until(() => connectionsInUse(dataSource) === 0);
});

/** Returns the error of a call, which must be of this class. */
async function rejectionOf<T extends Error>(
  call: Promise<unknown>,
  errorClass: new (...args: never[]) => T,
): Promise<T> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof errorClass) return error;
  throw new Error(`Expected ${errorClass.name}, got ${String(error)}.`);
}

/** Begins, logs in at the provider as the subject, and finishes. */
async function link(idp: string, subject: string, options: Parameters<AccountLinks['begin']>[2] = {}, of = user) {
  const { authorizationUrl } = await links.begin(of, idp, options);
  return links.finish(of, provider.authorize(authorizationUrl, subject));
}

describe('A link', () => {
  it('of an OpenID Connect provider stores the tokens, the scopes and the account of the ID token', async () => {
    const { authorizationUrl, expiresAt } = await links.begin(user, 'openid', { returnTo: '/settings' });
    const url = new URL(authorizationUrl);
    const { state, nonce, code_challenge: challenge, ...parameters } = Object.fromEntries(url.searchParams);
    expect(url.origin + url.pathname).toBe(`${provider.issuer}/authorize`);
    expect(parameters).toEqual({
      response_type: 'code',
      client_id: provider.client.clientId,
      redirect_uri: `${REDIRECT_URI}/openid/callback`,
      scope: 'openid profile',
      code_challenge_method: 'S256',
    });
    for (const secret of [state, nonce, challenge]) expect(secret).toMatch(/^[\w-]{43}$/);
    expect(expiresAt.getTime() - Date.now()).toBeGreaterThan(590_000);
    expect(expiresAt.getTime() - Date.now()).toBeLessThan(610_000);

    const linked = await links.finish(user, provider.authorize(authorizationUrl, 'ada'));
    expect(linked).toEqual({
      idp: 'openid',
      account: '',
      scopes: ['openid', 'profile'],
      subject: 'ada',
      name: 'ada of test',
      returnTo: '/settings',
    });
    const token = await manager.getIdpToken(user, 'openid');
    expect(provider.subjects.get(token.accessToken)).toBe('ada');
    expect(token.expiresAt).toBeGreaterThan(Date.now() / 1000 + HOUR - 60);
  });

  it('of a plain OAuth 2.0 provider asks the account endpoint, and keeps the query of the authorization endpoint', async () => {
    const { authorizationUrl } = await links.begin(user, 'plain');
    const { searchParams } = new URL(authorizationUrl);
    expect(searchParams.get('tenant')).toBe('1');
    expect(searchParams.get('prompt')).toBe('consent');
    expect(searchParams.get('access_type')).toBe('offline');
    expect(searchParams.get('nonce')).toBeNull();
    const linked = await links.finish(user, provider.authorize(authorizationUrl, 'grace').href);
    expect(linked).toMatchObject({
      idp: 'plain',
      scopes: ['read'],
      subject: 'grace',
      name: 'grace-login',
      returnTo: null,
    });
  });

  it('of GitHub takes what GitHub asks and says', async () => {
    provider.tokens = (fields) => ({ ...fields, scope: 'repo,gist' });
    const { authorizationUrl } = await links.begin(user, 'github', { scopes: ['repo', 'gist'] });
    expect(new URL(authorizationUrl).searchParams.get('scope')).toBe('gist repo');
    const linked = await links.finish(user, provider.authorize(authorizationUrl, '583231'));
    expect(linked).toMatchObject({ scopes: ['gist', 'repo'], subject: '583231', name: '583231-login' });
    expect(provider.paths).toContain('/user');
  });

  it('can read the account from the token answer', async () => {
    provider.tokens = (fields) => ({ ...fields, team: { subject: 'T1', name: 'Team' } });
    await expect(link('answering', 'any')).resolves.toMatchObject({ subject: 'T1', name: 'Team' });
  });

  it('of a provider that tells no account and no scopes stores the tokens without them', async () => {
    provider.tokens = (fields) => ({ ...fields, scope: undefined });
    await expect(link('unknown', 'any')).resolves.toMatchObject({ subject: null, name: null, scopes: null });
    await expect(manager.getIdpToken(user, 'unknown')).resolves.toBeDefined();
  });

  it('has the scopes that were asked for if the answer names none', async () => {
    provider.tokens = (fields) => ({ ...fields, scope: undefined });
    await expect(link('plain', 'ada', { scopes: ['write'] })).resolves.toMatchObject({ scopes: ['read', 'write'] });
  });

  it.each<[string, unknown, string[] | null]>([
    ['are not known if the answer names an empty text, as that of a GitHub App', '', null],
    ['are none if the answer names an empty list', [], []],
    ['are not known if the answer names something else', 7, null],
  ])('%s', async (_, scope, scopes) => {
    provider.tokens = (fields) => ({ ...fields, scope });
    await expect(link('plain', 'ada', { scopes: ['write'] })).resolves.toMatchObject({ scopes });
    await expect(links.list(user)).resolves.toMatchObject([{ scopes }]);
    const required = manager.getIdpToken(user, 'plain', { scopes: ['write'] });
    if (scopes) await expect(required).rejects.toThrow(InsufficientScopeError);
    else await expect(required).resolves.toMatchObject({ accessToken: expect.any(String) as unknown });
  });

  it('are asked for without those that were granted before if the entry asks for all that the application has', async () => {
    provider.tokens = (fields) => ({ ...fields, scope: 'api/user_impersonation api/.default' });
    await link('all', 'ada');
    const { authorizationUrl } = await links.begin(user, 'all');
    expect(new URL(authorizationUrl).searchParams.get('scope')).toBe('api/.default offline_access');
  });

  it('asks for the scopes of the entry, those that were granted before, and the new ones', async () => {
    await link('plain', 'ada', { scopes: ['mail'] });
    const { authorizationUrl } = await links.begin(user, 'plain', { scopes: ['files', 'mail'] });
    expect(new URL(authorizationUrl).searchParams.get('scope')).toBe('files mail read');
  });

  it('takes the query object of a framework', async () => {
    const { authorizationUrl } = await links.begin(user, 'openid');
    const query = Object.fromEntries(provider.authorize(authorizationUrl, 'ada').searchParams);
    await expect(links.finish(user, { ...query, other: ['a', 'b'], nested: { x: 1 } })).resolves.toMatchObject({
      subject: 'ada',
    });
  });

  it('connects a second account beside the first one', async () => {
    await link('openid', 'ada');
    await link('openid', 'ada-at-work', { account: 'work' });
    await expect(links.list(user)).resolves.toMatchObject([
      { idp: 'openid', account: '', subject: 'ada' },
      { idp: 'openid', account: 'work', subject: 'ada-at-work' },
    ]);
    const token = await manager.getIdpToken(user, 'openid', { account: 'work' });
    expect(provider.subjects.get(token.accessToken)).toBe('ada-at-work');
  });

  it('keeps the stored refresh token if the provider gives none to an account that is connected already', async () => {
    await link('openid', 'ada');
    provider.tokens = (fields) => ({ ...fields, refresh_token: undefined });
    await link('openid', 'ada');
    await expect(links.list(user)).resolves.toMatchObject([{ hasRefreshToken: true }]);
    await link('openid', 'grace', { replaceAccount: true });
    await expect(links.list(user)).resolves.toMatchObject([{ subject: 'grace', hasRefreshToken: false }]);
  });

  it('stores the tokens also if the account cannot be asked for', async () => {
    provider.instead.set('/user', (response) => response.writeHead(500).end());
    await expect(link('plain', 'ada')).resolves.toMatchObject({ subject: null });
    await expect(manager.getIdpToken(user, 'plain')).resolves.toBeDefined();
  });

  it('is stored whatever becomes of the transaction around it', async () => {
    const { authorizationUrl } = await links.begin(user, 'openid');
    const callback = provider.authorize(authorizationUrl, 'ada');
    const scope = app.get(QueryRunnerScope);
    await expect(
      scope.run(async () => {
        await links.finish(user, callback);
        throw new Error('of the host');
      }),
    ).rejects.toThrow('of the host');
    await expect(links.list(user)).resolves.toHaveLength(1);
  });

  it('pushes the authorization request where the server takes it', async () => {
    const pushing = await CodeFlowProvider.start();
    pushing.metadata = (metadata) => ({
      ...metadata,
      pushed_authorization_request_endpoint: `${pushing.issuer}/par`,
    });
    const { app: pushingApp } = await createTokensApp({
      databaseUrl: database.url,
      options: {
        identityProviders: {
          pushing: { ...pushing.client, issuer: pushing.issuer, redirectUri: REDIRECT_URI, scopes: ['openid'] },
        },
      },
    });
    const pushingLinks = pushingApp.get(AccountLinks);
    const { authorizationUrl } = await pushingLinks.begin(user, 'pushing');
    expect([...new URL(authorizationUrl).searchParams.keys()].sort()).toEqual(['client_id', 'request_uri']);
    const [request] = pushing.pushed;
    expect(request?.get('redirect_uri')).toBe(REDIRECT_URI);
    expect(request?.get('state')).toMatch(/^[\w-]{43}$/);
    await expect(pushingLinks.finish(user, pushing.authorize(authorizationUrl, 'ada'))).resolves.toMatchObject({
      subject: 'ada',
    });

    pushing.instead.set('/par', (response) => response.writeHead(400).end('{"error":"invalid_client"}'));
    await expect(pushingLinks.begin(user, 'pushing')).rejects.toThrow(ProviderMisconfiguredError);
    pushing.instead.set('/par', (response) => response.writeHead(503).end());
    await expect(pushingLinks.begin(user, 'pushing')).rejects.toThrow(ProviderUnavailableError);
    await pushingApp.close();
    await pushing.close();
  });
});

describe('Another account of the provider', () => {
  it('is refused, its new tokens are revoked, and the stored ones are untouched', async () => {
    await link('openid', 'owner');
    const before = await manager.getIdpToken(user, 'openid');
    const error = await rejectionOf(link('openid', 'mallory'), LinkRefusedError);
    expect(error.reason).toBe('account_mismatch');
    await until(() => provider.revoked.some((token) => token.startsWith('refresh-of-mallory')));
    expect(provider.revoked.some((token) => token.startsWith('refresh-of-owner'))).toBe(false);
    await expect(manager.getIdpToken(user, 'openid')).resolves.toMatchObject({ accessToken: before.accessToken });
    await expect(links.list(user)).resolves.toMatchObject([{ subject: 'owner' }]);
  });

  it('is not revoked if the user has connected it under another name', async () => {
    await link('openid', 'at-home');
    await link('openid', 'at-work', { account: 'work' });
    await expect(link('openid', 'at-work')).rejects.toMatchObject({ reason: 'account_mismatch' });
    await expect(link('openid', 'stranger')).rejects.toMatchObject({ reason: 'account_mismatch' });
    await until(() => provider.revoked.some((token) => token.startsWith('refresh-of-stranger')));
    const open = 'SELECT FROM token_revocations WHERE keycloak_user_id = $1';
    await until(async () => (await database.query(open, [user])).length === 0);
    expect(provider.revoked.some((token) => token.startsWith('refresh-of-at-'))).toBe(false);
    await expect(links.list(user)).resolves.toMatchObject([{ subject: 'at-home' }, { subject: 'at-work' }]);
  });

  it('replaces the connected one if the host allows it, and the old tokens are revoked', async () => {
    await link('plain', 'first-of-two');
    await expect(link('plain', 'second-of-two', { replaceAccount: true })).resolves.toMatchObject({
      subject: 'second-of-two',
    });
    await until(() => provider.revoked.some((token) => token.startsWith('refresh-of-first-of-two')));
    expect(provider.revoked.some((token) => token.startsWith('refresh-of-second-of-two'))).toBe(false);
    const token = await manager.getIdpToken(user, 'plain');
    expect(provider.subjects.get(token.accessToken)).toBe('second-of-two');
  });

  it('replaces one without ending it if the user has connected that one under another name too', async () => {
    await link('plain', 'twice-here');
    await link('plain', 'twice-here', { account: 'work' });
    await link('plain', 'successor', { account: 'work', replaceAccount: true });
    await link('plain', 'last-successor', { account: 'work', replaceAccount: true });
    await until(() => provider.revoked.some((token) => token.startsWith('refresh-of-successor')));
    const open = 'SELECT FROM token_revocations WHERE keycloak_user_id = $1';
    await until(async () => (await database.query(open, [user])).length === 0);
    expect(provider.revoked.some((token) => token.startsWith('refresh-of-twice-here'))).toBe(false);
    await expect(links.list(user)).resolves.toMatchObject([{ subject: 'twice-here' }, { subject: 'last-successor' }]);
  });

  it('is refused also if both are linked for the first time at once', async () => {
    const attempts = await Promise.all(['one', 'two'].map(() => links.begin(user, 'openid')));
    const ends = await Promise.allSettled(
      attempts.map(({ authorizationUrl }, index) =>
        links.finish(user, provider.authorize(authorizationUrl, `racer-${index}`)),
      ),
    );
    expect(ends.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const [refused] = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason as unknown] : []));
    expect(refused).toMatchObject({ reason: 'account_mismatch' });
  });

  it('may follow tokens that were stored by hand, because their account is not known', async () => {
    await manager.storeIdpTokens(user, 'openid', { accessToken: 'by-hand', refreshToken: 'by-hand' });
    await expect(links.list(user)).resolves.toMatchObject([{ subject: null, scopes: null }]);
    await expect(link('openid', 'ada')).resolves.toMatchObject({ subject: 'ada' });
    await manager.storeIdpTokens(user, 'openid', { accessToken: 'by-hand', refreshToken: 'by-hand' });
    await expect(links.list(user)).resolves.toMatchObject([{ subject: null }]);
  });
});

describe('New tokens whose row PostgreSQL refuses for good', () => {
  beforeEach(async () => {
    await link('plain', 'stored-before');
    await database.query(
      `CREATE UNIQUE INDEX of_the_host ON auth_tokens (keycloak_user_id, identity_provider) WHERE keycloak_user_id = '${user}'`,
    );
  });

  afterEach(async () => {
    await database.query('DROP INDEX of_the_host');
  });

  it('are revoked, and the caller gets the error', async () => {
    const refused = link('plain', 'refused-by-index', { account: 'work' });
    await expect(refused).rejects.toMatchObject({ sqlState: '23505', constraint: 'of_the_host' });
    await until(() => provider.revoked.some((token) => token.startsWith('refresh-of-refused-by-index')));
    expect(provider.revoked.some((token) => token.startsWith('refresh-of-stored-before'))).toBe(false);
  });

  it('are not revoked if they are of the account that is connected, or may be', async () => {
    const refused = link('plain', 'stored-before', { account: 'work' });
    await expect(refused).rejects.toMatchObject({ sqlState: '23505' });
    provider.instead.set('/user', (response) => response.writeHead(500).end());
    await expect(link('plain', 'may-be-it', { account: 'work' })).rejects.toMatchObject({ sqlState: '23505' });
    await expect(database.query('SELECT FROM token_revocations WHERE keycloak_user_id = $1', [user])).resolves.toEqual(
      [],
    );
    expect(provider.revoked.some((token) => /^refresh-of-(stored-before|may-be-it)/.test(token))).toBe(false);
  });
});

describe('The connections of a user', () => {
  it('are listed without a secret, and end by an unlink', async () => {
    await link('plain', 'lister', { scopes: ['mail'] });
    const [connection, ...others] = await links.list(user);
    expect(others).toEqual([]);
    expect(connection).toEqual({
      idp: 'plain',
      account: '',
      subject: 'lister',
      name: 'lister-login',
      scopes: ['mail', 'read'],
      state: 'active',
      hasRefreshToken: true,
      connectedAt: expect.any(Date),
      refreshedAt: expect.any(Date),
      accessTokenExpiresAt: expect.any(Date),
      refreshTokenExpiresAt: null,
    });
    await expect(links.unlink(user, 'plain')).resolves.toBe(true);
    await expect(links.list(user)).resolves.toEqual([]);
    await until(() => provider.revoked.some((token) => token.startsWith('refresh-of-lister')));
    await expect(links.unlink(user, 'plain')).resolves.toBe(false);
  });

  it('of one account at the provider end without a revocation, up to the last one', async () => {
    await link('plain', 'same');
    await link('plain', 'same', { account: 'work' });
    await link('plain', 'same', {}, `${user}-other`);
    await expect(links.unlink(user, 'plain', { account: 'work' })).resolves.toBe(true);
    await expect(database.query('SELECT FROM token_revocations WHERE keycloak_user_id = $1', [user])).resolves.toEqual(
      [],
    );
    const { accessToken } = await manager.getIdpToken(user, 'plain');
    await expect(links.unlink(user, 'plain')).resolves.toBe(true);
    await until(() => provider.revoked.some((token) => token.startsWith('refresh-of-same')));
    expect(provider.revoked.filter((token) => token.startsWith('refresh-of-same'))).toEqual([
      accessToken.replace('access', 'refresh'),
    ]);
  });

  it('of others are not listed', async () => {
    await link('plain', 'ada');
    await expect(links.list('somebody-else')).resolves.toEqual([]);
  });
});

describe('A refusal', () => {
  it('of the user is told by its reason, and ends the attempt', async () => {
    const { authorizationUrl } = await links.begin(user, 'openid');
    const callback = provider.refuse(authorizationUrl, 'access_denied');
    const error = await rejectionOf(links.finish(user, callback), LinkRefusedError);
    expect(error).toMatchObject({ reason: 'denied', idp: 'openid', providerCode: 'access_denied' });
    await expect(links.finish(user, callback)).rejects.toMatchObject({ reason: 'unknown_attempt' });
  });

  it.each([
    ['invalid_scope', 'provider_error', 'invalid_scope'],
    ['<b>bold</b>', 'provider_error', 'unknown_error'],
  ])('of the provider with "%s" is a %s', async (error, reason, providerCode) => {
    const { authorizationUrl } = await links.begin(user, 'openid');
    const callback = provider.refuse(authorizationUrl, error);
    await expect(links.finish(user, callback)).rejects.toMatchObject({ reason, providerCode });
  });

  it.each(['server_error', 'temporarily_unavailable'])('by "%s" says that the provider is down', async (error) => {
    const { authorizationUrl } = await links.begin(user, 'openid');
    const callback = provider.refuse(authorizationUrl, error);
    await expect(links.finish(user, callback)).rejects.toThrow(ProviderUnavailableError);
  });

  it.each([
    [503, {}, ProviderUnavailableError, 'did not take the code'],
    [500, {}, ProviderUnavailableError, 'may have issued tokens'],
    [200, '<html>', ProviderUnavailableError, 'may have issued tokens'],
    [401, { error: 'invalid_client' }, ProviderMisconfiguredError, 'invalid_client'],
    [400, { error: 'invalid_grant' }, LinkRefusedError, 'invalid_grant'],
    [200, { error: 'bad_verification_code' }, LinkRefusedError, 'bad_verification_code'],
  ])('with status %i and %j of the token endpoint is named', async (status, body, errorClass, message) => {
    provider.instead.set('/token', (response) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(typeof body === 'string' ? body : JSON.stringify(body));
    });
    const before = provider.exchangeCount;
    const error = await rejectionOf(link('openid', 'ada'), errorClass as new (...args: never[]) => Error);
    expect(error.message).toContain(message);
    expect(provider.exchangeCount).toBe(before + 1);
    await expect(links.list(user)).resolves.toEqual([]);
  });

  it('comes within the deadline if the token endpoint does not answer', async () => {
    const silent = await CodeFlowProvider.start();
    silent.instead.set('/token', () => undefined);
    const { app: other } = await createTokensApp({
      databaseUrl: database.url,
      options: {
        identityProviders: {
          silent: {
            ...silent.client,
            issuer: silent.issuer,
            redirectUri: REDIRECT_URI,
            policy: { exchangeTimeoutMs: 300 },
          },
        },
      },
    });
    const { authorizationUrl } = await other.get(AccountLinks).begin(user, 'silent');
    const finished = other.get(AccountLinks).finish(user, silent.authorize(authorizationUrl, 'ada'));
    const error = await rejectionOf(finished, ProviderUnavailableError);
    expect(error.message).toContain('(TIMEOUT)');
    await other.close();
    await silent.close();
  });

  it('of an issuer that is down comes before an attempt is stored', async () => {
    await expect(links.begin(user, 'gone')).rejects.toThrow(ProviderUnavailableError);
    expect(await database.query('SELECT FROM link_attempts WHERE keycloak_user_id = $1', [user])).toHaveLength(0);
  });

  it('of an entry that cannot link says which option is missing', async () => {
    const error = await rejectionOf(links.begin(user, 'without'), TokensConfigurationError);
    expect(error.message).toContain('identityProviders.without.redirectUri');
  });

  it.each([[{ scopes: ['a b'] }], [{ scopes: 'read' }], [{ returnTo: 'https://evil.example' }]])(
    'of %j comes from the arguments',
    async (options) => {
      await expect(links.begin(user, 'openid', options as object)).rejects.toThrow(InvalidTokenInputError);
    },
  );
});

describe('An attempt', () => {
  it('has no secret in plaintext', async () => {
    const { authorizationUrl } = await links.begin(user, 'openid');
    const rows = JSON.stringify(
      await database.query('SELECT * FROM link_attempts WHERE keycloak_user_id = $1', [user]),
    );
    const state = new URL(authorizationUrl).searchParams.get('state') ?? '-';
    expect(rows).toContain(user);
    expect(rows).not.toContain(state);
    await links.finish(user, provider.authorize(authorizationUrl, 'ada'));
    const verifier = provider.exchanges.at(-1)?.form.get('code_verifier') ?? '-';
    expect(verifier).toMatch(/^[\w-]{43}$/);
    expect(rows).not.toContain(verifier);
  });

  it('that has expired is refused, and others clean it up', async () => {
    const { authorizationUrl } = await links.begin(user, 'openid');
    await links.begin(user, 'openid');
    await database.query(
      "UPDATE link_attempts SET expires_at = now() - interval '1 second' WHERE keycloak_user_id = $1",
      [user],
    );
    const before = provider.exchangeCount;
    await expect(links.finish(user, provider.authorize(authorizationUrl, 'ada'))).rejects.toMatchObject({
      reason: 'expired',
    });
    expect(provider.exchangeCount).toBe(before);
    await links.begin('somebody-else', 'openid');
    expect(await database.query('SELECT FROM link_attempts WHERE keycloak_user_id = $1', [user])).toHaveLength(0);
  });

  it('whose key is gone is refused as expired', async () => {
    const { authorizationUrl } = await links.begin(user, 'openid');
    await database.query(
      "UPDATE link_attempts SET code_verifier = replace(code_verifier, 'v1.test.', 'v1.gone.') WHERE keycloak_user_id = $1",
      [user],
    );
    await expect(links.finish(user, provider.authorize(authorizationUrl, 'ada'))).rejects.toMatchObject({
      reason: 'expired',
    });
  });
});
