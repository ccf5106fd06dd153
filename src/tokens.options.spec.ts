import { generateKeyPairSync } from 'node:crypto';

import { describe, expect, it, jest } from '@jest/globals';

import type { IdentityProvider } from './identity-providers/identity-provider.js';
import { ProviderType } from './identity-providers/provider-type.js';
import { completePolicy } from './identity-providers/refresh-policy.js';
import { loadSodium } from './sealing/sodium.js';
import { TokensConfigurationError } from './tokens.errors.js';
import { readTokensOptions, type TokensModuleOptions } from './tokens.options.js';

await loadSodium();

const SECRET = Buffer.alloc(32, 1).toString('base64');
const CLIENT = { clientId: 'id', clientSecret: 'client-secret' };
const MINIMAL: TokensModuleOptions = {
  encryption: { keys: [{ id: 'k', secret: SECRET }] },
  identityProviders: {},
};

const EC_KEY = privatePem('ec', { namedCurve: 'P-256' });
const P384_KEY = privatePem('ec', { namedCurve: 'P-384' });
const SHORT_RSA_KEY = privatePem('rsa', { modulusLength: 1024 });
const BY_KEY = { clientId: 'client', clientAuthentication: 'private_key_jwt' };

function privatePem(type: 'ec' | 'rsa', options: object): string {
  const { privateKey } = generateKeyPairSync(type as 'ec', options as { namedCurve: string });
  return String(privateKey.export({ format: 'pem', type: 'pkcs8' }));
}

/** The faults of the minimal options with these changes. The test fails if the options have no fault. */
function faults(changes: object, base: object = MINIMAL): string[] {
  const message = configurationError({ ...base, ...changes }).message;
  expect(message.split('\n')[0]).toBe('The options of TokensModule are wrong:');
  return message
    .split('\n')
    .slice(1)
    .map((line) => line.replace(/^- /, ''));
}

function configurationError(options: unknown): TokensConfigurationError {
  try {
    readTokensOptions(options);
  } catch (error) {
    if (error instanceof TokensConfigurationError) return error;
    throw error;
  }
  throw new Error('the options were accepted');
}

function providerOf(entry: object, idp = 'github'): IdentityProvider | undefined {
  return readTokensOptions({ ...MINIMAL, identityProviders: { [idp]: entry } }).identityProviders.get(idp);
}

/** A provider that the host implements. */
function ownProvider(policy: unknown = completePolicy()) {
  return { policy, refresh: jest.fn(), revoke: jest.fn() };
}

describe('The options', () => {
  it('have a default for all but the keys and the providers', () => {
    const { userId, keyring, ...options } = readTokensOptions(MINIMAL);
    expect(keyring.keyIds).toEqual(['k']);
    expect(options).toEqual({
      accountLinks: { allowedReturnTo: [] },
      identityProviders: new Map(),
      refresh: {
        leewaySeconds: 900,
        waitTimeoutMs: 8000,
        backoffBaseMs: 1000,
        backoffMaxMs: 60_000,
        commitWaitMs: 5000,
        shutdownTimeoutMs: 60_000,
      },
      keycloak: null,
      preparedStatements: true,
      connectionTimeoutMs: 10_000,
      hostQueryRunner: undefined,
    });
    expect(userId({ user: { sub: 'user-1' } })).toBe('user-1');
    for (const request of [{}, { user: {} }, { user: { sub: 7 } }, undefined, null])
      expect(userId(request)).toBe(undefined);
  });

  it('are taken as they are given', () => {
    const refresh = {
      leewaySeconds: 0,
      waitTimeoutMs: 0,
      backoffBaseMs: 1,
      backoffMaxMs: 2,
      commitWaitMs: 0,
      shutdownTimeoutMs: 0,
    };
    const given = { refresh, preparedStatements: false, connectionTimeoutMs: 1 };
    expect(readTokensOptions({ ...MINIMAL, ...given })).toMatchObject(given);
    expect(readTokensOptions({ ...MINIMAL, refresh: { waitTimeoutMs: 1 } }).refresh).toMatchObject({
      waitTimeoutMs: 1,
      leewaySeconds: 900,
    });
  });

  it('keep functions by identity and call none of them', () => {
    const hostQueryRunner = jest.fn(() => undefined);
    const userId = jest.fn(() => undefined);
    const provider = ownProvider();
    const options = readTokensOptions({
      ...MINIMAL,
      hostQueryRunner,
      userId,
      identityProviders: { acme: provider },
    });
    expect(options.hostQueryRunner).toBe(hostQueryRunner);
    expect(options.userId).toBe(userId);
    expect(options.identityProviders.get('acme')).toBe(provider);
    for (const each of [hostQueryRunner, userId, provider.refresh, provider.revoke]) {
      expect(each).not.toHaveBeenCalled();
    }
  });

  it('keep their default where a field is undefined or null, as a configuration file may leave it', () => {
    for (const nothing of [undefined, null]) {
      const options = {
        ...MINIMAL,
        refresh: { leewaySeconds: nothing, waitTimeoutMs: nothing },
        preparedStatements: nothing,
        connectionTimeoutMs: nothing,
        hostQueryRunner: nothing,
        userId: nothing,
        identityProviders: { github: { ...CLIENT, baseUrl: nothing, tokenEndpoint: nothing, policy: nothing } },
      };
      const { identityProviders, ...others } = readTokensOptions(options);
      const { identityProviders: none, ...defaults } = readTokensOptions(MINIMAL);
      expect(none.size).toBe(0);
      expect(others).toEqual(defaults);
      expect(JSON.stringify(identityProviders.get('github'))).toBe(JSON.stringify(providerOf(CLIENT)));
      expect(readTokensOptions({ ...options, refresh: nothing }).refresh).toEqual(defaults.refresh);
    }
  });

  it('leave out the providers whose entry is undefined', () => {
    const identityProviders = { github: undefined, gitlab: CLIENT };
    expect([...readTokensOptions({ ...MINIMAL, identityProviders }).identityProviders.keys()]).toEqual(['gitlab']);
  });

  it('do not change the object that was given', () => {
    const given = { ...MINIMAL, refresh: { waitTimeoutMs: 1 }, identityProviders: { github: { ...CLIENT } } };
    const copy = structuredClone(given);
    readTokensOptions(given);
    expect(given).toEqual(copy);
  });
});

describe('A fault in the options', () => {
  it('is an error that stops the boot and is not retryable', () => {
    expect(configurationError({})).toMatchObject({ code: 'ERR_TOKENS_CONFIGURATION', retryable: false });
  });

  it.each([undefined, null, {}, [], 'options', 7])('names what is missing when the options are %j', (options) => {
    expect(configurationError(options).message.split('\n- ').slice(1)).toEqual([
      'encryption is missing: give it the keys that seal the tokens',
      'identityProviders is missing: name the providers whose tokens are stored, {} for none',
    ]);
  });

  it.each([
    ['encryption', 'keys', 'encryption is missing: give it the keys that seal the tokens'],
    ['identityProviders', 7, 'identityProviders is missing: name the providers whose tokens are stored, {} for none'],
    ['refresh', 7, 'refresh must be an object'],
    ['refresh', [], 'refresh must be an object'],
    ['preparedStatements', 'false', 'preparedStatements must be a boolean value'],
    ['connectionTimeoutMs', 0, 'connectionTimeoutMs must not be less than 1'],
    ['connectionTimeoutMs', 600_001, 'connectionTimeoutMs must not be greater than 600000'],
    ['connectionTimeoutMs', 1.5, 'connectionTimeoutMs must be an integer number'],
    ['connectionTimeoutMs', '5000', 'connectionTimeoutMs must be an integer number'],
    ['hostQueryRunner', {}, 'hostQueryRunner must be a function'],
    ['userId', 'sub', 'userId must be a function'],
    ['encrypton', {}, 'encrypton is not an option'],
    ['refreshLeewaySeconds', 5, 'refreshLeewaySeconds is not an option'],
  ])('names the option %s when it is %j', (option, value, fault) => {
    expect(faults({ [option]: value })).toContain(fault);
  });

  it.each([
    ['leewaySeconds', -1],
    ['leewaySeconds', 0.5],
    ['waitTimeoutMs', -1],
    ['waitTimeoutMs', 600_001],
    ['backoffBaseMs', 0],
    ['backoffMaxMs', 0],
    ['commitWaitMs', -1],
    ['shutdownTimeoutMs', -1],
    ['shutdownTimeoutMs', Number.NaN],
    ['shutdownTimeoutMs', '60000'],
    ['leeway', 900],
  ])('names the option refresh.%s when it is %j', (option, value) => {
    const found = faults({ refresh: { [option]: value } });
    expect(found.filter((fault) => !fault.startsWith(`refresh.${option} `))).toEqual([]);
  });

  it.each<[string, unknown, string]>([
    ['no list', 'x', 'encryption.keys must be an array'],
    ['missing', undefined, 'encryption.keys must be an array'],
    ['empty', [], 'encryption.keys must hold at least one key'],
    ['of a key that is no object', [7], 'encryption.keys[0].id must be 1 to 64 letters, digits, "-" or "_"'],
    [
      'of a key without an id',
      [{ secret: SECRET }],
      'encryption.keys[0].id must be 1 to 64 letters, digits, "-" or "_"',
    ],
    [
      'of an id with a dot',
      [{ id: 'a.b', secret: SECRET }],
      'encryption.keys[0].id must be 1 to 64 letters, digits, "-" or "_"',
    ],
    [
      'of an id too long',
      [{ id: 'a'.repeat(65), secret: SECRET }],
      'encryption.keys[0].id must be 1 to 64 letters, digits, "-" or "_"',
    ],
    [
      'of an id with a line break',
      [{ id: 'a\n', secret: SECRET }],
      'encryption.keys[0].id must be 1 to 64 letters, digits, "-" or "_"',
    ],
    [
      'of one id for two keys',
      [
        { id: 'k', secret: SECRET },
        { id: 'k', secret: Buffer.alloc(32, 2).toString('base64') },
      ],
      'encryption.keys[1].id is used twice: give each key an id of its own',
    ],
    [
      'of one id for a key and the legacy key',
      [
        { id: 'k', secret: SECRET },
        { id: 'k', legacyFernetSecret: 'x' },
      ],
      'encryption.keys[1].id is used twice: give each key an id of its own',
    ],
    [
      'of a legacy key first',
      [
        { id: 'legacy', legacyFernetSecret: 'x' },
        { id: 'k', secret: SECRET },
      ],
      'encryption.keys[0] cannot be a legacyFernetSecret, because the first key seals: put a key with a secret first',
    ],
    [
      'of two legacy keys',
      [
        { id: 'k', secret: SECRET },
        { id: 'l1', legacyFernetSecret: 'x' },
        { id: 'l2', legacyFernetSecret: 'y' },
      ],
      'encryption.keys can hold one legacyFernetSecret only, because Fernet texts do not name their key',
    ],
    [
      'of an empty legacy secret',
      [
        { id: 'k', secret: SECRET },
        { id: 'l', legacyFernetSecret: '' },
      ],
      'encryption.keys[1].legacyFernetSecret should not be empty',
    ],
    [
      'of a key of both kinds',
      [
        { id: 'k', secret: SECRET },
        { id: 'l', secret: SECRET, legacyFernetSecret: 'x' },
      ],
      'encryption.keys[1].secret is not an option',
    ],
    [
      'of a key with an unknown field',
      [{ id: 'k', secret: SECRET, kid: 'x' }],
      'encryption.keys[0].kid is not an option',
    ],
  ])('names what is wrong with the keys: %s', (_, keys, fault) => {
    expect(faults({ encryption: { keys } })).toContain(fault);
  });

  it.each([
    ['31 bytes', Buffer.alloc(31, 1).toString('base64')],
    ['33 bytes', Buffer.alloc(33, 1).toString('base64')],
    ['hex', Buffer.alloc(32, 1).toString('hex')],
    ['base64url', Buffer.alloc(32, 255).toString('base64url')],
    ['no padding', SECRET.slice(0, -1)],
    ['spare bits that are set', `${SECRET.slice(0, -2)}F=`],
    ['a line break', `${SECRET}\n`],
    ['a passphrase', 'correct horse battery staple correct horse!!'],
    ['an empty text', ''],
    ['bytes', Buffer.alloc(32, 1)],
    ['nothing', undefined],
  ])('refuses a secret that is not 32 bytes in base64: %s', (_, secret) => {
    expect(faults({ encryption: { keys: [{ id: 'k', secret }] } })).toEqual([
      'encryption.keys[0].secret must be 32 bytes in base64; make one with: openssl rand -base64 32',
    ]);
  });

  it('accepts any 32 bytes as a secret', () => {
    for (const byte of [0, 1, 127, 250, 255]) {
      const secret = Buffer.alloc(32, byte).toString('base64');
      expect(() => readTokensOptions({ ...MINIMAL, encryption: { keys: [{ id: 'k', secret }] } })).not.toThrow();
    }
  });

  it('takes __proto__ for an unknown option, and keeps the rules of the other options', () => {
    const named = JSON.parse('{ "__proto__": { "polluted": true } }') as object;
    const keys = [{ ...named, id: 'k', secret: SECRET, kid: 'x' }];
    const found = faults({ ...named, encryption: { ...named, keys }, refresh: { ...named, leewaySeconds: -1 } });
    expect(found).toEqual([
      '__proto__ is not an option',
      'encryption.__proto__ is not an option',
      'encryption.keys[0].__proto__ is not an option',
      'encryption.keys[0].kid is not an option',
      'refresh.__proto__ is not an option',
      'refresh.leewaySeconds must not be less than 0',
    ]);
  });

  it('names unknown options of the encryption', () => {
    expect(faults({ encryption: { ...MINIMAL.encryption, key: 'x' } })).toEqual(['encryption.key is not an option']);
  });
});

const URL_RULE = 'must be an absolute http or https URL without credentials and fragment';
const BASE_URL_RULE = 'must be an absolute http or https URL without credentials, query and fragment';
const TOKEN_ENDPOINT = 'https://idp.example/token';

const SINGLE_USE = {
  exchangeTimeoutMs: 15_000,
  leaseMs: 35_000,
  replayWindowMs: 0,
  takeoverDelayMs: 3500,
  oldAccessTokenSurvives: false,
};
const REPLAYABLE = {
  exchangeTimeoutMs: 10_000,
  leaseMs: 12_000,
  takeoverDelayMs: 3500,
  oldAccessTokenSurvives: true,
  refreshEndsAccessToken: false,
};

describe('The entry of an identity provider', () => {
  it.each([
    ['github', {}, 'https://github.com/login/oauth/access_token'],
    ['github', { baseUrl: 'https://ghe.example/' }, 'https://ghe.example/login/oauth/access_token'],
    ['gitlab', {}, 'https://gitlab.com/oauth/token'],
    ['gitlab', { baseUrl: 'https://example.com/git/' }, 'https://example.com/git/oauth/token'],
    ['bitbucket', {}, 'https://bitbucket.org/site/oauth2/access_token'],
    ['bitbucket_data_center', { baseUrl: 'https://bb.example/x' }, 'https://bb.example/x/rest/oauth2/latest/token'],
    ['azure_devops', {}, 'https://login.microsoftonline.com/organizations/oauth2/v2.0/token'],
    ['azure_devops', { tenant: 'a b' }, 'https://login.microsoftonline.com/a%20b/oauth2/v2.0/token'],
    ['azure_devops', { authority: 'http://127.0.0.1:1' }, 'http://127.0.0.1:1/organizations/oauth2/v2.0/token'],
    ['acme', { tokenEndpoint: TOKEN_ENDPOINT }, TOKEN_ENDPOINT],
    ...['github', 'gitlab', 'bitbucket', 'azure_devops'].map(
      (idp) => [idp, { tokenEndpoint: TOKEN_ENDPOINT }, TOKEN_ENDPOINT] as const,
    ),
  ])('of %s with %j has its token endpoint', (idp, entry, tokenEndpoint) => {
    expect(JSON.parse(JSON.stringify(providerOf({ ...CLIENT, ...entry }, idp)))).toMatchObject({ tokenEndpoint });
  });

  it('may have another name than the kind that it names', () => {
    const ghe = { ...CLIENT, kind: 'github', baseUrl: 'https://ghe.example', policy: { leewaySeconds: 60 } };
    const identityProviders = { github: CLIENT, 'github-enterprise': ghe, acme: { ...CLIENT, kind: 'gitlab' } };
    const { identityProviders: providers } = readTokensOptions({ ...MINIMAL, identityProviders });
    expect(JSON.parse(JSON.stringify(Object.fromEntries(providers)))).toMatchObject({
      github: { tokenEndpoint: 'https://github.com/login/oauth/access_token' },
      'github-enterprise': {
        tokenEndpoint: 'https://ghe.example/login/oauth/access_token',
        policy: { refreshEndsAccessToken: true, leewaySeconds: 60 },
      },
      acme: { tokenEndpoint: 'https://gitlab.com/oauth/token' },
    });
    expect(providers.get('acme')?.assumedLifetimeSeconds).toBe(7200);
  });

  it('needs a client secret only if it sends one', () => {
    const entry = { clientId: 'client', tokenEndpoint: TOKEN_ENDPOINT };
    expect(providerOf({ ...entry, clientAuthentication: 'none' }, 'acme')).toBeDefined();
    const clientAssertion = { key: EC_KEY, algorithm: 'ES256' };
    const clientAuthentication = 'private_key_jwt';
    expect(providerOf({ ...entry, clientAuthentication, clientAssertion }, 'acme')).toBeDefined();
    // GitHub revokes tokens and answers questions about them only with the secret.
    expect(providerOf({ ...BY_KEY, clientAssertion })).not.toHaveProperty('revoke', expect.anything());
  });

  it.each([
    ['github', { ...SINGLE_USE, refreshEndsAccessToken: true }],
    ['gitlab', { ...SINGLE_USE, refreshEndsAccessToken: true }],
    ['bitbucket', { ...REPLAYABLE, replayWindowMs: 600_000 }],
    ['bitbucket_data_center', { ...SINGLE_USE, refreshEndsAccessToken: true }],
    ['azure_devops', { ...REPLAYABLE, replayWindowMs: 86_400_000 }],
    ['acme', { ...SINGLE_USE, refreshEndsAccessToken: false }],
  ])('of %s has the policy that fits its refresh tokens', (idp, policy) => {
    const where =
      idp === 'bitbucket_data_center' ? { baseUrl: 'https://bb.example' } : { tokenEndpoint: TOKEN_ENDPOINT };
    expect(providerOf({ ...CLIENT, ...where }, idp)?.policy).toMatchObject(policy);
  });

  it('takes a policy field by field', () => {
    const policy = { leewaySeconds: 60, exchangeTimeoutMs: 5000 };
    expect(providerOf({ ...CLIENT, policy })?.policy).toEqual({
      ...completePolicy(),
      refreshEndsAccessToken: true,
      ...policy,
    });
  });

  it.each([
    ['github', { oldAccessTokenSurvives: true }],
    ['bitbucket', { refreshEndsAccessToken: true }],
  ])('of %s is taken with %j, though the module knows otherwise', (idp, policy) => {
    expect(providerOf({ ...CLIENT, policy }, idp)?.policy).toMatchObject({
      oldAccessTokenSurvives: false,
      refreshEndsAccessToken: false,
      ...policy,
    });
  });

  it.each([...Object.values(ProviderType), 'acme'])('of %s may say where access tokens are asked about', (idp) => {
    const where = { baseUrl: 'https://b.example', tokenEndpoint: TOKEN_ENDPOINT };
    const entry = { ...CLIENT, ...(idp === 'bitbucket_data_center' ? where : { tokenEndpoint: TOKEN_ENDPOINT }) };
    expect(typeof providerOf(entry, idp)?.isAccessTokenAlive).toBe('undefined');
    for (const field of ['introspectionEndpoint', 'userinfoEndpoint']) {
      const asking = providerOf({ ...entry, [field]: 'https://idp.example/x?y=z' }, idp);
      expect(typeof asking?.isAccessTokenAlive).toBe('function');
      expect(typeof providerOf({ ...entry, [field]: null }, idp)?.isAccessTokenAlive).toBe('undefined');
    }
  });

  it('has the client that its tokens are issued to, also where that does not authenticate', () => {
    const entry = { ...CLIENT, tokenEndpoint: TOKEN_ENDPOINT };
    expect(providerOf(entry)?.clientId).toBe('id');
    expect(providerOf({ ...entry, clientAuthentication: 'none' }, 'acme')?.clientId).toBe('id');
  });

  it('may be an instance of the host, also under a known name', () => {
    for (const idp of ['acme', 'github']) {
      const provider = ownProvider();
      expect(providerOf(provider, idp)).toBe(provider);
    }
  });

  it('may be an instance of the host that names its client and can be asked, or one that does neither', () => {
    class Own {
      readonly policy = completePolicy({ refreshEndsAccessToken: true });
      readonly refresh = jest.fn();
      get clientId(): string {
        return 'client';
      }
      isAccessTokenAlive(): Promise<string> {
        return Promise.resolve('alive');
      }
    }
    const older = { ...completePolicy(), refreshEndsAccessToken: undefined };
    const silent = { ...ownProvider(older), clientId: undefined, isAccessTokenAlive: undefined };
    for (const provider of [new Own(), silent]) expect(providerOf(provider, 'acme')).toBe(provider);
  });

  it.each<[string, string, object | null, string[]]>([
    [
      'without credentials',
      'github',
      {},
      [
        'clientId should not be empty',
        'clientId must be a string',
        'clientSecret should not be empty',
        'clientSecret must be a string',
      ],
    ],
    ['with an empty secret', 'gitlab', { ...CLIENT, clientSecret: '' }, ['clientSecret should not be empty']],
    ['with a misspelt field', 'bitbucket', { ...CLIENT, baseURL: 'https://x.example' }, ['baseURL is not an option']],
    ['with a field of another provider', 'github', { ...CLIENT, scope: 'repo' }, ['scope is not an option']],
    ['without a base URL', 'bitbucket_data_center', CLIENT, [`baseUrl ${BASE_URL_RULE}`]],
    ['without a token endpoint', 'acme', CLIENT, [`tokenEndpoint ${URL_RULE}`]],
    [
      'with an unknown client authentication',
      'acme',
      { ...CLIENT, tokenEndpoint: TOKEN_ENDPOINT, clientAuthentication: 'tls_client_auth' },
      [
        'clientAuthentication must be one of the following values: client_secret_basic, ' +
          'client_secret_basic_unencoded, client_secret_post, client_secret_jwt, private_key_jwt, none',
      ],
    ],
    ...[{}, { clientAssertion: {} }, { clientAssertion: { key: 'x' } }].map(
      (entry): [string, string, object, string[]] => [
        `with a private key but no algorithm: ${JSON.stringify(entry)}`,
        'azure_devops',
        { clientId: 'client', clientAuthentication: 'private_key_jwt', ...entry },
        ['clientAssertion.algorithm must be one of: ES256, RS256, PS256'],
      ],
    ),
    ...([undefined, 7, 'no PEM', { kty: 'EC' }, null] as const).map((key): [string, string, object, string[]] => [
      `with ${JSON.stringify(key)} for a private key`,
      'azure_devops',
      { ...BY_KEY, clientAssertion: { key, algorithm: 'ES256' } },
      ['clientAssertion.key must be a private key that is not encrypted: a PEM text, or a JWK as an object'],
    ]),
    [
      'with a key of another algorithm',
      'azure_devops',
      { ...BY_KEY, clientAssertion: { key: EC_KEY, algorithm: 'PS256' } },
      ['clientAssertion.key must be a key of the type "rsa" for PS256'],
    ],
    [
      'with an RSA key for ES256',
      'azure_devops',
      { ...BY_KEY, clientAssertion: { key: SHORT_RSA_KEY, algorithm: 'ES256' } },
      ['clientAssertion.key must be a key of the type "ec" for ES256'],
    ],
    [
      'with a short RSA key',
      'azure_devops',
      { ...BY_KEY, clientAssertion: { key: SHORT_RSA_KEY, algorithm: 'RS256' } },
      ['clientAssertion.key must have at least 2048 bits for RS256'],
    ],
    [
      'with a key of another curve',
      'azure_devops',
      { ...BY_KEY, clientAssertion: { key: P384_KEY, algorithm: 'ES256' } },
      ['clientAssertion.key must have the curve P-256 for ES256'],
    ],
    [
      'with a client assertion of wrong texts',
      'azure_devops',
      { ...BY_KEY, clientAssertion: { key: EC_KEY, algorithm: 'ES256', keyId: '', audience: 7, kid: 'x' } },
      [
        'clientAssertion.kid is not an option',
        'clientAssertion.keyId must be a non-empty string',
        'clientAssertion.audience must be a non-empty string',
      ],
    ],
    ...['x', 7, []].map((clientAssertion): [string, string, object, string[]] => [
      `with ${JSON.stringify(clientAssertion)} for a client assertion`,
      'github',
      { ...CLIENT, clientAuthentication: 'client_secret_jwt', clientAssertion },
      ['clientAssertion must be an object'],
    ]),
    [
      'with a key beside a shared secret',
      'github',
      { ...CLIENT, clientAuthentication: 'client_secret_jwt', clientAssertion: { key: EC_KEY, algorithm: 'ES256' } },
      ['clientAssertion.key and clientAssertion.algorithm are only for clientAuthentication private_key_jwt'],
    ],
    [
      'with a client assertion that is not sent',
      'github',
      { ...CLIENT, clientAssertion: { keyId: 'x' } },
      ['clientAssertion is only for clientAuthentication client_secret_jwt and private_key_jwt'],
    ],
    [
      'without a secret for its JWT',
      'github',
      { clientId: 'client', clientAuthentication: 'client_secret_jwt' },
      ['clientSecret should not be empty', 'clientSecret must be a string'],
    ],
    ...['GitHub', 'oauth2', '', 7, {}, 'toString'].map((kind): [string, string, object, string[]] => [
      `of the unknown kind ${JSON.stringify(kind)}`,
      'acme',
      { ...CLIENT, kind },
      [
        'kind must be one of github, gitlab, bitbucket, bitbucket_data_center, azure_devops, or be left out for ' +
          'another OAuth 2.0 provider',
      ],
    ]),
    [
      'of a kind whose options it lacks',
      'acme',
      { ...CLIENT, kind: 'bitbucket_data_center', tokenEndpoint: TOKEN_ENDPOINT },
      [`baseUrl ${BASE_URL_RULE}`],
    ],
    ...[
      'invalid_grant',
      ['invalid grant'],
      [7],
      ['http_200'],
      ['http_40'],
      ['http_429'],
      ['http_502'],
      ['invalid_client'],
      [''],
    ].map((terminalErrorCodes): [string, string, object, string[]] => [
      `with ${JSON.stringify(terminalErrorCodes)} for terminal errors`,
      'gitlab',
      { ...CLIENT, terminalErrorCodes },
      [
        "terminalErrorCodes must be a list of error codes such as 'invalid_request', and of statuses from http_400 on. " +
          'http_408, http_429, http_502, http_503, http_504, server_error, temporarily_unavailable, slow_down and ' +
          'invalid_client are not allowed, because they say nothing about the grant',
      ],
    ]),
    ...['repo', ['repo'], { repo: 'public_repo' }, { repo: [7] }, { repo: ['a b'] }].map(
      (impliedScopes): [string, string, object, string[]] => [
        `with ${JSON.stringify(impliedScopes)} for scopes that others contain`,
        'github',
        { ...CLIENT, impliedScopes },
        ["impliedScopes must have a list of scopes for each scope, such as { repo: ['public_repo'] }"],
      ],
    ),
    ...['audience=x', ['x'], { audience: 7 }, { grant_type: 'x' }, { client_secret: 'x' }, new Map()].map(
      (refreshParameters): [string, string, object, string[]] => [
        `with ${JSON.stringify(refreshParameters)} for further parameters`,
        'github',
        { ...CLIENT, refreshParameters },
        [
          'refreshParameters must be an object of texts, without grant_type, refresh_token, client_id, client_secret, ' +
            'client_assertion, client_assertion_type, which the module sets',
        ],
      ],
    ),
    [
      'with an assumed lifetime of no time',
      'github',
      { ...CLIENT, assumedLifetimeSeconds: 0 },
      ['assumedLifetimeSeconds must not be less than 1'],
    ],
    [
      'with an assumed lifetime in words',
      'github',
      { ...CLIENT, assumedLifetimeSeconds: '2h' },
      [
        'assumedLifetimeSeconds must not be greater than 315360000',
        'assumedLifetimeSeconds must not be less than 1',
        'assumedLifetimeSeconds must be an integer number',
      ],
    ],
    ...['7200', 0, -1, null].map((assumedLifetimeSeconds): [string, string, object, string[]] => [
      `of the host with ${JSON.stringify(assumedLifetimeSeconds)} for a lifetime`,
      'acme',
      { ...ownProvider(), assumedLifetimeSeconds },
      ['assumedLifetimeSeconds must be a number of seconds from 1 on, or be left out'],
    ]),
    [
      'with an unknown format of requests',
      'github',
      { ...CLIENT, requestFormat: 'xml' },
      ['requestFormat must be one of the following values: form, json'],
    ],
    [
      'with a readAnswer that is no function',
      'github',
      { ...CLIENT, readAnswer: 'data' },
      ['readAnswer must be a function that is not async'],
    ],
    [
      'with an async readAnswer',
      'github',
      // eslint-disable-next-line @typescript-eslint/require-await -- a host may write this
      { ...CLIENT, readAnswer: async (fields: object) => fields },
      ['readAnswer must be a function that is not async'],
    ],
    [
      'with empty texts',
      'azure_devops',
      { ...CLIENT, tenant: '', scope: '' },
      ['tenant should not be empty', 'scope should not be empty'],
    ],
    ['with a policy that is none', 'github', { ...CLIENT, policy: 'fast' }, ['policy must be an object']],
    ['with a list as policy', 'github', { ...CLIENT, policy: [] }, ['policy must be an object']],
    [
      'with a wrong field in the policy',
      'github',
      { ...CLIENT, policy: { leaseMs: 2099, timeout: 5 } },
      ['policy.timeout is not an option', 'policy.leaseMs must not be less than 2100'],
    ],
    [
      'with a lease too short for its exchange',
      'github',
      { ...CLIENT, policy: { leaseMs: 16_999 } },
      [
        'policy: leaseMs (16999) must be at least exchangeTimeoutMs (15000) + 2000, ' +
          'because another process can repeat an exchange that outlives its lease',
      ],
    ],
    [
      'with an exchange too long for the lease that its provider has by default',
      'bitbucket',
      { ...CLIENT, policy: { exchangeTimeoutMs: 10_001 } },
      [
        'policy: leaseMs (12000) must be at least exchangeTimeoutMs (10001) + 2000, ' +
          'because another process can repeat an exchange that outlives its lease',
      ],
    ],
    [
      'of the host without a policy',
      'acme',
      ownProvider(null),
      ['policy: it is missing: make one with completePolicy()'],
    ],
    ...['', null, 7, ['client']].map((clientId): [string, string, object, string[]] => [
      `of the host with ${JSON.stringify(clientId)} as its client`,
      'acme',
      { ...ownProvider(), clientId },
      ['clientId must be a non-empty string, or be left out'],
    ]),
    ...['alive', null, true, {}].map((isAccessTokenAlive): [string, string, object, string[]] => [
      `of the host that has ${JSON.stringify(isAccessTokenAlive)} where it is asked about a token`,
      'acme',
      { ...ownProvider(), isAccessTokenAlive },
      ['isAccessTokenAlive must be a function, or be left out'],
    ]),
    [
      'of the host with everything wrong beside its refresh',
      'acme',
      { ...ownProvider(null), clientId: '', isAccessTokenAlive: 'alive' },
      [
        'clientId must be a non-empty string, or be left out',
        'isAccessTokenAlive must be a function, or be left out',
        'policy: it is missing: make one with completePolicy()',
      ],
    ],
    ...[CLIENT, ownProvider()].map((entry): [string, string, object, string[]] => [
      `${'refresh' in entry ? 'of the host ' : ''}with an old access token that survives and ends`,
      'github',
      { ...entry, policy: { ...completePolicy(), oldAccessTokenSurvives: true, refreshEndsAccessToken: true } },
      ['policy: oldAccessTokenSurvives and refreshEndsAccessToken contradict each other: set one of them to false'],
    ]),
    [
      'of the host with a policy that says yes in words',
      'acme',
      ownProvider({ ...completePolicy(), refreshEndsAccessToken: 'yes' }),
      ['policy: oldAccessTokenSurvives and refreshEndsAccessToken must be boolean values'],
    ],
    [
      'of the host with a lease too short',
      'acme',
      ownProvider({ ...completePolicy(), leaseMs: 15_000 }),
      [
        'policy: leaseMs (15000) must be at least exchangeTimeoutMs (15000) + 2000, ' +
          'because another process can repeat an exchange that outlives its lease',
      ],
    ],
  ])('is faulty %s', (_, idp, entry, expected) => {
    const found = faults({ identityProviders: { [idp]: entry } });
    const path = `identityProviders.${idp}.`;
    expect(found.toSorted()).toEqual(expected.map((fault) => `${path}${fault}`).toSorted());
  });

  it.each([null, 7, 'x', [], true])('is faulty when it is %j', (entry) => {
    expect(faults({ identityProviders: { acme: entry } })).toEqual(
      expect.arrayContaining([
        `identityProviders.acme.tokenEndpoint ${URL_RULE}`,
        'identityProviders.acme.clientId must be a string',
        'identityProviders.acme.clientSecret must be a string',
      ]),
    );
  });

  it.each([
    'idp.example/token',
    '//idp.example/token',
    '/token',
    'ftp://idp.example/token',
    'javascript:alert(1)',
    'https://user:password@idp.example/token',
    'https://user@idp.example/token',
    'https://idp.example/token#a',
    'https://idp.example:99999/token',
    'https://idp.example/to ken',
    ' https://idp.example/token',
    'https://idp.example/token\n',
    'https://1.2.3.4.5/token',
    'http://',
    '',
    7,
    {},
  ])('refuses %j as a URL', (url) => {
    expect(faults({ identityProviders: { acme: { ...CLIENT, tokenEndpoint: url } } })).toEqual([
      `identityProviders.acme.tokenEndpoint ${URL_RULE}`,
    ]);
    for (const [idp, field, rule] of URLS) {
      expect(
        faults({ identityProviders: { [idp]: { baseUrl: 'https://b.example', ...CLIENT, [field]: url } } }),
      ).toContain(`identityProviders.${idp}.${field} ${rule}`);
    }
  });

  it('takes a query in an endpoint, not in a base URL, which paths are appended to', () => {
    for (const [idp, field, rule] of URLS) {
      const entry = { baseUrl: 'https://b.example', ...CLIENT, [field]: 'https://idp.example/token?a=b' };
      // The empty clientId is a fault, so that the error always has a list of faults.
      const found = faults({ identityProviders: { [idp]: { ...entry, clientId: '' } } });
      const fault = `identityProviders.${idp}.${field} ${rule}`;
      expect({ idp, field, isRefused: found.includes(fault) }).toEqual({
        idp,
        field,
        isRefused: rule === BASE_URL_RULE,
      });
    }
  });

  it.each(['', ' ', 'x'.repeat(256)])('is refused under the name %j, under which nothing can be stored', (name) => {
    expect(faults({ identityProviders: { [name]: { ...CLIENT, tokenEndpoint: 'https://idp.example' } } })).toEqual([
      `identityProviders.${name} must have a name of 1 to 255 characters`,
    ]);
  });

  it.each([
    'http://localhost:3000/token',
    'http://127.0.0.1:3000/token',
    'http://[::1]:3000/token',
    'https://keycloak/realms/x/token',
    'http://my_service:8080/token',
    'https://idp.example/a/b%20c/token/',
    'HTTPS://IDP.EXAMPLE/token',
  ])('accepts %j as a URL', (url) => {
    expect(providerOf({ ...CLIENT, tokenEndpoint: url, revocationEndpoint: url }, 'acme')).toBeDefined();
  });
});

/** Every URL of the known providers. */
const URLS = [
  ['github', 'baseUrl', BASE_URL_RULE],
  ['github', 'apiBaseUrl', BASE_URL_RULE],
  ['github', 'tokenEndpoint', URL_RULE],
  ['gitlab', 'baseUrl', BASE_URL_RULE],
  ['gitlab', 'redirectUri', URL_RULE],
  ['gitlab', 'revocationEndpoint', URL_RULE],
  ['bitbucket', 'baseUrl', BASE_URL_RULE],
  ['bitbucket_data_center', 'baseUrl', BASE_URL_RULE],
  ['azure_devops', 'authority', BASE_URL_RULE],
  ...[...Object.values(ProviderType), 'acme'].flatMap((idp) =>
    (['introspectionEndpoint', 'userinfoEndpoint'] as const).map((field) => [idp, field, URL_RULE] as const),
  ),
] as const;

describe('A wholly wrong set of options', () => {
  const wrong = {
    encryption: {
      keys: [
        { id: 'legacy', legacyFernetSecret: 's3cret-legacy' },
        { id: 'k 1', secret: 's3cret-short' },
        { id: 'k', secret: SECRET, extra: 's3cret-extra' },
        { id: 'k', secret: 's3cret-again' },
      ],
      salt: 's3cret-salt',
    },
    identityProviders: {
      github: { clientId: '', clientSecret: ['s3cret-list'], baseUrl: 's3cret-url' },
      gitlab: { ...CLIENT, redirectUri: 'https://s3cret:s3cret@x.example', token: 's3cret-token' },
      bitbucket_data_center: { clientId: 's3cret-id', clientSecret: 's3cret' },
      acme: { clientSecret: 's3cret', clientAuthentication: 's3cret-style', policy: { leaseMs: 's3cret-lease' } },
      own: ownProvider(null),
    },
    refresh: { leewaySeconds: 's3cret-leeway', retries: 's3cret-retries' },
    preparedStatements: 's3cret-yes',
    connectionTimeoutMs: 's3cret-soon',
    hostQueryRunner: 's3cret-runner',
    userId: 's3cret-user',
    s3cretless: 's3cret-top',
  };

  it('gives one error that names every fault', () => {
    const found = faults(wrong, {});
    const named = new Set(found.map((fault) => /^[^ ]+/.exec(fault)?.[0].replace(/:$/, '')));
    expect([...named].toSorted()).toEqual([
      'connectionTimeoutMs',
      'encryption.keys[0]',
      'encryption.keys[1].id',
      'encryption.keys[1].secret',
      'encryption.keys[2].extra',
      'encryption.keys[3].id',
      'encryption.keys[3].secret',
      'encryption.salt',
      'hostQueryRunner',
      'identityProviders.acme.clientAuthentication',
      'identityProviders.acme.clientId',
      'identityProviders.acme.policy.leaseMs',
      'identityProviders.acme.tokenEndpoint',
      'identityProviders.bitbucket_data_center.baseUrl',
      'identityProviders.github.baseUrl',
      'identityProviders.github.clientId',
      'identityProviders.github.clientSecret',
      'identityProviders.gitlab.redirectUri',
      'identityProviders.gitlab.token',
      'identityProviders.own.policy',
      'preparedStatements',
      'refresh.leewaySeconds',
      'refresh.retries',
      's3cretless',
      'userId',
    ]);
  });

  it('repeats no secret and no value', () => {
    const error = configurationError(wrong);
    for (const text of [error.message, error.stack, JSON.stringify(error)]) {
      expect(text).not.toMatch(/s3cret(?!less)/);
      expect(text).not.toContain(SECRET);
    }
  });
});
