import { afterEach, describe, expect, it, jest } from '@jest/globals';

import { DiscoveredServer, DiscoveryError } from './server-metadata.js';

const ISSUER = 'https://idp.example/tenant';
const OPENID = `${ISSUER}/.well-known/openid-configuration`;
const OAUTH = 'https://idp.example/.well-known/oauth-authorization-server/tenant';
const METADATA = {
  issuer: ISSUER,
  authorization_endpoint: `${ISSUER}/authorize`,
  token_endpoint: `${ISSUER}/token`,
  jwks_uri: 'https://keys.example/jwks',
};
const HOUR = 3_600_000;

afterEach(() => {
  jest.restoreAllMocks();
});

/** What `fetch` answers at a URL: a status, a body, or an object as JSON. */
type Answer = number | string | object;

/** Makes `fetch` answer by URL. Every other URL is unknown. */
function network(answers: Record<string, Answer>) {
  return jest.spyOn(globalThis, 'fetch').mockImplementation((url) => {
    const answer = answers[url as string] ?? 404;
    if (typeof answer !== 'number') {
      return Promise.resolve(new Response(typeof answer === 'string' ? answer : JSON.stringify(answer)));
    }
    const headers = { location: 'https://evil.example/', 'retry-after': '7' };
    return Promise.resolve(new Response(null, { status: answer, headers }));
  });
}

async function failureOf(issuer = ISSUER): Promise<Pick<DiscoveryError, 'kind' | 'code' | 'retryAfterMs'>> {
  const error: unknown = await new DiscoveredServer(issuer).metadata().catch((failure: unknown) => failure);
  if (!(error instanceof DiscoveryError)) throw new Error(`Expected a DiscoveryError, got ${String(error)}.`);
  const { kind, code, retryAfterMs } = error;
  return { kind, code, retryAfterMs };
}

describe('The metadata of an issuer', () => {
  it('are those of OpenID Connect, without what the module does not use', async () => {
    const fetched = network({
      [OPENID]: {
        ...METADATA,
        registration_endpoint: 'https://idp.example/register',
        userinfo_endpoint: null,
        authorization_response_iss_parameter_supported: true,
        id_token_signing_alg_values_supported: ['ES256', 256],
      },
    });
    await expect(new DiscoveredServer(ISSUER).metadata()).resolves.toEqual({
      ...METADATA,
      authorization_response_iss_parameter_supported: true,
      id_token_signing_alg_values_supported: ['ES256'],
    });
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it.each([404, 400, 403])('are those of RFC 8414 if the server answers the other question with %i', async (status) => {
    network({ [OPENID]: status, [OAUTH]: METADATA });
    await expect(new DiscoveredServer(ISSUER).metadata()).resolves.toEqual({
      ...METADATA,
      authorization_response_iss_parameter_supported: false,
    });
  });

  it('say that the server names itself only if they have true', async () => {
    network({ [OPENID]: { ...METADATA, authorization_response_iss_parameter_supported: 'true' } });
    await expect(new DiscoveredServer(ISSUER).metadata()).resolves.toMatchObject({
      authorization_response_iss_parameter_supported: false,
    });
  });

  it.each([500, 502, 503, 429, 408])(
    'are not known now after a status %i, and no second question is put',
    async (status) => {
      const fetched = network({ [OPENID]: status, [OAUTH]: METADATA });
      await expect(failureOf()).resolves.toEqual({
        kind: 'unavailable',
        code: `http_${status}`,
        retryAfterMs: 7000,
      });
      expect(fetched).toHaveBeenCalledTimes(1);
    },
  );

  it.each([301, 302, 307, 308])('are not where a redirect with %i leads', async (status) => {
    const fetched = network({ [OPENID]: status });
    await expect(failureOf()).resolves.toMatchObject({ kind: 'configuration', code: `http_${status}` });
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it('are nowhere if the server knows neither document', async () => {
    network({});
    await expect(failureOf()).resolves.toMatchObject({ kind: 'configuration', code: 'http_404' });
  });

  it('are not known now if the connection breaks', async () => {
    jest.spyOn(globalThis, 'fetch').mockRejectedValue(new TypeError('fetch failed', { cause: { code: 'ECONNRESET' } }));
    await expect(failureOf()).resolves.toMatchObject({ kind: 'unavailable', code: 'ECONNRESET' });
  });

  it.each(['<html></html>', '[]', '"text"', 'null', '', { token_endpoint: `${ISSUER}/token` }, { issuer: 1 }])(
    'are not %j',
    async (body) => {
      network({ [OPENID]: body });
      await expect(failureOf()).resolves.toMatchObject({ kind: 'unavailable', code: 'UNREADABLE_ANSWER' });
    },
  );

  it.each(['https://evil.example/tenant', 'https://idp.example', 'http://idp.example/tenant', `${ISSUER}/`, 'tenant'])(
    'are not those of the issuer %s',
    async (issuer) => {
      network({ [OPENID]: { ...METADATA, issuer } });
      await expect(failureOf()).resolves.toMatchObject({ kind: 'configuration', code: 'OTHER_ISSUER' });
    },
  );

  it.each([
    'token_endpoint',
    'authorization_endpoint',
    'jwks_uri',
    'userinfo_endpoint',
    'pushed_authorization_request_endpoint',
    'revocation_endpoint',
  ])('are refused as a whole for a bad %s', async (name) => {
    const bad = [
      'http://idp.example/x',
      'http://127.0.0.1/x',
      'javascript:alert(1)',
      '/x',
      'https://u:p@idp.example/',
      1,
    ];
    for (const endpoint of bad) {
      network({ [OPENID]: { ...METADATA, [name]: endpoint } });
      await expect(failureOf()).resolves.toMatchObject({
        kind: 'configuration',
        code: `UNUSABLE_${name.toUpperCase()}`,
      });
      jest.restoreAllMocks();
    }
  });

  it('can have endpoints by http only at the issuer that the options name by http', async () => {
    const issuer = 'http://127.0.0.1:8080';
    const document = `${issuer}/.well-known/openid-configuration`;
    network({ [document]: { issuer, token_endpoint: `${issuer}/token`, jwks_uri: 'https://keys.example/' } });
    await expect(new DiscoveredServer(issuer).metadata()).resolves.toMatchObject({ token_endpoint: `${issuer}/token` });
    jest.restoreAllMocks();
    network({ [document]: { issuer, token_endpoint: 'http://127.0.0.1:8081/token' } });
    await expect(failureOf(issuer)).resolves.toMatchObject({ code: 'UNUSABLE_TOKEN_ENDPOINT' });
  });
});

describe('The metadata that a process has', () => {
  it('come from one request for all callers at once', async () => {
    const fetched = network({ [OPENID]: METADATA });
    const server = new DiscoveredServer(ISSUER);
    const [first, ...others] = await Promise.all(Array.from({ length: 10 }, () => server.metadata()));
    for (const other of others) expect(other).toBe(first);
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it('are used for an hour, and then renewed', async () => {
    let now = 0;
    jest.spyOn(performance, 'now').mockImplementation(() => now);
    const answers: Record<string, Answer> = { [OPENID]: METADATA };
    const fetched = network(answers);
    const server = new DiscoveredServer(ISSUER);
    await server.metadata();
    answers[OPENID] = { ...METADATA, token_endpoint: `${ISSUER}/new` };
    now = HOUR - 1;
    await expect(server.metadata()).resolves.toMatchObject({ token_endpoint: METADATA.token_endpoint });
    expect(fetched).toHaveBeenCalledTimes(1);
    now = HOUR;
    await expect(server.metadata()).resolves.toMatchObject({ token_endpoint: `${ISSUER}/new` });
  });

  it.each<[string, Answer]>([
    ['the server is down', 503],
    ['the server names another issuer', { ...METADATA, issuer: 'https://evil.example' }],
    ['an endpoint moves to http', { ...METADATA, token_endpoint: 'http://idp.example/token' }],
  ])('stay in use if %s, and are asked for a minute later', async (_, answer) => {
    let now = 0;
    jest.spyOn(performance, 'now').mockImplementation(() => now);
    const answers: Record<string, Answer> = { [OPENID]: METADATA };
    const fetched = network(answers);
    const server = new DiscoveredServer(ISSUER);
    await server.metadata();
    answers[OPENID] = answer;
    for (const [at, calls] of [
      [HOUR, 2],
      [HOUR + 59_999, 2],
      [HOUR + 60_000, 3],
    ] as const) {
      now = at;
      await expect(server.metadata()).resolves.toMatchObject({ token_endpoint: METADATA.token_endpoint });
      expect(fetched).toHaveBeenCalledTimes(calls);
    }
  });

  it('are asked for again after a first failure', async () => {
    const answers: Record<string, Answer> = { [OPENID]: 503 };
    network(answers);
    const server = new DiscoveredServer(ISSUER);
    await expect(server.metadata()).rejects.toThrow(DiscoveryError);
    answers[OPENID] = METADATA;
    await expect(server.metadata()).resolves.toMatchObject(METADATA);
  });
});
