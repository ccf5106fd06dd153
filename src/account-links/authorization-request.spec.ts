import { afterEach, describe, expect, it, jest } from '@jest/globals';

import type { CodeFlow } from '../identity-providers/code-flow.js';
import { OAuth2Provider, type OAuth2ProviderProfile } from '../identity-providers/oauth2.provider.js';
import type { ServerMetadata } from '../identity-providers/server-metadata.js';
import { LinkRefusedError, ProviderUnavailableError } from '../link.errors.js';
import { ProviderMisconfiguredError, TokensConfigurationError } from '../tokens.errors.js';
import { authorizationUrl } from './authorization-request.js';

const ISSUER = 'https://idp.example';
const PAR = `${ISSUER}/par`;
const DEMAND = {
  subject: { keycloakUserId: 'ada', idp: 'acme' },
  state: 'STATE',
  codeVerifier: 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
  scopes: ['openid', 'read'],
};

afterEach(() => {
  jest.restoreAllMocks();
});

function flowWith(profile: Partial<OAuth2ProviderProfile> = {}): CodeFlow {
  const { codeFlow } = new OAuth2Provider({
    clientId: 'client',
    clientSecret: 'secret-of-client',
    clientAuthentication: 'client_secret_post',
    issuer: ISSUER,
    redirectUri: 'https://host.example/callback?of=acme',
    ...profile,
  });
  if (!codeFlow) throw new Error('The provider has no code flow.');
  return codeFlow;
}

function urlOf(server: Partial<ServerMetadata> = {}, flow = flowWith(), demand = DEMAND): Promise<URL> {
  return authorizationUrl(flow, { issuer: ISSUER, authorization_endpoint: `${ISSUER}/authorize`, ...server }, demand);
}

function answer(status: number, body: string | null) {
  const headers = { location: 'https://evil.example/par', 'retry-after': '9' };
  return jest.spyOn(globalThis, 'fetch').mockResolvedValue(new Response(body, { status, headers }));
}

describe('The URL of an authorization request', () => {
  it('has state, nonce and the code challenge, and no secret', async () => {
    const { href, searchParams } = await urlOf();
    expect(Object.fromEntries(searchParams)).toEqual({
      response_type: 'code',
      client_id: 'client',
      redirect_uri: 'https://host.example/callback?of=acme',
      scope: 'openid read',
      state: 'STATE',
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
      nonce: expect.stringMatching(/^[\w-]{43}$/),
    });
    for (const secret of [DEMAND.codeVerifier, 'secret-of-client']) expect(href).not.toContain(secret);
  });

  it('has no nonce without an ID token, and no scope if none is asked for', async () => {
    const plain = flowWith({ issuer: undefined, tokenEndpoint: `${ISSUER}/token` });
    expect((await urlOf({}, plain)).searchParams.has('nonce')).toBe(false);
    expect((await urlOf({}, flowWith(), { ...DEMAND, scopes: ['read'] })).searchParams.has('nonce')).toBe(false);
    expect((await urlOf({}, plain, { ...DEMAND, scopes: [] })).searchParams.has('scope')).toBe(false);
  });

  it('keeps the query of the endpoint, but none of the parameters that the module sets', async () => {
    const query = 'tenant=1&state=fixed&state=again&redirect_uri=https://evil.example&code_challenge_method=plain';
    const { searchParams } = await urlOf({ authorization_endpoint: `${ISSUER}/authorize?${query}` });
    expect(searchParams.get('tenant')).toBe('1');
    expect(searchParams.getAll('state')).toEqual(['STATE']);
    expect(searchParams.getAll('redirect_uri')).toEqual(['https://host.example/callback?of=acme']);
    expect(searchParams.getAll('code_challenge_method')).toEqual(['S256']);
  });

  it('needs the endpoint', async () => {
    const failure = urlOf({ authorization_endpoint: undefined });
    await expect(failure).rejects.toThrow(TokensConfigurationError);
    await expect(failure).rejects.toThrow(/Set identityProviders\.acme\.authorizationEndpoint/);
  });
});

describe('A pushed authorization request', () => {
  const pushing = { pushed_authorization_request_endpoint: PAR };

  it('has everything, and the URL only names it', async () => {
    const fetched = answer(201, '{"request_uri":"urn:request:1","expires_in":60}');
    const { searchParams } = await urlOf(pushing);
    expect(Object.fromEntries(searchParams)).toEqual({ client_id: 'client', request_uri: 'urn:request:1' });
    expect(fetched).toHaveBeenCalledTimes(1);
    expect(fetched.mock.calls[0]).toMatchObject([PAR, { method: 'POST', redirect: 'manual' }]);
  });

  it.each([
    [400, '{"error":"invalid_request","error_description":"<b>"}', 'invalid_request'],
    [401, '{"error":"invalid_client"}', 'invalid_client'],
    [403, '<html></html>', 'http_403'],
    [302, null, 'http_302'],
    [307, null, 'http_307'],
  ])('that gets %i %s is a fault of the options', async (status, body, providerCode) => {
    const fetched = answer(status, body);
    const failure = urlOf(pushing);
    await expect(failure).rejects.toThrow(ProviderMisconfiguredError);
    await expect(failure).rejects.toMatchObject({ providerCode });
    await expect(failure).rejects.toThrow(/^[^<]*$/);
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it('with scopes that the server does not have is refused, because the caller chooses scopes', async () => {
    answer(400, '{"error":"invalid_scope"}');
    const failure = urlOf(pushing);
    await expect(failure).rejects.toThrow(LinkRefusedError);
    await expect(failure).rejects.toMatchObject({ reason: 'provider_error', providerCode: 'invalid_scope' });
  });

  it.each([
    [503, null, 'http_503', 9000],
    [429, '{"error":"slow_down"}', 'http_429', 9000],
    [408, null, 'http_408', 9000],
    [201, '<html></html>', 'UNREADABLE_ANSWER', 1000],
    [201, '{"expires_in":60}', 'UNREADABLE_ANSWER', 1000],
    [201, '{"request_uri":1,"expires_in":60}', 'UNREADABLE_ANSWER', 1000],
    [200, '{"request_uri":"urn:request:1","expires_in":60}', 'UNREADABLE_ANSWER', 1000],
    [204, null, 'UNREADABLE_ANSWER', 1000],
  ])('that gets %i %s has no answer', async (status, body, code, retryAfterMs) => {
    answer(status, body);
    const failure = urlOf(pushing);
    await expect(failure).rejects.toThrow(ProviderUnavailableError);
    await expect(failure).rejects.toMatchObject({ retryAfterMs });
    await expect(failure).rejects.toThrow(new RegExp(`\\(${code}\\)`));
  });

  it('whose client assertion cannot be made is not sent', async () => {
    const fetched = answer(201, '{}');
    const failing = {
      ...flowWith(),
      authenticate: () => {
        throw new Error('secret-of-client');
      },
    };
    const failure = urlOf(pushing, failing);
    await expect(failure).rejects.toMatchObject({ providerCode: 'CLIENT_ASSERTION_FAILED' });
    await expect(failure).rejects.not.toHaveProperty('cause');
    expect(fetched).not.toHaveBeenCalled();
  });
});
