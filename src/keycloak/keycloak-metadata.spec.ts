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

  it.each([
    'https://other.example/realms/app',
    'https://keycloak.example/realms/app?a=b',
    'http://keycloak.example/realms/app',
    'no URL',
  ])('are those of another realm by the issuer %j', async (issuer) => {
    const failure = metadataOf(answer({ ...metadata, issuer }), realm);
    await expect(failure).rejects.toThrow(KeycloakMisconfiguredError);
    await expect(failure).rejects.toThrow(/Set keycloak.issuer/);
  });

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

describe('The metadata of a realm with another public URL', () => {
  const OUTSIDE = 'https://login.example/auth/realms/app';
  const split = { url: 'http://keycloak:8080/realms/app', issuer: OUTSIDE };
  const endpointFor = async (named: string) =>
    (await metadataOf(answer({ ...metadataAt('https://login.example/auth'), token_endpoint: named }), split))
      .token_endpoint;

  it('name every endpoint below the URL that the process reaches', async () => {
    const named = { ...metadataAt('https://login.example/auth'), authorization_endpoint: `${OUTSIDE}/auth` };
    await expect(metadataOf(answer(named), split)).resolves.toEqual({
      ...metadataAt('http://keycloak:8080'),
      issuer: OUTSIDE,
      authorization_endpoint: `${OUTSIDE}/auth`, // for browsers
    });
  });

  it.each([
    [`${OUTSIDE}/token?a=b`, 'http://keycloak:8080/realms/app/token?a=b'],
    ['https://LOGIN.example:443/auth/realms/app/token', 'http://keycloak:8080/realms/app/token'],
    [`${OUTSIDE}/./a/../token`, 'http://keycloak:8080/realms/app/token'],
    [`${OUTSIDE}//evil.example/token`, 'http://keycloak:8080/realms/app//evil.example/token'],
    [`${OUTSIDE}/@evil.example/token`, 'http://keycloak:8080/realms/app/@evil.example/token'],
    ['https://login.example:8443/auth/realms/app/token', 'http://keycloak:8080/realms/app/token'],
    ['http://login.example/auth/realms/app/token', 'http://keycloak:8080/realms/app/token'],
    ['http://login.example:8080/auth/realms/app/token', 'http://keycloak:8080/realms/app/token'],
    ['https://login.example/%61uth/realms/%61pp/token', 'http://keycloak:8080/realms/app/token'],
    [`${OUTSIDE}/token#fragment`, 'http://keycloak:8080/realms/app/token'],
  ])('turn %s into %s', async (named, reached) => {
    await expect(endpointFor(named)).resolves.toBe(reached);
  });

  it.each([
    `${OUTSIDE}/../other/token`,
    `${OUTSIDE}/%2e%2e/other/token`,
    `${OUTSIDE}/..\\other/token`,
    `${OUTSIDE}-other/token`,
    OUTSIDE,
    'https://login.example/token',
    'https://login.example/auth%2Frealms/app/token',
    'https://login.example/%zz/realms/app/token',
    'https://other.example/auth/realms/app/token',
    'http://keycloak:8080/realms/app/token',
  ])('leave %s as it is, because it is not below the issuer', async (named) => {
    await expect(endpointFor(named)).resolves.toBe(named);
  });

  it.each([
    'http://other.example/auth/realms/app/token',
    'http://login.example/token',
    'http://keycloak/realms/app/token',
    'http://keycloak:8081/realms/app/token',
    'ftp://login.example/auth/realms/app/token',
    'https://user:pass@login.example/auth/realms/app/token',
    'https://user@keycloak:8080/realms/app/token',
    'http://:pass@keycloak:8080/realms/app/token',
  ])('do not send a secret to %s, although serverUrl is not encrypted', async (named) => {
    for (const name of ['token_endpoint', 'jwks_uri']) {
      const failure = metadataOf(answer({ ...metadataAt('https://login.example/auth'), [name]: named }), split);
      await expect(failure).rejects.toThrow(KeycloakMisconfiguredError);
      await expect(failure).rejects.toThrow(`names no usable ${name}`);
      await expect(failure).rejects.not.toThrow(/user|pass/);
    }
  });

  it.each([
    ['https://login.example:443/auth/realms/app', OUTSIDE],
    ['https://LOGIN.example/auth/realms/app', OUTSIDE],
    [`${OUTSIDE}/`, OUTSIDE],
    [OUTSIDE, `${OUTSIDE}/`],
  ])('may name the issuer %s in another spelling: %s', async (issuer, named) => {
    const found = await metadataOf(answer({ ...metadataAt('https://login.example/auth'), issuer: named }), {
      ...split,
      issuer,
    });
    expect(found).toMatchObject({ issuer: named, token_endpoint: 'http://keycloak:8080/realms/app/token' });
  });

  it('are taken as they are if the issuer is the URL that the process reaches', async () => {
    await expect(metadataOf(answer(metadata), { url: realm.url, issuer: realm.url })).resolves.toEqual(metadata);
  });
});
