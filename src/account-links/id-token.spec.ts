import { createHmac } from 'node:crypto';

import { afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { exportJWK, exportSPKI, generateKeyPair, type JWK, type JWTHeaderParameters, SignJWT } from 'jose';

import type { CodeFlow } from '../identity-providers/code-flow.js';
import { OAuth2Provider } from '../identity-providers/oauth2.provider.js';
import type { ServerMetadata } from '../identity-providers/server-metadata.js';
import { LinkRefusedError, ProviderUnavailableError } from '../link.errors.js';
import { checkedClaims } from './id-token.js';

const ISSUER = 'https://idp.example';
const NONCE = 'nonce-of-attempt';
const CLIENT = { clientId: 'client', clientSecret: 'a secret of the client, long enough' };
const SECOND = 1000;

let flow: CodeFlow;
let keys: Awaited<ReturnType<typeof generateKeyPair>>;
let jwk: JWK;
/** New for each test, because oauth4webapi remembers the keys of a server by its metadata. */
let server: ServerMetadata;

beforeAll(async () => {
  const provider = new OAuth2Provider({
    ...CLIENT,
    clientAuthentication: 'client_secret_basic',
    issuer: ISSUER,
    redirectUri: 'https://host.example/callback',
  });
  if (!provider.codeFlow) throw new Error('The provider has no code flow.');
  flow = provider.codeFlow;
  keys = await generateKeyPair('ES256', { extractable: true });
  jwk = { ...(await exportJWK(keys.publicKey)), kid: 'k', alg: 'ES256', use: 'sig' };
});

beforeEach(() => {
  server = { issuer: ISSUER, jwks_uri: `${ISSUER}/jwks`, id_token_signing_alg_values_supported: ['ES256'] };
});

afterEach(() => {
  jest.restoreAllMocks();
});

function answerKeys(status = 200, body: string = JSON.stringify({ keys: [jwk] })) {
  const headers = { location: 'https://evil.example/jwks', 'retry-after': '3' };
  return jest
    .spyOn(globalThis, 'fetch')
    .mockImplementation(() => Promise.resolve(new Response(body === '' ? null : body, { status, headers })));
}

function claims(changes: Record<string, unknown> = {}): Record<string, unknown> {
  const now = Math.floor(Date.now() / SECOND);
  const all: Record<string, unknown> = {
    iss: ISSUER,
    aud: CLIENT.clientId,
    sub: 'ada',
    nonce: NONCE,
    iat: now,
    exp: now + 600,
    ...changes,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

function signed(changes: Record<string, unknown> = {}, header: Partial<JWTHeaderParameters> = {}): Promise<string> {
  return new SignJWT(claims(changes)).setProtectedHeader({ alg: 'ES256', kid: 'k', ...header }).sign(keys.privateKey);
}

function part(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** Signs by HMAC with any secret. */
function signedByHmac(secret: string, kid?: string): string {
  const text = `${part({ alg: 'HS256', kid })}.${part(claims())}`;
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

function check(idToken: unknown): Promise<Record<string, unknown>> {
  return checkedClaims(idToken, { idp: 'acme', flow, server, nonce: NONCE });
}

async function refusalOf(idToken: unknown): Promise<object> {
  const error: unknown = await check(idToken).catch((failure: unknown) => failure);
  if (!(error instanceof LinkRefusedError)) throw new Error(`Expected a refusal, got ${String(error)}.`);
  expect(error).not.toHaveProperty('cause');
  expect(error.message).not.toContain('eyJ');
  return { reason: error.reason, providerCode: error.providerCode };
}

const WRONG = { reason: 'provider_error', providerCode: 'INVALID_ID_TOKEN' };

describe('An ID token', () => {
  it('tells its claims', async () => {
    answerKeys();
    await expect(check(await signed({ name: 'Ada' }))).resolves.toMatchObject({ sub: 'ada', name: 'Ada' });
    await expect(check(await signed({ azp: CLIENT.clientId }))).resolves.toMatchObject({ sub: 'ada' });
    const audiences = { aud: [CLIENT.clientId, 'other'], azp: CLIENT.clientId };
    await expect(check(await signed(audiences))).resolves.toMatchObject({ sub: 'ada' });
  });

  const seconds = (from: number) => Math.floor(Date.now() / SECOND) + from;

  it.each<[string, Record<string, unknown>]>([
    ['for another client', { aud: 'other' }],
    ['for another client, of which ours is a part', { aud: `${CLIENT.clientId}-2` }],
    ['for several clients without one that is authorized', { aud: [CLIENT.clientId, 'other'] }],
    ['for several clients of which another one is authorized', { aud: [CLIENT.clientId, 'other'], azp: 'other' }],
    ['for which another client is authorized', { azp: 'other' }],
    ['for which no client is authorized', { azp: null }],
    ['without an audience', { aud: undefined }],
    ['for no list of clients', { aud: { 0: CLIENT.clientId } }],
    ['that has expired', { exp: seconds(-61) }],
    ['that never expires', { exp: undefined }],
    ['whose expiry is a text', { exp: '9999999999' }],
    ['that is not valid yet', { nbf: seconds(600) }],
    ['without a time of issue', { iat: undefined }],
    ['of another attempt', { nonce: 'of-another-attempt' }],
    ['without a nonce', { nonce: undefined }],
    ['with a list as its nonce', { nonce: [NONCE] }],
    ['without a subject', { sub: undefined }],
    ['with a number as its subject', { sub: 1 }],
    ['without an issuer', { iss: undefined }],
  ])('%s is refused', async (_, changes) => {
    answerKeys();
    await expect(refusalOf(await signed(changes))).resolves.toEqual(WRONG);
  });

  it.each(['https://evil.example', `${ISSUER}/`, 'https://idp.example.evil.example', ''])(
    'of the issuer "%s" is refused as that of another server',
    async (iss) => {
      answerKeys();
      await expect(refusalOf(await signed({ iss }))).resolves.toEqual({ ...WRONG, reason: 'issuer_mismatch' });
    },
  );

  it('may be a minute late, because clocks differ', async () => {
    answerKeys();
    await expect(check(await signed({ exp: seconds(-30), nbf: seconds(30) }))).resolves.toMatchObject({ sub: 'ada' });
  });

  it.each(['none', 'None', 'HS256', 'RS1', ''])(
    'with the algorithm "%s" is refused, also if the server says that it uses it',
    async (alg) => {
      const fetched = answerKeys();
      for (const supported of [undefined, ['ES256'], ['ES256', alg]]) {
        server = { ...server, id_token_signing_alg_values_supported: supported };
        for (const signature of ['', 'c2ln']) {
          await expect(refusalOf(`${part({ alg, kid: 'k' })}.${part(claims())}.${signature}`)).resolves.toEqual(WRONG);
        }
      }
      expect(fetched).not.toHaveBeenCalled();
    },
  );

  it('that is signed by HMAC is refused, whether its secret is the public key or the client secret', async () => {
    answerKeys();
    server = { ...server, id_token_signing_alg_values_supported: ['ES256', 'HS256'] };
    const spki = await exportSPKI(keys.publicKey);
    for (const secret of [spki, spki.trim(), JSON.stringify(jwk), CLIENT.clientSecret]) {
      for (const kid of ['k', undefined]) {
        await expect(refusalOf(signedByHmac(secret, kid))).resolves.toEqual(WRONG);
      }
    }
  });

  it('has the algorithm RS256 if the server names none', async () => {
    answerKeys();
    server = { issuer: ISSUER, jwks_uri: server.jwks_uri };
    await expect(refusalOf(await signed())).resolves.toEqual(WRONG);
  });

  it('is refused with another signature, another text under its signature, and none', async () => {
    answerKeys();
    const others = await generateKeyPair('ES256');
    const forged = await new SignJWT(claims()).setProtectedHeader({ alg: 'ES256', kid: 'k' }).sign(others.privateKey);
    const [header = '', , signature = ''] = (await signed()).split('.');
    for (const idToken of [
      forged,
      `${header}.${part(claims({ sub: 'mallory' }))}.${signature}`,
      `${header}.${part(claims())}.`,
      `${header}.${part(claims())}.${signature.slice(0, -4)}`,
    ]) {
      await expect(refusalOf(idToken)).resolves.toEqual(WRONG);
    }
  });

  it('does not bring its own key', async () => {
    answerKeys();
    const own = await generateKeyPair('ES256', { extractable: true });
    const idToken = await new SignJWT(claims())
      .setProtectedHeader({
        alg: 'ES256',
        kid: 'own',
        jwk: await exportJWK(own.publicKey),
        jku: 'https://evil.example/jwks',
      })
      .sign(own.privateKey);
    await expect(refusalOf(idToken)).resolves.toEqual(WRONG);
  });

  it('is refused with a critical header that the module does not know', async () => {
    answerKeys();
    const [, payload = '', signature = ''] = (await signed()).split('.');
    const header = part({ alg: 'ES256', kid: 'k', crit: ['exp'] });
    await expect(refusalOf(`${header}.${payload}.${signature}`)).resolves.toEqual(WRONG);
  });

  it.each<[unknown]>([[undefined], [null], [''], [1], [{}], ['text'], ['a.b.c'], ['a.b.c.d.e'], ['..']])(
    'is not %j',
    async (idToken) => {
      answerKeys();
      await expect(refusalOf(idToken)).resolves.toEqual(WRONG);
    },
  );
});

describe('The keys of ID tokens', () => {
  it('come from one request for many ID tokens, also for unknown keys', async () => {
    const fetched = answerKeys();
    const idTokens = await Promise.all(Array.from({ length: 10 }, () => signed()));
    await Promise.all(idTokens.map(check));
    for (let count = 0; count < 5; count++) {
      await expect(refusalOf(await signed({}, { kid: `unknown-${count}` }))).resolves.toEqual(WRONG);
    }
    expect(fetched).toHaveBeenCalledTimes(1);
    expect(fetched.mock.calls[0]?.[0]).toBe(`${ISSUER}/jwks`);
    expect(fetched.mock.calls[0]?.[1]).toMatchObject({ redirect: 'manual' });
  });

  it('are asked for again a minute later, because the server may have a new key', async () => {
    const fetched = answerKeys(200, JSON.stringify({ keys: [{ ...jwk, kid: 'older' }] }));
    await expect(refusalOf(await signed())).resolves.toEqual(WRONG);
    fetched.mockRestore();
    const again = answerKeys();
    const now = Date.now() + 61 * SECOND;
    jest.spyOn(Date, 'now').mockReturnValue(now);
    await expect(check(await signed())).resolves.toMatchObject({ sub: 'ada' });
    expect(again).toHaveBeenCalledTimes(1);
  });

  it('are none that are for encryption, and none of another algorithm', async () => {
    for (const change of [{ use: 'enc' }, { key_ops: ['sign'] }, { alg: 'ES384' }, { kty: 'RSA' }]) {
      server = { ...server };
      answerKeys(200, JSON.stringify({ keys: [{ ...jwk, ...change }] }));
      await expect(refusalOf(await signed())).resolves.toEqual(WRONG);
      jest.restoreAllMocks();
    }
  });

  it.each<[number, string, string]>([
    [503, '', 'http_503'],
    [404, '', 'http_404'],
    [302, '', 'http_302'],
    [204, '', 'http_204'],
    [200, '<html></html>', 'UNREADABLE_ANSWER'],
    [200, '{}', 'UNREADABLE_ANSWER'],
    [200, '{"keys":{}}', 'UNREADABLE_ANSWER'],
    [200, '', 'UNREADABLE_ANSWER'],
    [200, `{"keys":[${' '.repeat(1024 * 1024)}]}`, 'BODY_TOO_LARGE'],
  ])('are out of reach if the server answers %i, and nothing is said of the ID token', async (status, body, code) => {
    const fetched = answerKeys(status, body);
    const error: unknown = await check(await signed()).catch((failure: unknown) => failure);
    expect(error).toBeInstanceOf(ProviderUnavailableError);
    expect((error as Error).message).toContain(`did not give the keys of its ID tokens (${code})`);
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it('are asked for again after a failure', async () => {
    answerKeys(503, '');
    await expect(check(await signed())).rejects.toMatchObject({ retryAfterMs: 3000 });
    jest.restoreAllMocks();
    answerKeys();
    await expect(check(await signed())).resolves.toMatchObject({ sub: 'ada' });
  });

  it('are needed', async () => {
    server = { issuer: ISSUER, id_token_signing_alg_values_supported: ['ES256'] };
    await expect(refusalOf(await signed())).resolves.toEqual(WRONG);
  });
});
