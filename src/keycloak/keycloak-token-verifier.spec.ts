import { describe, expect, it, jest } from '@jest/globals';

import { KeycloakMisconfiguredError, KeycloakSessionExpiredError, KeycloakUnavailableError } from '../tokens.errors.js';
import { KeycloakClient } from './keycloak-client.js';
import type { KeycloakMetadata } from './keycloak-metadata.js';
import { KeycloakRealm } from './keycloak-realm.js';
import { KeycloakTokenVerifier } from './keycloak-token-verifier.js';
import { KeycloakSettings } from './keycloak.options.js';

const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
const TOKEN = `${part({ alg: 'RS256', kid: 'a' })}.${part({ sub: 'ada' })}.c2ln`;

/** A verifier whose realm answers the request for its keys in this way. */
function verifierWith(answer: () => Promise<{ status: number; body: string }>): KeycloakTokenVerifier {
  const options = { serverUrl: 'https://keycloak.example', realm: 'app', clientId: 'backend', clientSecret: 'secret' };
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
    const verifier = verifierWith(() => Promise.resolve({ status: 200, body: '{"keys":[]}' }));
    await expect(verifier.verify(token)).rejects.toThrow(KeycloakSessionExpiredError);
  });
});
