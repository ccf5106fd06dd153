import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';

import { afterEach, describe, expect, it } from '@jest/globals';
import { importPKCS8, jwtVerify } from 'jose';
import {
  allowInsecureRequests,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  calculatePKCECodeChallenge,
  type ClientAuth,
  ClientSecretJwt,
  discovery,
  PrivateKeyJwt,
  randomPKCECodeVerifier,
} from 'openid-client';

import { authorize } from '../examples/support/authorization-code-flow.js';
import { startAuthorizationServer } from '../examples/support/authorization-server.js';
import { readIdentityProviders } from '../src/identity-providers/identity-providers.options.js';
import { completePolicy, type IdentityProvider, OAuth2Provider, TokensConfigurationError } from '../src/index.js';

const closings: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  await Promise.all(closings.splice(0).map((close) => close()));
});

/** Returns the provider that the module makes of an entry of the options. */
function providerOf(entry: object): IdentityProvider {
  const { providers, faults } = readIdentityProviders({ acme: entry });
  const provider = providers.get('acme');
  if (!provider) throw new Error(faults.join('\n'));
  return provider;
}

const CLIENT_ID = 'tests';
const SECRET = 'secret of the tests, long enough';
const REDIRECT_URI = 'http://127.0.0.1:9/callback';

function keyFor(algorithm: string): { privateKey: KeyObject; publicJwk: object } {
  const { privateKey, publicKey } =
    algorithm === 'ES256'
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return {
    privateKey,
    publicJwk: { ...publicKey.export({ format: 'jwk' }), kid: 'key-1', alg: algorithm, use: 'sig' },
  };
}

function pem(key: KeyObject, type: 'pkcs8' | 'pkcs1' | 'sec1' = 'pkcs8'): string {
  return String(key.export({ format: 'pem', type: type }));
}

interface Login {
  readonly clientAuthentication: string;
  readonly clientKey?: object;
  readonly openidClient: ClientAuth;
}

/** Starts a certified server with one client, logs a user in, and returns the endpoints and the refresh token. */
async function logIn({ clientAuthentication, clientKey, openidClient }: Login) {
  const client = { clientId: CLIENT_ID, clientSecret: SECRET, redirectUris: [REDIRECT_URI] };
  const server = await startAuthorizationServer({ ...client, clientAuthentication, clientKey });
  closings.push(() => server.stop());
  const configuration = await discovery(new URL(server.issuer), CLIENT_ID, undefined, openidClient, {
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- deprecated only as a warning; the server is on loopback
    execute: [allowInsecureRequests],
  });
  const verifier = randomPKCECodeVerifier();
  const url = buildAuthorizationUrl(configuration, {
    redirect_uri: REDIRECT_URI,
    scope: 'openid offline_access',
    prompt: 'consent',
    code_challenge: await calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  });
  const callback = await authorize(url, { login: 'user-1' });
  const tokens = await authorizationCodeGrant(configuration, callback, { pkceCodeVerifier: verifier });
  return { server, refreshToken: tokens.refresh_token ?? '' };
}

/** Redeems a refresh token twice in a row, each time the newest one, and revokes the pair. */
async function redeemAndRevoke(provider: IdentityProvider, refreshToken: string): Promise<void> {
  for (let round = 0; round < 2; round++) {
    const answer = await provider.refresh(refreshToken);
    if (answer.kind !== 'success') throw new Error(inspect(answer));
    refreshToken = answer.tokens.refreshToken ?? '';
  }
  await expect(provider.revoke?.({ accessToken: 'a', refreshToken })).resolves.toEqual({ kind: 'revoked' });
  await expect(provider.refresh(refreshToken)).resolves.toEqual({ kind: 'terminal', code: 'invalid_grant' });
}

describe('A certified server accepts the client', () => {
  it.each<[string, string, (key: KeyObject) => unknown]>([
    ['ES256', 'a PEM', (key) => pem(key)],
    ['ES256', 'a PEM of its own kind', (key) => pem(key, 'sec1')],
    ['ES256', 'a JWK', (key) => key.export({ format: 'jwk' })],
    ['RS256', 'a PEM', (key) => pem(key)],
    ['RS256', 'a PEM of its own kind', (key) => pem(key, 'pkcs1')],
    ['PS256', 'a PEM', (key) => pem(key)],
    ['PS256', 'a JWK', (key) => key.export({ format: 'jwk' })],
  ])('by private_key_jwt with %s and %s', async (algorithm, _, form) => {
    const { privateKey, publicJwk } = keyFor(algorithm);
    const key = await importPKCS8(pem(privateKey), algorithm);
    const { server, refreshToken } = await logIn({
      clientAuthentication: 'private_key_jwt',
      clientKey: publicJwk,
      openidClient: PrivateKeyJwt({ key, kid: 'key-1' }),
    });
    const provider = providerOf({
      clientId: CLIENT_ID,
      tokenEndpoint: server.tokenEndpoint,
      revocationEndpoint: server.revocationEndpoint,
      clientAuthentication: 'private_key_jwt',
      clientAssertion: { key: form(privateKey), algorithm, keyId: 'key-1' },
    });
    await redeemAndRevoke(provider, refreshToken);
  });

  it('by client_secret_jwt', async () => {
    const clientAuthentication = 'client_secret_jwt';
    const { server, refreshToken } = await logIn({ clientAuthentication, openidClient: ClientSecretJwt(SECRET) });
    const entry = {
      clientId: CLIENT_ID,
      clientSecret: SECRET,
      tokenEndpoint: server.tokenEndpoint,
      revocationEndpoint: server.revocationEndpoint,
      clientAuthentication,
    };
    const stranger = providerOf({ ...entry, clientSecret: `${SECRET}!` });
    await expect(stranger.refresh(refreshToken)).resolves.toEqual({ kind: 'configuration', code: 'invalid_client' });
    // A revocation by JWT names the audience too, because the endpoint differs from the token endpoint.
    await redeemAndRevoke(providerOf({ ...entry, clientAssertion: { audience: server.issuer } }), refreshToken);
  });
});

interface Seen {
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** A token endpoint that records its requests and issues a pair for each. */
async function recordingEndpoint(): Promise<{ url: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  const server: Server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
      seen.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
      response.setHeader('content-type', 'application/json');
      response.end('{"access_token":"a","refresh_token":"r2","expires_in":60}');
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closings.push(
    () =>
      new Promise((resolve) => {
        server.close(resolve).closeAllConnections();
      }),
  );
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`, seen };
}

const ODD = { clientId: 'client-1_ü', clientSecret: 'p@ss:w%rd+&=/ ü' };

describe('The request', () => {
  it.each([
    ['client_secret_basic', 'client-1_%C3%BC:p%40ss%3Aw%25rd%2B%26%3D%2F+%C3%BC'],
    ['client_secret_basic_unencoded', 'client-1_ü:p@ss:w%rd+&=/ ü'],
  ])('has the credentials of %s', async (clientAuthentication, credentials) => {
    const { url, seen } = await recordingEndpoint();
    await providerOf({ ...ODD, tokenEndpoint: url, clientAuthentication }).refresh('r1');
    expect(seen).toEqual([expect.objectContaining({ body: 'grant_type=refresh_token&refresh_token=r1' })]);
    const [scheme, encoded = ''] = (seen[0]?.headers.authorization ?? '').split(' ');
    expect([scheme, Buffer.from(encoded, 'base64').toString()]).toEqual(['Basic', credentials]);
  });

  it('is JSON where the provider takes JSON', async () => {
    const { url, seen } = await recordingEndpoint();
    const entry = { ...ODD, tokenEndpoint: url, revocationEndpoint: url, requestFormat: 'json' };
    const provider = providerOf({
      ...entry,
      clientAuthentication: 'client_secret_post',
      refreshParameters: { x: 'ü' },
    });
    await provider.refresh('r1');
    await provider.revoke?.({ accessToken: 'a', refreshToken: 'r1' });
    const credentials = { client_id: ODD.clientId, client_secret: ODD.clientSecret };
    expect(seen.map(({ body }) => JSON.parse(body) as unknown)).toEqual([
      { grant_type: 'refresh_token', refresh_token: 'r1', x: 'ü', ...credentials },
      { token: 'r1', token_type_hint: 'refresh_token', ...credentials },
    ]);
    expect(seen.map(({ headers }) => headers['content-type'])).toEqual(['application/json', 'application/json']);
  });

  it('has the further parameters of the options beside those that the provider needs', async () => {
    const { url, seen } = await recordingEndpoint();
    const refreshParameters = { audience: 'https://api.example', resource: 'a&b' };
    await providerOf({ ...ODD, tokenEndpoint: url, scope: 'read', refreshParameters }).refresh('r1');
    expect(Object.fromEntries(new URLSearchParams(seen[0]?.body))).toEqual({
      grant_type: 'refresh_token',
      refresh_token: 'r1',
      scope: 'read',
      ...refreshParameters,
    });
  });

  it('has an assertion for its endpoint that is used once and expires within a minute', async () => {
    const { url, seen } = await recordingEndpoint();
    const { privateKey, publicJwk } = keyFor('ES256');
    const thumbprint = 'h_nbLkVGfOO2mJhJuOFXlNxDpmcwPnZzsYvjbGfiFGQ';
    const clientAssertion = {
      key: pem(privateKey),
      algorithm: 'ES256',
      keyId: 'key-1',
      certificateThumbprint: thumbprint,
    };
    const provider = providerOf({
      clientId: 'c',
      tokenEndpoint: url,
      clientAuthentication: 'private_key_jwt',
      clientAssertion,
    });
    await Promise.all([provider.refresh('r1'), provider.refresh('r2')]);
    const claims = await Promise.all(
      seen.map(async ({ body }) => {
        const form = new URLSearchParams(body);
        expect(form.get('client_assertion_type')).toBe('urn:ietf:params:oauth:client-assertion-type:jwt-bearer');
        expect(form.has('client_secret')).toBe(false);
        const options = { audience: url, issuer: 'c', subject: 'c', algorithms: ['ES256'] };
        const { payload, protectedHeader } = await jwtVerify(form.get('client_assertion') ?? '', publicJwk, options);
        expect(protectedHeader).toEqual({ alg: 'ES256', kid: 'key-1', 'x5t#S256': thumbprint });
        return payload;
      }),
    );
    expect(new Set(claims.map(({ jti }) => jti)).size).toBe(2);
    for (const { exp = 0, iat = 0 } of claims) expect(exp - iat).toBe(60);
  });
});

describe('OAuth2Provider', () => {
  it('serves a host that writes a provider of its own', async () => {
    const { url, seen } = await recordingEndpoint();
    class Acme extends OAuth2Provider {
      constructor() {
        super({
          ...ODD,
          clientAuthentication: 'client_secret_post',
          tokenEndpoint: url,
          terminalErrorCodes: ['gone'],
          policy: completePolicy({ leewaySeconds: 60 }),
        });
      }
    }
    const provider = providerOf(new Acme());
    await expect(provider.refresh('r1')).resolves.toMatchObject({ kind: 'success', tokens: { refreshToken: 'r2' } });
    expect(seen).toHaveLength(1);
    expect(provider.policy.leewaySeconds).toBe(60);
    expect(inspect(provider, { depth: 9, showHidden: true })).not.toContain(ODD.clientSecret);
  });

  it('has the policy of single-use refresh tokens by default', () => {
    const profile = { ...ODD, clientAuthentication: 'none', tokenEndpoint: 'http://127.0.0.1:2/' } as const;
    expect(new OAuth2Provider(profile).policy).toEqual(completePolicy());
  });

  it('needs the secret that it sends', () => {
    const profile = { clientId: 'c', clientAuthentication: 'client_secret_post', tokenEndpoint: 'http://x/' } as const;
    expect(() => new OAuth2Provider(profile)).toThrow('The profile of a provider is wrong: clientSecret is missing.');
  });

  it('refuses a key that it cannot use, and repeats nothing of it', () => {
    const create = () =>
      new OAuth2Provider({
        clientId: 'c',
        clientAuthentication: 'private_key_jwt',
        clientAssertion: { key: 'not-a-key', algorithm: 'ES256' },
        tokenEndpoint: 'http://127.0.0.1:2/',
      });
    expect(create).toThrow(TokensConfigurationError);
    expect(create).toThrow('clientAssertion.key must be a private key that is not encrypted');
    expect(create).not.toThrow('not-a-key');
  });
});
