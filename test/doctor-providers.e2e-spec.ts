import { once } from 'node:events';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer } from 'node:net';

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { startAuthorizationServer } from '../examples/support/authorization-server.js';
import { freePort } from '../examples/support/free-port.js';
import { completePolicy } from '../src/identity-providers/refresh-policy.js';
import type { IdentityProvidersOptions, KeycloakModuleOptions } from '../src/index.js';
import { examine, findingOf } from './support/doctor.js';
import { KeycloakStandIn } from './support/keycloak-stand-in.js';
import { ProviderStandIn } from './support/provider-stand-in.js';
import { selfSignedCertificate } from './support/self-signed-certificate.js';
import { startTokenEndpoint } from './support/token-endpoint.js';

const ends: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** Runs the checks of the providers, without a database. */
function findingsOf(identityProviders: IdentityProvidersOptions) {
  const url = 'postgres://doctor@127.0.0.1:9/none';
  return examine({ url, hasDatabase: false, tokens: { identityProviders } }, 'providers');
}

/** Runs the checks of Keycloak, without a database. */
function findingsOfKeycloak(keycloak: KeycloakModuleOptions) {
  const url = 'postgres://doctor@127.0.0.1:9/none';
  return examine({ url, hasDatabase: false, tokens: { keycloak } }, 'keycloak');
}

describe('the doctor, about a provider', () => {
  const client = { clientId: 'doctor', clientSecret: 'secret of the doctor, long enough' };
  const policy = { exchangeTimeoutMs: 3000, leaseMs: 10_000 };

  it('sees that a certified server accepts the client, and refuses another secret', async () => {
    const server = await startAuthorizationServer({ ...client, redirectUris: ['http://127.0.0.1:9/callback'] });
    ends.push(() => server.stop());
    const { tokenEndpoint } = server;
    const [right, wrong, unknown, discovered, elsewhere] = await findingsOf({
      right: { ...client, tokenEndpoint },
      wrong: { ...client, clientSecret: 'another secret, as long as this', tokenEndpoint },
      unknown: { ...client, clientId: 'nobody', tokenEndpoint },
      discovered: { ...client, issuer: server.issuer },
      elsewhere: { ...client, issuer: `${server.issuer}/elsewhere` },
    });
    expect(discovered).toMatchObject({
      level: 'ok',
      message: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/ refuses a token that cannot exist by invalid_grant/),
    });
    expect(elsewhere).toMatchObject({
      level: 'fault',
      message: `${server.issuer}/elsewhere has no token endpoint (http_404).`,
    });
    expect(right).toMatchObject({
      check: 'provider right',
      level: 'ok',
      message: expect.stringContaining('invalid_grant'),
    });
    for (const finding of [wrong, unknown]) {
      expect(finding).toMatchObject({
        level: 'fault',
        message: `${tokenEndpoint} refuses the client (invalid_client).`,
        remedy: expect.stringMatching(/clientId, clientSecret .* in identityProviders\.(wrong|unknown)/),
      });
    }
    expect((await server.countRequests()).refreshGrants).toBe(0);
  });

  it.each(['github', 'gitlab', 'bitbucket'] as const)(
    'knows how %s refuses a token, and how a client',
    async (kind) => {
      const standIn = await ProviderStandIn.start({ kind });
      ends.push(() => standIn.stop());
      const { baseUrl } = standIn;
      const tokenEndpoint = kind === 'bitbucket' ? `${baseUrl}/site/oauth2/access_token` : undefined;
      const options =
        kind === 'bitbucket' ? { ...standIn.client, kind, tokenEndpoint } : { ...standIn.client, kind, baseUrl };
      const findings = await findingsOf({ right: options, wrong: { ...options, clientSecret: 'wrong' } });
      expect(findings.map(({ level }) => level)).toEqual(['ok', 'fault']);
      expect(standIn.violations.filter((violation) => !/client|secret/i.test(violation))).toEqual([]);
    },
  );

  it('sends nothing but a token that cannot exist, once', async () => {
    const endpoint = await startTokenEndpoint();
    ends.push(() => endpoint.close());
    endpoint.answer = () => ({ status: 400, body: { error: 'invalid_grant' } });
    expect(
      findingOf(await findingsOf({ acme: { ...client, tokenEndpoint: endpoint.url } }), 'provider acme').level,
    ).toBe('ok');
    expect(endpoint.redeemed).toEqual([expect.stringMatching(/^doctor[0-9a-f]{64}$/)]);
    expect(endpoint.revoked).toEqual([]);
  });

  it('refuses a redirect, and does not follow it', async () => {
    const [endpoint, target] = [await startTokenEndpoint(), await startTokenEndpoint()];
    ends.push(
      () => endpoint.close(),
      () => target.close(),
    );
    endpoint.answer = () => ({ status: 308, headers: { location: target.url } });
    const findings = await findingsOf({ acme: { ...client, tokenEndpoint: endpoint.url } });
    expect(findingOf(findings, 'provider acme', 'fault').message).toContain('redirects (http_308)');
    expect(target.redeemed).toEqual([]);
  });

  it('refuses a server that is not there, one whose certificate it does not trust, and one that never answers', async () => {
    const { certificate, privateKey } = selfSignedCertificate('localhost');
    const encrypted = createHttpsServer({ cert: certificate, key: privateKey }).listen(0, '127.0.0.1');
    const silent = createServer(() => undefined).listen(0, '127.0.0.1');
    await Promise.all([once(encrypted, 'listening'), once(silent, 'listening')]);
    ends.push(async () => {
      encrypted.close();
      silent.close();
      await Promise.resolve();
    });
    const portOf = (server: { address(): unknown }) => (server.address() as AddressInfo).port;
    const findings = await findingsOf({
      absent: { ...client, tokenEndpoint: `http://127.0.0.1:${await freePort()}/token`, policy },
      untrusted: { ...client, tokenEndpoint: `https://localhost:${portOf(encrypted)}/token`, policy },
      silent: { ...client, tokenEndpoint: `http://127.0.0.1:${portOf(silent)}/token`, policy },
    });
    expect(findings.map(({ level }) => level)).toEqual(['fault', 'fault', 'fault']);
    expect(findings.map(({ message }) => message)).toEqual([
      expect.stringContaining('cannot be reached (ECONNREFUSED)'),
      expect.stringMatching(/cannot be reached \([A-Z_]*(CERT|SIGNED)[A-Z_]*\)/),
      expect.stringContaining('no complete answer (TIMEOUT)'),
    ]);
    expect(findings[1]?.remedy).toContain('NODE_EXTRA_CA_CERTS');
  });

  it('waits 15 s for a provider of the host that never settles, and reports the others', async () => {
    const endpoint = await startTokenEndpoint();
    ends.push(() => endpoint.close());
    endpoint.answer = () => ({ status: 400, body: { error: 'invalid_grant' } });
    const hanging = { policy: completePolicy(), refresh: () => new Promise<never>(() => undefined) };
    const findings = await findingsOf({
      hanging,
      acme: { ...client, tokenEndpoint: endpoint.url },
    });
    expect(findingOf(findings, 'provider hanging', 'fault').message).toBe(
      'The provider object of the host gives no complete answer (TIMEOUT).',
    );
    expect(findingOf(findings, 'provider acme').level).toBe('ok');
  }, 40_000);

  it('has one line if there is no provider', async () => {
    expect(await findingsOf({})).toEqual([
      { check: 'providers', level: 'ok', message: 'No identity provider is configured.' },
    ]);
  });
});

describe('the doctor, about Keycloak', () => {
  let keycloak: KeycloakStandIn;
  let options: KeycloakModuleOptions;

  beforeEach(async () => {
    keycloak = new KeycloakStandIn();
    await keycloak.start();
    ends.push(() => keycloak.stop());
    options = {
      serverUrl: keycloak.url,
      realm: 'app',
      clientId: 'backend',
      clientSecret: 'backend-secret',
      timeoutMs: 10_000,
    };
  });

  it('accepts the realm, its client, and the scope of offline tokens', async () => {
    keycloak.scopes = ['openid', 'offline_access'];
    const findings = await findingsOfKeycloak(options);
    expect(findings.map(({ check, level }) => `${check} ${level}`)).toEqual([
      'keycloak realm ok',
      'keycloak client ok',
      'keycloak offline tokens ok',
    ]);
    expect(findingOf(findings, 'keycloak client').message).toContain('refreshOwner is "module"');
    expect(keycloak.redemptions).toBe(1);
  });

  it('says who refreshes', async () => {
    const findings = await findingsOfKeycloak({ ...options, refreshOwner: 'keycloak' });
    expect(findingOf(findings, 'keycloak client').message).toContain('refreshOwner is "keycloak"');
  });

  it.each([
    ['another secret', { clientSecret: 'wrong' }],
    ['another client', { clientId: 'nobody' }],
  ])('refuses %s', async (_, wrong) => {
    const findings = await findingsOfKeycloak({ ...options, ...wrong });
    expect(findingOf(findings, 'keycloak client', 'fault').remedy).toContain('keycloak.clientSecret');
    expect(findingOf(findings, 'keycloak realm').level).toBe('ok');
  });

  it('refuses a realm that does not exist, another issuer, and a server that does not answer', async () => {
    const message = async (wrong: Partial<KeycloakModuleOptions>) => {
      const findings = await findingsOfKeycloak({ ...options, ...wrong });
      expect(findings).toHaveLength(1);
      return findingOf(findings, 'keycloak realm', 'fault').message;
    };
    expect(await message({ realm: 'other' })).toContain('has no realm');
    expect(await message({ issuer: 'https://login.example.com/realms/app' })).toContain('another issuer');
    keycloak.faults.push('hang', 'hang');
    expect(await message({ timeoutMs: 500 })).toContain('TIMEOUT');
    expect(await message({ serverUrl: `http://127.0.0.1:${await freePort()}` })).toContain('ECONNREFUSED');
  });

  it('warns of metadata without offline_access, and claims nothing if they name no scopes', async () => {
    keycloak.scopes = ['openid'];
    expect(findingOf(await findingsOfKeycloak(options), 'keycloak offline tokens').level).toBe('warning');
    keycloak.scopes = undefined;
    expect(findingOf(await findingsOfKeycloak(options), 'keycloak offline tokens').message).toContain('not to be seen');
  });
});
