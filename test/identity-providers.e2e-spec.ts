import { generateKeyPairSync, sign } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { inspect } from 'node:util';
import { gzipSync } from 'node:zlib';

import { afterEach, describe, expect, it } from '@jest/globals';

import { readIdentityProviders } from '../src/identity-providers/identity-providers.options.js';
import type { IdentityProvider, RefreshAnswer, TokenPair } from '../src/index.js';
import type { ProviderStandInSettings } from './support/provider-dialects.js';
import { ProviderStandIn, type Responder } from './support/provider-stand-in.js';

const MIB = 1024 * 1024;
/** An address at which no server listens. */
const NOWHERE = 'http://127.0.0.1:2';

const started: ProviderStandIn[] = [];
const closings: (() => Promise<void>)[] = [];

async function start(settings: ProviderStandInSettings): Promise<ProviderStandIn> {
  const standIn = await ProviderStandIn.start(settings);
  started.push(standIn);
  return standIn;
}

afterEach(async () => {
  const violations = started.flatMap((standIn) => standIn.violations);
  await Promise.all([
    ...started.splice(0).map((standIn) => standIn.stop()),
    ...closings.splice(0).map((close) => close()),
  ]);
  expect(violations).toEqual([]);
});

/** Returns the provider that the module makes of an entry of the options. */
function providerOf(idp: string, entry: object): IdentityProvider {
  const { providers, faults } = readIdentityProviders({ [idp]: entry });
  const provider = providers.get(idp);
  if (!provider) throw new Error(faults.join('\n'));
  return provider;
}

/** Redeems a refresh token and makes sure that this took one request. */
async function redeem(provider: IdentityProvider, standIn: ProviderStandIn, refreshToken: string) {
  const before = standIn.requests.length;
  const answer = await provider.refresh(refreshToken);
  expect(standIn.requests.length - before).toBe(1);
  return answer;
}

function tokensOf(answer: RefreshAnswer) {
  if (answer.kind !== 'success') throw new Error(`the refresh came to ${inspect(answer)}`);
  return answer.tokens;
}

function json(body: object, headers: Record<string, string | number> = {}): Responder {
  return (response) =>
    response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

const ODD = { clientId: 'client:1 ü', clientSecret: 'p@ss:w%rd+&=/ ü"\\' };

interface Scenario {
  idp: string;
  standIn: ProviderStandInSettings;
  entry: (standIn: ProviderStandIn) => object;
  accessTokenExpiresIn: number;
  /** The scopes that the answers name. */
  scopes?: readonly string[];
  refreshTokenExpiresIn?: number;
  /** The error codes for an unknown refresh token and for an unknown application. */
  codes: [string, string];
  isReplayable?: boolean;
}

const RFC_CODES: [string, string] = ['invalid_grant', 'invalid_client'];
const GITHUB = {
  idp: 'github',
  accessTokenExpiresIn: 28800,
  refreshTokenExpiresIn: 15897600,
  codes: ['bad_refresh_token', 'incorrect_client_credentials'] as [string, string],
};
const GITLAB = { idp: 'gitlab', accessTokenExpiresIn: 7200, codes: RFC_CODES };
const AZURE = {
  idp: 'azure_devops',
  accessTokenExpiresIn: 3599,
  scopes: ['vso.code'],
  codes: RFC_CODES,
  isReplayable: true,
};
const ACME = { idp: 'acme', accessTokenExpiresIn: 300, codes: RFC_CODES };

const SCENARIOS: [string, Scenario][] = [
  ['GitHub Enterprise', { ...GITHUB, standIn: { kind: 'github' }, entry: ({ baseUrl }) => ({ baseUrl }) }],
  [
    'GitHub with its token endpoint elsewhere',
    {
      ...GITHUB,
      standIn: { kind: 'github', basePath: '/proxy' },
      entry: ({ baseUrl }) => ({ baseUrl: NOWHERE, tokenEndpoint: `${baseUrl}/login/oauth/access_token` }),
    },
  ],
  ['GitLab', { ...GITLAB, standIn: { kind: 'gitlab' }, entry: ({ baseUrl }) => ({ baseUrl }) }],
  [
    'GitLab below a path, with a redirect URI',
    {
      ...GITLAB,
      standIn: {
        kind: 'gitlab',
        basePath: '/git',
        refreshParameters: { redirect_uri: 'https://app.example/callback' },
        ...ODD,
      },
      entry: ({ baseUrl }) => ({ baseUrl: `${baseUrl}/`, redirectUri: 'https://app.example/callback' }),
    },
  ],
  [
    'Bitbucket Cloud',
    {
      idp: 'bitbucket',
      standIn: { kind: 'bitbucket', ...ODD },
      entry: ({ baseUrl }) => ({ baseUrl }),
      accessTokenExpiresIn: 7200,
      scopes: ['account', 'repository'],
      codes: RFC_CODES,
      isReplayable: true,
    },
  ],
  [
    'Bitbucket Data Center below a path',
    {
      idp: 'bitbucket_data_center',
      standIn: { kind: 'bitbucket_data_center', basePath: '/bitbucket' },
      entry: ({ baseUrl }) => ({ baseUrl }),
      accessTokenExpiresIn: 7200,
      scopes: ['REPO_READ'],
      codes: RFC_CODES,
    },
  ],
  [
    'Azure DevOps',
    {
      ...AZURE,
      standIn: {
        kind: 'azure_devops',
        refreshParameters: { scope: '499b84ac-1321-427f-aa17-267ca6975798/.default offline_access' },
      },
      entry: ({ baseUrl }) => ({ authority: baseUrl }),
    },
  ],
  [
    'Azure DevOps of one tenant with a scope',
    {
      ...AZURE,
      standIn: {
        kind: 'azure_devops',
        tenant: 'contoso.onmicrosoft.com',
        refreshParameters: { scope: 'vso.code offline_access' },
      },
      entry: ({ baseUrl }) => ({
        authority: `${baseUrl}/`,
        tenant: 'contoso.onmicrosoft.com',
        scope: 'vso.code offline_access',
      }),
    },
  ],
  [
    'a custom provider, which takes client_secret_basic',
    { ...ACME, standIn: { kind: 'oauth2', ...ODD }, entry: ({ baseUrl }) => ({ tokenEndpoint: `${baseUrl}/token` }) },
  ],
  [
    'a custom provider that takes client_secret_post and a scope',
    {
      ...ACME,
      standIn: {
        kind: 'oauth2',
        clientAuthentication: 'client_secret_post',
        refreshParameters: { scope: 'a b' },
        ...ODD,
      },
      entry: ({ baseUrl }) => ({
        tokenEndpoint: `${baseUrl}/token`,
        clientAuthentication: 'client_secret_post',
        scope: 'a b',
      }),
    },
  ],
  [
    'a custom provider of public clients',
    {
      ...ACME,
      standIn: { kind: 'oauth2', clientAuthentication: 'none', ...ODD },
      entry: ({ baseUrl }) => ({ tokenEndpoint: `${baseUrl}/token`, clientAuthentication: 'none' }),
    },
  ],
];

describe.each(SCENARIOS)('%s', (_, scenario) => {
  async function connect(client: object = {}) {
    const standIn = await start(scenario.standIn);
    const entry = { ...standIn.client, ...client, ...scenario.entry(standIn) };
    return { standIn, provider: providerOf(scenario.idp, entry) };
  }

  it('gives new tokens for a refresh token, and again for each new one', async () => {
    const { standIn, provider } = await connect();
    let { refreshToken } = standIn.issue();
    for (let round = 0; round < 3; round++) {
      const tokens = tokensOf(await redeem(provider, standIn, refreshToken));
      expect(tokens).toEqual({
        accessToken: expect.any(String),
        refreshToken: expect.any(String),
        accessTokenExpiresIn: scenario.accessTokenExpiresIn,
        refreshTokenExpiresIn: scenario.refreshTokenExpiresIn,
        scopes: scenario.scopes,
      });
      expect(standIn.liveAccessTokens).toContain(tokens.accessToken);
      expect(tokens.refreshToken).not.toBe(refreshToken);
      refreshToken = tokens.refreshToken ?? '';
    }
  });

  it('answers a second redemption of one refresh token as its policy expects', async () => {
    const { standIn, provider } = await connect();
    const { accessToken, refreshToken } = standIn.issue();
    tokensOf(await redeem(provider, standIn, refreshToken));
    const { replayWindowMs, oldAccessTokenSurvives } = provider.policy;
    expect(replayWindowMs > 0).toBe(scenario.isReplayable ?? false);
    expect(standIn.liveAccessTokens.has(accessToken)).toBe(oldAccessTokenSurvives);
    await expect(redeem(provider, standIn, refreshToken)).resolves.toMatchObject(
      scenario.isReplayable ? { kind: 'success' } : { kind: 'terminal', code: scenario.codes[0] },
    );
  });

  it('ends the grant of a refresh token that the provider does not know', async () => {
    const { standIn, provider } = await connect();
    const answer = await redeem(provider, standIn, 'expired+/=& token');
    expect(answer).toEqual({ kind: 'terminal', code: scenario.codes[0] });
    expect(new URLSearchParams(standIn.requests[0]?.body).get('refresh_token')).toBe('expired+/=& token');
  });

  it('names a configuration fault, and leaves the refresh token good, when the application is not known', async () => {
    const isPublic = scenario.standIn.clientAuthentication === 'none';
    const { standIn, provider } = await connect(isPublic ? { clientId: 'other' } : { clientSecret: 'other' });
    const { refreshToken } = standIn.issue();
    const answer = await redeem(provider, standIn, refreshToken);
    expect(answer).toEqual({ kind: 'configuration', code: scenario.codes[1] });
    expect(standIn.isLive(refreshToken)).toBe(true);
  });

  it('keeps the secret of the application out of everything that is printed', async () => {
    const { standIn, provider } = await connect();
    const { clientSecret } = standIn.client;
    for (const text of [JSON.stringify(provider), inspect(provider, { depth: 9, showHidden: true })]) {
      expect(text).not.toContain(clientSecret);
      expect(text).not.toContain(JSON.stringify(clientSecret).slice(1, -1));
    }
    expect(JSON.stringify(provider)).toContain(`:${standIn.port}/`);
  });

  it('names the client that its tokens are issued to', async () => {
    const { standIn, provider } = await connect();
    expect(provider.clientId).toBe(standIn.client.clientId);
  });
});

describe('The lifetime of an access token', () => {
  it('is unlimited at GitHub when the expiry of tokens is switched off', async () => {
    const standIn = await start({ kind: 'github' });
    const provider = providerOf('github', { ...standIn.client, baseUrl: standIn.baseUrl });
    standIn.answerNext(json({ access_token: 'gho_1', scope: 'repo', token_type: 'bearer' }));
    await expect(redeem(provider, standIn, 'ghr_1')).resolves.toEqual({
      kind: 'success',
      tokens: { accessToken: 'gho_1', scopes: ['repo'] },
    });
  });

  it.each(['gitlab', 'bitbucket'] as const)('is two hours at %s when the answer names none', async (kind) => {
    const standIn = await start({ kind });
    const provider = providerOf(kind, { ...standIn.client, baseUrl: standIn.baseUrl });
    for (const expiry of [{}, { expires_in: null }, { expires_in: 0 }]) {
      standIn.answerNext(json({ access_token: 'a', ...expiry }));
      await expect(redeem(provider, standIn, 'r')).resolves.toMatchObject({
        kind: 'success',
        tokens: { accessTokenExpiresIn: 7200 },
      });
    }
    standIn.answerNext(json({ access_token: 'a', expires_in: 60 }));
    expect(tokensOf(await redeem(provider, standIn, 'r')).accessTokenExpiresIn).toBe(60);
  });

  it('is read from the form that GitHub sends to whoever does not ask for JSON', async () => {
    const standIn = await start({ kind: 'github' });
    const provider = providerOf('github', { ...standIn.client, baseUrl: standIn.baseUrl });
    standIn.answerNext((response) => {
      response.writeHead(200, { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' });
      response.end('access_token=ghu_2&expires_in=28800&refresh_token=ghr_2&refresh_token_expires_in=15897600');
    });
    await expect(redeem(provider, standIn, 'ghr_1')).resolves.toMatchObject({
      kind: 'success',
      tokens: { accessToken: 'ghu_2', refreshToken: 'ghr_2', accessTokenExpiresIn: 28800 },
    });
  });
});

describe('Revoking a pair', () => {
  const REVOCABLE: [string, string, ProviderStandInSettings, (standIn: ProviderStandIn) => object][] = [
    ['GitHub Enterprise', 'github', { kind: 'github', clientId: 'Iv1.8a/61f9b' }, ({ baseUrl }) => ({ baseUrl })],
    [
      'GitHub with its API elsewhere',
      'github',
      { kind: 'github', clientId: 'Iv1.8a61f9b' },
      ({ baseUrl }) => ({ apiBaseUrl: `${baseUrl}/api/v3/` }),
    ],
    ['GitLab below a path', 'gitlab', { kind: 'gitlab', basePath: '/git', ...ODD }, ({ baseUrl }) => ({ baseUrl })],
    [
      'Bitbucket Data Center',
      'bitbucket_data_center',
      { kind: 'bitbucket_data_center' },
      ({ baseUrl }) => ({ baseUrl }),
    ],
    ...(['client_secret_basic', 'client_secret_post', 'none'] as const).map(
      (clientAuthentication): [string, string, ProviderStandInSettings, (standIn: ProviderStandIn) => object] => [
        `a custom provider with ${clientAuthentication}`,
        'acme',
        { kind: 'oauth2', clientAuthentication, ...ODD },
        ({ baseUrl }) => ({ tokenEndpoint: NOWHERE, revocationEndpoint: `${baseUrl}/revoke`, clientAuthentication }),
      ],
    ),
  ];

  async function revocable(
    settings: ProviderStandInSettings,
    idp: string,
    entry: (standIn: ProviderStandIn) => object,
    client: object = {},
  ) {
    const standIn = await start(settings);
    const provider = providerOf(idp, { ...standIn.client, ...client, ...entry(standIn) });
    const revoke = async (pair: TokenPair) => {
      const before = standIn.requests.length;
      const answer = await provider.revoke?.(pair);
      expect(standIn.requests.length - before).toBe(1);
      return answer;
    };
    return { standIn, revoke };
  }

  it.each(REVOCABLE)('ends it at %s', async (_, idp, settings, entry) => {
    const { standIn, revoke } = await revocable(settings, idp, entry);
    const [pair, other] = [standIn.issue(), standIn.issue()];
    await expect(revoke(pair)).resolves.toEqual({ kind: 'revoked' });
    expect(standIn.liveAccessTokens.has(pair.accessToken)).toBe(false);
    expect(standIn.liveAccessTokens.has(other.accessToken)).toBe(true);
    expect(standIn.isLive(other.refreshToken)).toBe(true);
  });

  it.each(REVOCABLE)('ends the access token at %s when there is no refresh token', async (_, idp, settings, entry) => {
    const { standIn, revoke } = await revocable(settings, idp, entry);
    const { accessToken } = standIn.issue();
    await expect(revoke({ accessToken, refreshToken: '' })).resolves.toEqual({ kind: 'revoked' });
    expect(standIn.liveAccessTokens.has(accessToken)).toBe(false);
  });

  it.each(REVOCABLE)('is done when %s does not know it any more', async (_, idp, settings, entry) => {
    const { revoke } = await revocable(settings, idp, entry);
    await expect(revoke({ accessToken: 'gone', refreshToken: 'gone' })).resolves.toEqual({ kind: 'revoked' });
  });

  it.each(REVOCABLE.filter(([, , { clientAuthentication }]) => clientAuthentication !== 'none'))(
    'can be asked again at %s when the application is not known',
    async (_, idp, settings, entry) => {
      const { standIn, revoke } = await revocable(settings, idp, entry, { clientSecret: 'other' });
      const pair = standIn.issue();
      await expect(revoke(pair)).resolves.toMatchObject({ kind: 'unavailable' });
      expect(standIn.liveAccessTokens.has(pair.accessToken)).toBe(true);
    },
  );

  it.each<[number, object]>([
    [408, { kind: 'unavailable', code: 'http_408' }],
    [429, { kind: 'unavailable', code: 'http_429', retryAfterMs: 7000 }],
    [500, { kind: 'unavailable', code: 'http_500' }],
    [503, { kind: 'unavailable', code: 'http_503', retryAfterMs: 7000 }],
    [301, { kind: 'unavailable', code: 'http_301' }],
    [404, { kind: 'unavailable', code: 'http_404' }],
    [400, { kind: 'refused', code: 'http_400' }],
    [403, { kind: 'unavailable', code: 'http_403', retryAfterMs: 7000 }],
    [422, { kind: 'refused', code: 'http_422' }],
  ])('says of an answer of %i whether it can be asked again', async (status, answer) => {
    const { standIn, revoke } = await revocable({ kind: 'gitlab' }, 'gitlab', ({ baseUrl }) => ({ baseUrl }));
    standIn.answerNext((response) => {
      response.writeHead(status, { 'retry-after': '7', location: '/elsewhere' }).end('ghu_echo');
    });
    await expect(revoke(standIn.issue())).resolves.toMatchObject(answer);
  });

  it.each([
    ['invalid_client', 'unavailable'],
    ['unauthorized_client', 'unavailable'],
    ['temporarily_unavailable', 'unavailable'],
    ['unsupported_token_type', 'refused'],
    ['invalid_request', 'refused'],
  ])('says of a 400 with %s whether it can be asked again', async (error, kind) => {
    const { standIn, revoke } = await revocable({ kind: 'gitlab' }, 'gitlab', ({ baseUrl }) => ({ baseUrl }));
    standIn.answerNext((response) => {
      response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ error }));
    });
    await expect(revoke(standIn.issue())).resolves.toEqual({ kind, code: error });
  });

  it.each([['github'], ['gitlab']])(
    'never asks the public service of %s for an instance that only its token endpoint names',
    (idp) => {
      const moved = { clientId: 'c', clientSecret: 's', tokenEndpoint: NOWHERE };
      expect(typeof Reflect.get(providerOf(idp, moved), 'revoke')).toBe('undefined');
      expect(typeof Reflect.get(providerOf(idp, { ...moved, baseUrl: NOWHERE }), 'revoke')).toBe('function');
    },
  );

  it('says of a port that fetch does not call that nothing was sent', async () => {
    const provider = providerOf('acme', {
      clientId: 'c',
      clientSecret: 's',
      tokenEndpoint: 'http://127.0.0.1:10080/token',
    });
    await expect(provider.refresh('token')).resolves.toEqual({ kind: 'not-redeemed', code: 'BLOCKED_PORT' });
  });

  it('can be asked again when the answer is lost or nobody answers', async () => {
    const { standIn, revoke } = await revocable({ kind: 'gitlab' }, 'gitlab', ({ baseUrl }) => ({ baseUrl }));
    standIn.answerNext(reset);
    await expect(revoke(standIn.issue())).resolves.toMatchObject({ kind: 'unavailable' });
    const nobody = providerOf('gitlab', { ...standIn.client, baseUrl: NOWHERE });
    await expect(nobody.revoke?.(standIn.issue())).resolves.toEqual({ kind: 'unavailable', code: 'ECONNREFUSED' });
  });

  it.each([
    ['bitbucket', {}],
    ['azure_devops', {}],
    ['acme', { tokenEndpoint: NOWHERE }],
  ])('is not offered by %s, which has no endpoint for it', (idp, entry) => {
    expect(typeof providerOf(idp, { clientId: 'c', clientSecret: 's', ...entry }).revoke).toBe('undefined');
  });
});

type Entry = (standIn: ProviderStandIn) => object;
/** An entry that asks about access tokens, its stand-in, and the exact request that it sends. */
type Question = [
  what: string,
  idp: string,
  settings: ProviderStandInSettings,
  entry: Entry,
  sent: (token: string) => object,
];

const form = (parameters: Record<string, string>) => new URLSearchParams(parameters).toString();
const basic = (credentials: string) => `Basic ${Buffer.from(credentials).toString('base64')}`;
const FORM_TYPE = 'application/x-www-form-urlencoded';
const ODD_BASIC = basic('client%3A1+%C3%BC:p%40ss%3Aw%25rd%2B%26%3D%2F+%C3%BC%22%5C');

const sentToGitHub = (token: string) => ({
  method: 'POST',
  path: '/api/v3/applications/Iv1.8a%2F61f9b/token',
  accept: 'application/vnd.github+json',
  authorization: basic('Iv1.8a/61f9b:client-secret-1'),
  type: 'application/json',
  body: JSON.stringify({ access_token: token }),
});
const sentByBearer = (path: string) => (token: string) => ({
  method: 'GET',
  path,
  accept: 'application/json',
  authorization: `Bearer ${token}`,
  type: undefined,
  body: '',
});
const sentToIntrospection = (authorization?: string, client?: Record<string, string>) => (token: string) => ({
  method: 'POST',
  path: '/introspect',
  accept: 'application/json',
  authorization,
  type: FORM_TYPE,
  body: form({ token, token_type_hint: 'access_token', ...client }),
});
const inBody = sentToIntrospection(undefined, { client_id: ODD.clientId, client_secret: ODD.clientSecret });

const AT_GITHUB = { kind: 'github', clientId: 'Iv1.8a/61f9b' } as const;
const IN_BODY = { kind: 'oauth2', clientAuthentication: 'client_secret_post', ...ODD } as const;
const introspected: Entry = ({ baseUrl }) => ({ introspectionEndpoint: `${baseUrl}/introspect` });
const userinfo: Entry = ({ baseUrl }) => ({ userinfoEndpoint: `${baseUrl}/userinfo` });

/** The questions that known providers have, and one question of each style that an entry can describe. */
const QUESTIONS: Question[] = [
  ['GitHub Enterprise', 'github', AT_GITHUB, ({ baseUrl }) => ({ baseUrl }), sentToGitHub],
  [
    'GitHub with its API elsewhere',
    'github',
    AT_GITHUB,
    ({ baseUrl }) => ({ tokenEndpoint: NOWHERE, apiBaseUrl: `${baseUrl}/api/v3/` }),
    sentToGitHub,
  ],
  [
    'GitLab below a path',
    'gitlab',
    { kind: 'gitlab', basePath: '/git', ...ODD },
    ({ baseUrl }) => ({ baseUrl }),
    sentByBearer('/git/oauth/token/info'),
  ],
  ...(
    [
      ['client_secret_basic', sentToIntrospection(ODD_BASIC)],
      ['client_secret_post', inBody],
      ['none', sentToIntrospection(undefined, { client_id: ODD.clientId })],
    ] as const
  ).map(([clientAuthentication, sent]): Question => [
    `an introspection endpoint with ${clientAuthentication}`,
    'acme',
    { kind: 'oauth2', clientAuthentication, ...ODD },
    (standIn) => ({ tokenEndpoint: NOWHERE, clientAuthentication, ...introspected(standIn) }),
    sent,
  ]),
  [
    'a userinfo endpoint',
    'acme',
    { kind: 'oauth2' },
    (standIn) => ({ tokenEndpoint: NOWHERE, ...userinfo(standIn) }),
    sentByBearer('/userinfo'),
  ],
];

/** The same endpoints in entries of known providers. They have priority over the question of the provider. */
const OVERRIDES: Question[] = [
  ...(
    [
      ['github', {}],
      ['gitlab', {}],
      ['bitbucket_data_center', { baseUrl: NOWHERE }],
      ['azure_devops', {}],
    ] as const
  ).flatMap(([idp, entry]): Question[] => [
    [idp, idp, IN_BODY, (standIn) => ({ ...entry, ...introspected(standIn) }), inBody],
    [idp, idp, IN_BODY, (standIn) => ({ ...entry, ...userinfo(standIn) }), sentByBearer('/userinfo')],
    [idp, idp, IN_BODY, (standIn) => ({ ...entry, ...userinfo(standIn), ...introspected(standIn) }), inBody],
  ]),
  ['bitbucket', 'bitbucket', { kind: 'oauth2', ...ODD }, introspected, sentToIntrospection(ODD_BASIC)],
  ['bitbucket', 'bitbucket', { kind: 'oauth2' }, userinfo, sentByBearer('/userinfo')],
  ['an entry of a moved GitHub', 'github', IN_BODY, (it) => ({ tokenEndpoint: NOWHERE, ...introspected(it) }), inBody],
];

describe('The question whether an access token works', () => {
  async function askable(settings: ProviderStandInSettings, idp: string, entry: Entry, more: object = {}) {
    const standIn = await start(settings);
    const provider = providerOf(idp, { ...standIn.client, ...entry(standIn), ...more });
    const ask = async (accessToken: string, requests = 1) => {
      const before = standIn.requests.length;
      const life = await provider.isAccessTokenAlive?.(accessToken);
      expect(standIn.requests.length - before).toBe(requests);
      return life;
    };
    return { standIn, provider, ask };
  }

  it.each([...QUESTIONS, ...OVERRIDES])(
    'is answered by %s, by one exact request',
    async (_, idp, settings, entry, sent) => {
      const { standIn, ask } = await askable(settings, idp, entry);
      const [{ accessToken }, other] = [standIn.issue(), standIn.issue()];
      await expect(ask(accessToken)).resolves.toBe('alive');
      standIn.liveAccessTokens.delete(accessToken);
      await expect(ask(accessToken)).resolves.toBe('dead');
      await expect(ask(other.accessToken)).resolves.toBe('alive');
      const asked = [accessToken, accessToken, other.accessToken];
      expect(
        standIn.requests.map(({ method, path, headers, body }) => ({
          method,
          path,
          accept: headers.accept,
          authorization: headers.authorization,
          type: headers['content-type'],
          body,
        })),
      ).toEqual(asked.map(sent));
      expect(new Set(standIn.requests.map(({ headers }) => headers['user-agent']))).toEqual(
        new Set(['nestjs-idp-tokens']),
      );
    },
  );

  it.each(['github', 'gitlab'] as const)('tells what became of a refresh at %s', async (kind) => {
    const { standIn, provider, ask } = await askable({ kind }, kind, ({ baseUrl }) => ({ baseUrl }));
    const { accessToken, refreshToken } = standIn.issue();
    standIn.answerNext(reset);
    expect((await provider.refresh(refreshToken)).kind).toBe('ambiguous');
    await expect(ask(accessToken)).resolves.toBe('alive');
    const renewed = tokensOf(await provider.refresh(refreshToken));
    expect(provider.policy.refreshEndsAccessToken).toBe(true);
    await expect(ask(accessToken)).resolves.toBe('dead');
    await expect(ask(renewed.accessToken)).resolves.toBe('alive');
  });

  const [GITHUB_ASKED, , GITLAB_ASKED, INTROSPECTION_ASKED] = QUESTIONS;
  const USERINFO_ASKED = QUESTIONS.at(-1);
  const SILENT = [301, 302, 303, 307, 308, 400, 403, 408, 410, 422, 429, 500, 502, 503, 504];

  it.each([
    ['GitHub', GITHUB_ASKED, { 200: 'alive', 404: 'dead' }, [201, 204, 401, ...SILENT]],
    ['GitLab', GITLAB_ASKED, { 200: 'alive', 401: 'dead' }, [201, 204, 404, ...SILENT]],
    ['an introspection endpoint', INTROSPECTION_ASKED, {}, [200, 201, 204, 401, 404, ...SILENT]],
    [
      'a userinfo endpoint',
      USERINFO_ASKED,
      { 200: 'alive', 201: 'alive', 204: 'alive', 401: 'dead' },
      [404, ...SILENT],
    ],
  ])('is answered by %s with a status that tells, or not at all', async (_, question, telling, silent) => {
    if (!question) throw new Error('no such question');
    const [, idp, settings, entry] = question;
    const { standIn, ask } = await askable(settings, idp, entry);
    const target = await start({ kind: 'oauth2' });
    const expected = [...Object.entries(telling), ...silent.map((status) => [status, 'unknown'] as const)];
    const lives: (readonly [number | string, unknown])[] = [];
    for (const [status] of expected) {
      standIn.answerNext((response) => {
        const headers = { location: `${target.baseUrl}/userinfo`, 'www-authenticate': 'Basic realm="x"' };
        response.writeHead(Number(status), { ...headers, 'retry-after': '0' }).end();
      });
      lives.push([status, await ask(standIn.issue().accessToken)]);
    }
    expect(lives).toEqual(expected);
    expect(target.requests).toEqual([]);
  });

  it.each([
    ['true', '{"active":true}', 'alive'],
    ['false', '{"active":false,"exp":1}', 'dead'],
    ['a text', '{"active":"false"}', 'unknown'],
    ['a number', '{"active":0}', 'unknown'],
    ['null', '{"active":null}', 'unknown'],
    ['nothing', '{}', 'unknown'],
    ['a list', '[{"active":false}]', 'unknown'],
    ['a page', '<html>Sign in</html>', 'unknown'],
    ['a form', 'access_token=a&active=false', 'unknown'],
    ['a cut body', '{"active":false', 'unknown'],
    ['no body', '', 'unknown'],
  ])('needs a boolean from an introspection endpoint: %s', async (_, body, life) => {
    const { standIn, ask } = await askable({ kind: 'oauth2' }, 'acme', (at) => ({
      tokenEndpoint: NOWHERE,
      ...introspected(at),
    }));
    for (const [status, expected] of [
      [200, life],
      [201, 'unknown'],
      [400, 'unknown'],
      [500, 'unknown'],
    ] as const) {
      standIn.answerNext((response) => response.writeHead(status, { 'content-type': 'application/json' }).end(body));
      await expect(ask('token')).resolves.toBe(expected);
    }
  });

  it.each(QUESTIONS.filter(([, , , , sent]) => JSON.stringify(sent('t')).includes('"POST"')))(
    'stays open at %s when the application is not known',
    async (_, idp, settings, entry) => {
      const wrong = settings.clientAuthentication === 'none' ? { clientId: 'other' } : { clientSecret: 'other' };
      const { standIn, ask } = await askable(settings, idp, entry, wrong);
      await expect(ask(standIn.issue().accessToken)).resolves.toBe('unknown');
    },
  );

  it.each<[string, Responder]>([
    ['a reset', reset],
    ['an orderly end', close],
    ['silence', () => undefined],
    [
      'a head without its body',
      (response) => {
        response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
      },
    ],
    [
      'a body shorter than announced',
      (response) => response.writeHead(200, { 'content-length': 50 }).end('{"active":true}'),
    ],
    ['a body over 1 MiB', (response) => response.writeHead(200).end('{"active":true}'.padEnd(MIB + 1))],
    ['no HTTP', (response) => response.socket?.end('SSH-2.0-OpenSSH_9.6\r\n')],
  ])('is asked once, and stays open, when its answer is lost to %s', async (_, responder) => {
    for (const [, idp, settings, entry] of [GITHUB_ASKED, GITLAB_ASKED, INTROSPECTION_ASKED, USERINFO_ASKED].flatMap(
      (question) => (question ? [question] : []),
    )) {
      const { standIn, ask } = await askable(settings, idp, entry, { policy: { exchangeTimeoutMs: 300 } });
      standIn.answerNext(responder);
      const { accessToken } = standIn.issue();
      const before = performance.now();
      await expect(ask(accessToken)).resolves.toBe('unknown');
      expect(performance.now() - before).toBeLessThan(2300);
      await expect(ask(accessToken)).resolves.toBe('alive');
    }
  });

  it('has five seconds where a refresh has more', async () => {
    const { standIn, provider } = await askable({ kind: 'gitlab' }, 'gitlab', ({ baseUrl }) => ({ baseUrl }));
    expect(provider.policy.exchangeTimeoutMs).toBe(15_000);
    standIn.answerNext(() => undefined);
    const before = performance.now();
    await expect(provider.isAccessTokenAlive?.('token')).resolves.toBe('unknown');
    const elapsed = performance.now() - before;
    expect(elapsed).toBeGreaterThan(4990);
    expect(elapsed).toBeLessThan(5900);
    expect(standIn.requests).toHaveLength(1);
  });

  it('is not repeated after a 421 where it has a body, and costs one request more where it has none', async () => {
    for (const [question, requests] of [
      [GITHUB_ASKED, 1],
      [INTROSPECTION_ASKED, 1],
      [GITLAB_ASKED, 2],
    ] as const) {
      if (!question) throw new Error('no such question');
      const [, idp, settings, entry] = question;
      const { standIn, ask } = await askable(settings, idp, entry);
      for (let answer = 0; answer < requests; answer++) {
        standIn.answerNext((response) => response.writeHead(421).end());
      }
      await expect(ask(standIn.issue().accessToken, requests)).resolves.toBe('unknown');
    }
  });

  it('is put twice to a server that the first request certainly did not reach', async () => {
    let [connections, requests] = [0, 0];
    const server = createHttpsServer(selfSigned('127.0.0.1'), (_, response) => {
      requests++;
      response.end();
    }).on('connection', () => connections++);
    const host = `https://127.0.0.1:${await listen(server)}`;
    const provider = providerOf('gitlab', { clientId: 'c', clientSecret: 's', baseUrl: host });
    await expect(provider.isAccessTokenAlive?.('token')).resolves.toBe('unknown');
    expect({ connections, requests }).toEqual({ connections: 2, requests: 0 });
  });

  it('stays open when the server refuses the connection', async () => {
    const client = { clientId: 'c', clientSecret: 's' };
    for (const [idp, entry] of [
      ['github', { baseUrl: NOWHERE }],
      ['gitlab', { baseUrl: NOWHERE }],
      ['acme', { tokenEndpoint: NOWHERE, introspectionEndpoint: NOWHERE }],
      ['acme', { tokenEndpoint: NOWHERE, userinfoEndpoint: NOWHERE }],
    ] as const) {
      await expect(providerOf(idp, { ...client, ...entry }).isAccessTokenAlive?.('token')).resolves.toBe('unknown');
    }
  });

  it('stays open for a token that no header can carry, and is not sent', async () => {
    const { ask } = await askable({ kind: 'gitlab' }, 'gitlab', ({ baseUrl }) => ({ baseUrl }));
    for (const token of ['a\nb: c', 'grün\u{1f511}', 'a\0']) await expect(ask(token, 0)).resolves.toBe('unknown');
  });

  it.each(QUESTIONS)('leaves nothing of the token in %s', async (_, idp, settings, entry) => {
    const { standIn, provider, ask } = await askable(settings, idp, entry);
    standIn.answerNext(reset);
    await expect(ask('secret-token')).resolves.toBe('unknown');
    await expect(ask('secret-token')).resolves.toBe('dead');
    for (const text of [JSON.stringify(provider), inspect(provider, { depth: 9, showHidden: true })]) {
      expect(text).not.toContain('secret-token');
      expect(text).not.toContain(standIn.client.clientSecret);
    }
  });

  it.each([
    ['bitbucket', {}],
    ['bitbucket_data_center', { baseUrl: NOWHERE }],
    ['azure_devops', {}],
    ['acme', { tokenEndpoint: NOWHERE }],
    ['github', { tokenEndpoint: NOWHERE }],
    ['gitlab', { tokenEndpoint: NOWHERE }],
  ])('cannot be put to %s with %j, where it has no endpoint that is known', (idp, entry) => {
    expect(typeof providerOf(idp, { clientId: 'c', clientSecret: 's', ...entry }).isAccessTokenAlive).toBe('undefined');
  });
});

/** Breaks the connection with a TCP reset. */
function reset(response: ServerResponse): void {
  response.socket?.resetAndDestroy();
}

/** Closes the connection with a TCP FIN. */
function close(response: ServerResponse): void {
  response.socket?.end();
}

describe('A refresh over a network that fails', () => {
  async function connect(policy: object = {}) {
    const standIn = await start({ kind: 'oauth2' });
    const provider = providerOf('acme', { ...standIn.client, tokenEndpoint: `${standIn.baseUrl}/token`, policy });
    return { standIn, provider, refreshToken: standIn.issue().refreshToken };
  }

  /** Redeems once with the given answer, and makes sure that the provider works afterwards. */
  async function answered(responder: Responder, policy: object = {}): Promise<RefreshAnswer> {
    const { standIn, provider, refreshToken } = await connect(policy);
    standIn.answerNext(responder);
    const answer = await redeem(provider, standIn, refreshToken);
    expect((await redeem(provider, standIn, refreshToken)).kind).toBe('success');
    return answer;
  }

  describe('ends at its deadline', () => {
    const DEADLINE_MS = 300;

    it.each<[string, Responder]>([
      ['nothing arrives', () => undefined],
      [
        'the head arrives and no body',
        (response) => {
          response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
        },
      ],
      [
        'the body drips in',
        (response) => {
          response.writeHead(200, { 'content-type': 'application/json' }).write('{"access_token":"a","x":"');
          const drip = setInterval(() => response.write('x'), 20);
          response.on('close', () => {
            clearInterval(drip);
          });
        },
      ],
      [
        'the body lacks its last byte',
        (response) => {
          response.writeHead(200, { 'content-type': 'application/json', 'content-length': 21 });
          response.write('{"access_token":"a"}');
        },
      ],
    ])('when %s', async (_, responder) => {
      const { standIn, provider, refreshToken } = await connect({ exchangeTimeoutMs: DEADLINE_MS });
      standIn.answerNext(responder);
      const before = performance.now();
      const answer = await redeem(provider, standIn, refreshToken);
      const elapsed = performance.now() - before;
      expect(answer).toEqual({ kind: 'ambiguous', code: 'TIMEOUT' });
      expect(elapsed).toBeGreaterThan(DEADLINE_MS - 10);
      expect(elapsed).toBeLessThan(DEADLINE_MS + 2000);
    });

    it('when a server accepts the connection and stays silent', async () => {
      const { port, sockets } = await silentServer();
      const answer = await unknownAt(`http://127.0.0.1:${port}/token`, DEADLINE_MS).refresh('r');
      expect(answer).toEqual({ kind: 'ambiguous', code: 'TIMEOUT' });
      expect(sockets).toHaveLength(1);
    });
  });

  it('is ambiguous when the connection breaks after the request', async () => {
    for (const responder of [reset, close]) {
      const answer = await answered(responder);
      expect(answer).toEqual({ kind: 'ambiguous', code: expect.stringMatching(/^(ECONNRESET|UND_ERR_SOCKET)$/) });
    }
  });

  it('is not sent again when a connection breaks that has served before', async () => {
    const { standIn, provider, refreshToken } = await connect();
    const tokens = tokensOf(await redeem(provider, standIn, refreshToken));
    for (const responder of [reset, close, reset]) {
      standIn.answerNext(responder);
      expect((await redeem(provider, standIn, tokens.refreshToken ?? '')).kind).toBe('ambiguous');
    }
    expect((await redeem(provider, standIn, tokens.refreshToken ?? '')).kind).toBe('success');
  });

  it.each<[string, Responder]>([
    [
      'the body is shorter than announced',
      (response) => {
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': 500 });
        response.write('{"access_token":"a"}', () => response.socket?.end());
      },
    ],
    [
      'the body stops between two chunks',
      (response) => {
        response.writeHead(200, { 'content-type': 'application/json' });
        response.write('{"access_token":"a"}', () => response.socket?.resetAndDestroy());
      },
    ],
    ['the answer is no HTTP', (response) => response.socket?.end('SSH-2.0-OpenSSH_9.6\r\n')],
    [
      'the body cannot be decompressed',
      (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('{"access_token":"a"}'),
    ],
  ])('is ambiguous when %s', async (_, responder) => {
    expect(await answered(responder)).toEqual({ kind: 'ambiguous', code: expect.stringMatching(/^[A-Z0-9_]+$/) });
  });

  it('reads a body of 1 MiB and none that is larger, compressed or not', async () => {
    const body = JSON.stringify({ access_token: 'a' }).padEnd(MIB);
    const plain =
      (text: string): Responder =>
      (response) =>
        response.writeHead(200).end(text);
    const gzip =
      (text: string): Responder =>
      (response) =>
        response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(text));
    for (const inForm of [plain, gzip]) {
      expect((await answered(inForm(body))).kind).toBe('success');
      expect(await answered(inForm(`${body} `))).toEqual({ kind: 'ambiguous', code: 'BODY_TOO_LARGE' });
    }
  });

  it('stops reading an endless body', async () => {
    let isClosed = (): void => undefined;
    const closed = new Promise<void>((resolve) => (isClosed = resolve));
    const answer = await answered((response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      const pour = (): void => {
        while (!response.destroyed && response.write(' '.repeat(64 * 1024)));
      };
      response.on('drain', pour).on('close', isClosed);
      pour();
    });
    expect(answer).toEqual({ kind: 'ambiguous', code: 'BODY_TOO_LARGE' });
    await closed;
  });

  it('reads characters that arrive in pieces', async () => {
    const bytes = Buffer.from(JSON.stringify({ access_token: 'grün' }));
    const middle = bytes.indexOf(Buffer.from('ü')) + 1;
    const answer = await answered((response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.write(bytes.subarray(0, middle), () => setImmediate(() => response.end(bytes.subarray(middle))));
    });
    expect(tokensOf(answer).accessToken).toBe('grün');
  });

  it.each([301, 302, 303, 307, 308])('does not follow a redirect of %i', async (status) => {
    const target = await start({ kind: 'oauth2' });
    const answer = await answered((response) => {
      response.writeHead(status, { location: `${target.baseUrl}/token` }).end();
    });
    expect(answer).toEqual({ kind: 'configuration', code: `http_${status}` });
    expect(target.requests).toEqual([]);
  });

  it.each<[number, RefreshAnswer['kind']]>([
    [401, 'configuration'],
    [403, 'not-redeemed'], // a 403 with Retry-After
    [407, 'ambiguous'],
    [408, 'ambiguous'],
    [421, 'configuration'], // fetch sends a request again after a 421 if it can
    [425, 'configuration'],
    [429, 'not-redeemed'],
    [500, 'ambiguous'],
    [503, 'not-redeemed'],
  ])('is sent once when the answer is %i', async (status, kind) => {
    const answer = await answered((response) => {
      response.writeHead(status, { 'www-authenticate': 'Basic realm="x"', 'retry-after': '0' }).end();
    });
    expect(answer.kind).toBe(kind);
  });

  it('announces the length of its body, which many token endpoints insist on', async () => {
    const { standIn, provider, refreshToken } = await connect();
    await redeem(provider, standIn, `${refreshToken}ü`);
    const [request] = standIn.requests;
    expect(request?.headers['transfer-encoding']).toBeUndefined();
    expect(request?.headers['content-length']).toBe(String(Buffer.byteLength(request?.body ?? '')));
  });

  it('sends every refresh token with its own request and mixes up no answers', async () => {
    const { standIn, provider } = await connect();
    const pairs = Array.from({ length: 30 }, () => standIn.issue());
    const answers = await Promise.all(pairs.map(({ refreshToken }) => provider.refresh(refreshToken)));
    expect(new Set(answers.map((answer) => tokensOf(answer).refreshToken)).size).toBe(30);
    expect(standIn.requests).toHaveLength(30);
  });

  describe('is certainly not redeemed', () => {
    it.each(['127.0.0.1', 'localhost'])('when %s refuses the connection', async (host) => {
      const gone = await ProviderStandIn.start({ kind: 'oauth2' });
      const { port } = gone;
      await gone.stop();
      await expect(unknownAt(`http://${host}:${port}/token`).refresh('r')).resolves.toEqual({
        kind: 'not-redeemed',
        code: 'ECONNREFUSED',
      });
      expect(gone.requests).toEqual([]);
    });

    it('when the name of the host does not resolve', async () => {
      // This needs no network, because no resolver looks for a label of more than 63 characters.
      const { exchange } = await import('../src/oauth-http/http-exchange.js');
      const request = { method: 'POST', url: `http://${'x'.repeat(64)}.invalid/`, headers: {}, body: '' } as const;
      await expect(exchange(request, 10_000)).resolves.toEqual({
        kind: 'not-sent',
        code: expect.stringMatching(/^(ENOTFOUND|EAI_AGAIN|EAI_FAIL)$/),
      });
    });

    it('when the server does not speak TLS', async () => {
      const standIn = await start({ kind: 'oauth2' });
      const answer = await unknownAt(`${standIn.baseUrl.replace('http:', 'https:')}/token`).refresh('r');
      expect(answer).toEqual({ kind: 'not-redeemed', code: expect.stringMatching(/^(ERR_SSL_|EPROTO)/) });
      expect(standIn.requests).toEqual([]);
    });

    it('when the TLS handshake does not end by the deadline', async () => {
      const { port, sockets } = await silentServer();
      const answer = await unknownAt(`https://127.0.0.1:${port}/token`, 300).refresh('r');
      expect(answer).toEqual({ kind: 'not-redeemed', code: 'TIMEOUT' });
      expect(sockets).toHaveLength(1);
    });

    it.each<[string, (socket: Socket) => void]>([
      ['resets', (socket) => socket.resetAndDestroy()],
      ['closes', (socket) => socket.end()],
    ])('when the server %s the connection during the TLS handshake', async (_, breakOff) => {
      const { port, sockets } = await silentServer((socket) => {
        socket.once('data', () => {
          breakOff(socket);
        });
      });
      const answer = await unknownAt(`https://127.0.0.1:${port}/token`).refresh('r');
      expect(answer).toEqual({ kind: 'not-redeemed', code: 'ECONNRESET' });
      expect(sockets).toHaveLength(1);
    });

    it('when the certificate of the server is not trusted', async () => {
      let requests = 0;
      const server = createHttpsServer(selfSigned('127.0.0.1'), (_, response) => {
        requests++;
        response.end();
      });
      const port = await listen(server);
      await expect(unknownAt(`https://127.0.0.1:${port}/token`).refresh('r')).resolves.toEqual({
        kind: 'not-redeemed',
        code: 'DEPTH_ZERO_SELF_SIGNED_CERT',
      });
      expect(requests).toBe(0);
    });
  });
});

/** Returns a provider with this token endpoint, of which the module knows nothing else. */
function unknownAt(tokenEndpoint: string, exchangeTimeoutMs?: number): IdentityProvider {
  return providerOf('acme', { clientId: 'c', clientSecret: 's', tokenEndpoint, policy: { exchangeTimeoutMs } });
}

/** Starts a server that accepts connections and never answers. */
async function silentServer(accept: (socket: Socket) => void = () => undefined) {
  const sockets: Socket[] = [];
  const server = createTcpServer((socket) => {
    sockets.push(socket.on('error', () => undefined));
    accept(socket);
  });
  return { port: await listen(server, sockets), sockets };
}

/** Starts a server and returns its port. The server ends with the test. */
async function listen(server: Server, sockets: Socket[] = []): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closings.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

/**
 * Makes a key and a certificate that this key signed. It encodes X.509 v1 itself, so that the repository has no private
 * key.
 */
function selfSigned(commonName: string): { key: string; cert: string } {
  const der = (tag: number, ...parts: Buffer[]): Buffer => {
    const content = Buffer.concat(parts);
    const length = content.length < 128 ? [content.length] : [0x82, content.length >> 8, content.length & 0xff];
    return Buffer.concat([Buffer.from([tag, ...length]), content]);
  };
  const sequence = (...parts: Buffer[]): Buffer => der(0x30, ...parts);
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const ecdsaWithSha256 = sequence(Buffer.from('06082a8648ce3d040302', 'hex'));
  const name = sequence(der(0x31, sequence(Buffer.from('0603550403', 'hex'), der(0x0c, Buffer.from(commonName)))));
  const validity = sequence(...['250101000000Z', '491231235959Z'].map((time) => der(0x17, Buffer.from(time))));
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const content = sequence(der(0x02, Buffer.of(1)), ecdsaWithSha256, name, validity, name, spki);
  const signature = der(0x03, Buffer.of(0), sign('sha256', content, privateKey));
  const cert = sequence(content, ecdsaWithSha256, signature).toString('base64');
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${cert}\n-----END CERTIFICATE-----\n`,
  };
}
