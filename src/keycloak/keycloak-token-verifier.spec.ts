import { generateKeyPairSync } from 'node:crypto';

import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';

import { KeycloakMisconfiguredError, KeycloakSessionExpiredError, KeycloakUnavailableError } from '../tokens.errors.js';
import { KeycloakClient } from './keycloak-client.js';
import type { KeycloakMetadata } from './keycloak-metadata.js';
import { KeycloakRealm } from './keycloak-realm.js';
import { KeycloakTokenVerifier } from './keycloak-token-verifier.js';
import { KeycloakSettings } from './keycloak.options.js';

const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
const TOKEN = `${part({ alg: 'RS256', kid: 'a' })}.${part({ sub: 'ada' })}.c2ln`;

/** A verifier whose realm answers the request for its keys in this way. */
function verifierWith(answer: () => Promise<{ status: number; body: string }>, issuer?: string): KeycloakTokenVerifier {
  const options = {
    issuer,
    serverUrl: 'https://keycloak.example',
    realm: 'app',
    clientId: 'backend',
    clientSecret: 'secret',
  };
  const client = new KeycloakClient(new KeycloakRealm(Object.assign(new KeycloakSettings(), options)));
  const metadata = { issuer: 'https://keycloak.example/realms/app', jwks_uri: 'https://keycloak.example/certs' };
  jest.spyOn(client, 'metadata').mockResolvedValue(metadata as KeycloakMetadata);
  jest.spyOn(client, 'getPublic').mockImplementation(async () => {
    return { kind: 'answered', headers: new Headers(), ...(await answer()) };
  });
  return new KeycloakTokenVerifier(client);
}

describe('When the keys of the realm cannot be had', () => {
  it('a fault of the program is thrown as it is, not as an outage of Keycloak', async () => {
    const fault = new TypeError('x is not a function');
    await expect(verifierWith(() => Promise.reject(fault)).verify(TOKEN)).rejects.toBe(fault);
  });

  it.each([new KeycloakUnavailableError('down'), new KeycloakMisconfiguredError('no such realm')])(
    'what the client says of it stands: $name',
    async (error) => {
      await expect(verifierWith(() => Promise.reject(error)).verify(TOKEN)).rejects.toBe(error);
    },
  );

  it.each([
    { status: 200, body: '<!DOCTYPE html>' },
    { status: 200, body: '{}' },
    { status: 200, body: '{"keys":[]}' },
    { status: 204, body: '' },
    { status: 205, body: '' },
    { status: 404, body: '' },
  ])('because Keycloak answers %j, it is unavailable', async (answer) => {
    const failure = verifierWith(() => Promise.resolve(answer)).verify(TOKEN);
    await expect(failure).rejects.toThrow(KeycloakUnavailableError);
    await expect(failure).rejects.toThrow(/keys cannot be fetched/);
  });
});

describe('A token that is not good', () => {
  it.each([
    TOKEN,
    'garbage',
    '..',
    `${part({ alg: 'none' })}.${part({})}.`,
    `${part({ alg: 'HS256' })}.${part({})}.c2ln`,
  ])('is the fault of %s, not of Keycloak', async (token) => {
    const { publicKey } = await generateKeyPair('RS256');
    const keys = [{ ...(await exportJWK(publicKey)), kid: 'b' }];
    const verifier = verifierWith(() => Promise.resolve({ status: 200, body: JSON.stringify({ keys }) }));
    await expect(verifier.verify(token)).rejects.toThrow(KeycloakSessionExpiredError);
  });
});

describe('The keys of the realm', () => {
  const MINUTE_MS = 60_000;
  let clock: jest.SpiedFunction<() => number>;
  let passed: number;
  let answers: { status: number; body: string }[];
  let asked: number;

  beforeEach(() => {
    const start = performance.now();
    passed = 0;
    asked = 0;
    clock = jest.spyOn(performance, 'now').mockImplementation(() => start + passed);
  });

  afterEach(() => {
    clock.mockRestore();
  });

  /** Returns a verifier that has good keys, and a good token. */
  async function known(issuer?: string): Promise<{ verifier: KeycloakTokenVerifier; token: string; sign: Sign }> {
    const { publicKey, privateKey } = await generateKeyPair('RS256');
    const key = { ...(await exportJWK(publicKey)), kid: 'a', alg: 'RS256', use: 'sig' };
    answers = [{ status: 200, body: JSON.stringify({ keys: [key] }) }];
    const verifier = verifierWith(() => {
      asked++;
      return Promise.resolve(answers.length > 1 ? (answers.shift() ?? GARBAGE) : (answers[0] ?? GARBAGE));
    }, issuer);
    const sign: Sign = (claims = {}, kid = 'a') =>
      new SignJWT({ typ: 'Bearer', sub: 'ada', ...claims })
        .setProtectedHeader({ alg: 'RS256', kid })
        .setIssuer('https://keycloak.example/realms/app')
        .setAudience('backend')
        .setExpirationTime('1d')
        .sign(privateKey);
    const token = await sign();
    await expect(verifier.verify(token)).resolves.toMatchObject({ sub: 'ada' });
    return { verifier, token, sign };
  }

  type Sign = (claims?: Record<string, unknown>, kid?: string) => Promise<string>;
  const GARBAGE = { status: 200, body: '<!DOCTYPE html>' };

  it.each(['https://keycloak.example:443/realms/app', 'https://Keycloak.example/realms/app/'])(
    'verify tokens whose issuer is written otherwise than in the options: %s',
    async (issuer) => {
      const { verifier, token } = await known(issuer);
      await expect(verifier.verify(token)).resolves.toMatchObject({ iss: 'https://keycloak.example/realms/app' });
    },
  );

  /** Sets without a key that can verify a token. */
  const useless = ['<!DOCTYPE html>', '{}', '{"keys":{}}', '{"keys":[]}', '[]', ''];
  /** Members of a set that can verify no token. */
  const unusable: unknown[] = [
    1,
    null,
    {},
    { kty: 7 },
    { kty: 'x' },
    { kty: 'RSA', kid: 'a', alg: 'RS256', use: 'sig' },
    { kty: 'RSA', kid: 'a', alg: 'RS256', use: 'sig', e: 'AQAB', n: 'c2hvcnQ' },
    { kty: 'RSA', kid: 'a', alg: 'RS256', use: 'sig', e: 'AQAB', n: '!!' },
    { kty: 'RSA', kid: 'a', e: 7, n: [] },
    { kty: 'EC', kid: 'a', crv: 'P-256', x: 'AAAA', y: '!!' },
    { kty: 'EC', kid: 'a', crv: 'P-257', x: 'AAAA', y: 'AAAA' },
    { kty: 'EC', kid: 'a' },
    { kty: 'OKP', kid: 'a', crv: 'Ed25519', x: 'AAAA' },
    { kty: 'oct', kid: 'a', alg: 'HS256', k: 'c2VjcmV0' },
  ];

  it.each([...useless, ...unusable.map((key) => JSON.stringify({ keys: [key] }))])(
    'are not trusted for longer because Keycloak answers 200 with %j',
    async (body) => {
      const { verifier, token } = await known();
      answers = [{ status: 200, body }];
      for (const minutes of [20, 40, 59]) {
        passed = minutes * MINUTE_MS;
        await expect(verifier.verify(token)).resolves.toBeDefined();
      }
      passed = 61 * MINUTE_MS;
      const failure = verifier.verify(token);
      await expect(failure).rejects.toThrow(KeycloakUnavailableError);
      await expect(failure).rejects.toThrow(/keys cannot be fetched/);
      expect(asked).toBeGreaterThan(1);
    },
  );

  it.each([
    ['an encryption key', (key: JWK) => ({ ...key, use: 'enc', alg: 'RSA-OAEP' })],
    ['a private key', (_: JWK, all: JWK) => all],
    ['a short key', (_: JWK, __: JWK, short: JWK) => ({ ...short, kid: 'a', alg: 'RS256', use: 'sig' })],
  ])('are not replaced by %s alone', async (_, other) => {
    const { verifier, token } = await known();
    const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true });
    const short = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' }) as JWK;
    const body = JSON.stringify({ keys: [other(await exportJWK(publicKey), await exportJWK(privateKey), short)] });
    answers = [{ status: 200, body }];
    passed = 20 * MINUTE_MS;
    await expect(verifier.verify(token)).resolves.toBeDefined();
    passed = 61 * MINUTE_MS;
    await expect(verifier.verify(token)).rejects.toThrow(KeycloakUnavailableError);
  });

  it('are taken from a set that also has what can verify no token', async () => {
    const { verifier, token } = await known();
    const good = (JSON.parse(answers[0]?.body ?? '') as { keys: object[] }).keys;
    const others = unusable.map((key) => (typeof key === 'object' && key !== null ? { ...key, kid: 'b' } : key));
    answers = [{ status: 200, body: JSON.stringify({ keys: [...others, ...good, ...others] }) }];
    passed = 61 * MINUTE_MS;
    await expect(verifier.verify(token)).resolves.toBeDefined();
    answers = [{ status: 503, body: '' }];
    passed = 120 * MINUTE_MS; // the trust in them is renewed
    await expect(verifier.verify(token)).resolves.toBeDefined();
  });

  it.each(['RS256', 'PS256', 'ES256', 'ES384', 'ES512', 'EdDSA'])('of the algorithm %s verify tokens', async (alg) => {
    const { publicKey, privateKey } = await generateKeyPair(alg);
    for (const named of [{ alg }, {}]) {
      const keys = [{ ...(await exportJWK(publicKey)), kid: 'a', ...named }];
      const verifier = verifierWith(() => Promise.resolve({ status: 200, body: JSON.stringify({ keys }) }));
      const token = await new SignJWT({ typ: 'Bearer', sub: 'ada' })
        .setProtectedHeader({ alg, kid: 'a' })
        .setIssuer('https://keycloak.example/realms/app')
        .setAudience('backend')
        .setExpirationTime('1d')
        .sign(privateKey);
      await expect(verifier.verify(token)).resolves.toMatchObject({ sub: 'ada' });
    }
  });

  it('are asked for every 5 s at most when they are too old and Keycloak is away', async () => {
    const { verifier, token } = await known();
    const good = answers;
    answers = [{ status: 503, body: '' }];
    passed = 61 * MINUTE_MS;
    asked = 0;
    for (let call = 0; call < 50; call++)
      await expect(verifier.verify(token)).rejects.toThrow(KeycloakUnavailableError);
    expect(asked).toBe(1);
    passed += 5001;
    await expect(verifier.verify(token)).rejects.toThrow(KeycloakUnavailableError);
    expect(asked).toBe(2);
    passed += 5001;
    answers = good;
    await expect(verifier.verify(token)).resolves.toBeDefined();
    expect(asked).toBe(3);
  });

  it('are asked for every 5 s at most when tokens name unknown keys and Keycloak is away', async () => {
    const { verifier, sign } = await known();
    const unknown = await sign({}, 'b');
    const dates = jest.spyOn(Date, 'now').mockReturnValue(Date.now() + MINUTE_MS); // jose's own pause is over
    answers = [{ status: 503, body: '' }];
    passed = MINUTE_MS;
    asked = 0;
    for (let call = 0; call < 20; call++) {
      await expect(verifier.verify(unknown)).rejects.toThrow(KeycloakUnavailableError);
    }
    dates.mockRestore();
    expect(asked).toBe(1);
  });

  it.each([{ jkt: 'thumbprint' }, { 'x5t#S256': 'thumbprint' }, {}])(
    'do not make a bearer token of one that is bound to a key: %j',
    async (cnf) => {
      const { verifier, sign } = await known();
      const failure = verifier.verify(await sign({ cnf }));
      await expect(failure).rejects.toThrow(KeycloakSessionExpiredError);
      await expect(failure).rejects.toThrow(/bound to a key of its holder/);
    },
  );
});
