import { describe, expect, it } from '@jest/globals';

import { KeycloakMisconfiguredError, KeycloakUnavailableError } from '../tokens.errors.js';
import { metadataOf } from './keycloak-metadata.js';
import { KeycloakRealm } from './keycloak-realm.js';
import { KeycloakSettings } from './keycloak.options.js';

const realm = realmAt('https://keycloak.example');
const metadata = metadataAt('https://keycloak.example');

function realmAt(serverUrl: string): KeycloakRealm {
  const client = { realm: 'app', clientId: 'backend', clientSecret: 'secret' };
  return new KeycloakRealm(Object.assign(new KeycloakSettings(), client, { serverUrl }));
}

function metadataAt(serverUrl: string): Record<string, unknown> {
  const url = `${serverUrl}/realms/app`;
  return {
    issuer: url,
    token_endpoint: `${url}/token`,
    userinfo_endpoint: `${url}/userinfo`,
    introspection_endpoint: `${url}/introspect`,
    end_session_endpoint: `${url}/logout`,
    jwks_uri: `${url}/certs`,
  };
}

function answer(body: unknown, status = 200) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return { kind: 'answered', status, headers: new Headers(), body: text } as const;
}

describe('The metadata of a realm', () => {
  it('name every endpoint that the module asks', async () => {
    await expect(metadataOf(answer(metadata), realm)).resolves.toEqual(metadata);
    const unencrypted = metadataAt('http://localhost:8080');
    await expect(metadataOf(answer(unencrypted), realmAt('http://localhost:8080'))).resolves.toEqual(unencrypted);
  });

  it.each(Object.keys(metadata).filter((name) => name !== 'issuer'))(
    'are not taken without a %s that is encrypted as the realm is',
    async (name) => {
      const unencrypted = String(metadata[name]).replace('https:', 'http:');
      for (const endpoint of [undefined, '', 7, '/relative', 'ftp://keycloak.example/', unencrypted]) {
        const failure = metadataOf(answer({ ...metadata, [name]: endpoint }), realm);
        await expect(failure).rejects.toThrow(KeycloakMisconfiguredError);
        await expect(failure).rejects.toThrow(`names no usable ${name}`);
      }
    },
  );

  it.each(['https://other.example/realms/app', 'no URL'])(
    'are those of another realm by the issuer %j',
    async (issuer) => {
      const failure = metadataOf(answer({ ...metadata, issuer }), realm);
      await expect(failure).rejects.toThrow(KeycloakMisconfiguredError);
      await expect(failure).rejects.toThrow(/Set keycloak.issuer/);
    },
  );

  it.each([400, 401, 403, 404])('are refused with status %d, which is the operator’s to put right', async (status) => {
    await expect(metadataOf(answer('', status), realm)).rejects.toThrow(KeycloakMisconfiguredError);
  });

  it.each([answer(''), answer('<!DOCTYPE html>'), answer('[]'), answer('{}'), answer(metadata, 204)])(
    'cannot be read in %j',
    async (unreadable) => {
      await expect(metadataOf(unreadable, realm)).rejects.toThrow(KeycloakUnavailableError);
    },
  );
});
