import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { freePort } from '../examples/support/free-port.js';
import { KeycloakMisconfiguredError, KeycloakTokens, KeycloakUnavailableError } from '../src/index.js';
import { KeycloakTokenVerifier } from '../src/keycloak/keycloak-token-verifier.js';
import { failureOf, type KeycloakHost, KeycloakSurroundings } from './support/keycloak-host.js';
import { everythingPrinted } from './support/secrets.js';

const PUBLIC_URL = 'https://login.example/auth';
const REDIRECT_URI = 'http://localhost/callback';

const around = new KeycloakSurroundings();
const { keycloak } = around;
/** A server of the same network that must not get a request. */
let trap: Server;
let trapUrl: string;
let trapped: string[];

beforeAll(async () => {
  await around.start();
  trap = createServer((request, response) => {
    trapped.push(request.url ?? '');
    response.end('{}');
  });
  trap.listen(0, '127.0.0.1');
  await once(trap, 'listening');
  trapUrl = `http://127.0.0.1:${(trap.address() as AddressInfo).port}`;
});

afterAll(async () => {
  trap.closeAllConnections();
  trap.close();
  await around.stop();
});

let fetches: jest.SpiedFunction<typeof fetch>;

beforeEach(async () => {
  trapped = [];
  await around.reset();
  fetches = jest.spyOn(globalThis, 'fetch');
});

afterEach(() => {
  fetches.mockRestore();
});

/** Uses every endpoint of the metadata once, and one of the administration. */
async function useEverything({ app, sessions, manager, users }: KeycloakHost): Promise<void> {
  const code = await keycloak.logIn('ada', 'openid offline_access');
  const issued = (await sessions.getKeycloakTokens(code, REDIRECT_URI)) ?? new KeycloakTokens('', '');
  await expect(sessions.getUserInfo(issued.accessToken)).resolves.toMatchObject({ email: 'ada@example.com' });
  await expect(app.get(KeycloakTokenVerifier).verify(issued.accessToken)).resolves.toMatchObject({ typ: 'Bearer' });
  await manager.storeOfflineToken(keycloak.users.ada.id, issued.refreshToken);
  await expect(manager.checkOfflineTokenIsActive(keycloak.users.ada.id)).resolves.toBe(true);
  await expect(manager.getIdpTokenForAccessToken(issued.accessToken, 'acme')).resolves.toBeDefined();
  await expect(users.getUserIdFromUserEmail('ada@example.com')).resolves.toBe(keycloak.users.ada.id);
  const refreshed = await sessions.refresh(issued.refreshToken);
  await sessions.logout(refreshed.refreshToken);
  await expect(manager.checkOfflineTokenIsActive(keycloak.users.ada.id)).resolves.toBe(false);
}

function originsAsked(): Set<string> {
  return new Set(fetches.mock.calls.map(([url]) => new URL(url as string).origin));
}

describe('A Keycloak with a fixed public hostname', () => {
  it('is asked below serverUrl only, whatever host its metadata name', async () => {
    keycloak.publicUrl = PUBLIC_URL;
    const host = await around.startHost({ issuer: `${PUBLIC_URL}/realms/app` });
    await useEverything(host);
    expect(originsAsked()).toEqual(new Set([keycloak.url]));
  });

  it('whose metadata name the host of serverUrl is asked as before', async () => {
    await useEverything(await around.startHost());
    expect(originsAsked()).toEqual(new Set([keycloak.url]));
  });

  it('that is away is named by its host', async () => {
    const port = await freePort();
    const { sessions } = await around.startHost({ serverUrl: `http://127.0.0.1:${port}` });
    const failure = await failureOf(sessions.getUserInfo('token'));
    expect(failure).toBeInstanceOf(KeycloakUnavailableError);
    expect(String(failure)).toContain(`Check that http://127.0.0.1:${port} is up`);
    expect(String(failure)).not.toMatch(/hostname-backchannel-dynamic/);
  });

  it('without keycloak.issuer is a fault of the options that names the setting, before a secret is sent', async () => {
    keycloak.publicUrl = PUBLIC_URL;
    const { sessions } = await around.startHost();
    const failure = await failureOf(sessions.getKeycloakTokens('code', REDIRECT_URI));
    expect(failure).toBeInstanceOf(KeycloakMisconfiguredError);
    expect(String(failure)).toMatch(/Set keycloak\.issuer/);
    expect(around.asked('POST')).toBe(0);
  });

  it('whose metadata name a third host that cannot be reached says which, and names the setting', async () => {
    const port = await freePort();
    keycloak.publicUrl = PUBLIC_URL;
    keycloak.endpointsUrl = `https://127.0.0.1:${port}`;
    const { sessions, manager } = await around.startHost({ issuer: `${PUBLIC_URL}/realms/app` });
    const { accessToken, refreshToken } = await around.logIn('ada', 'openid offline_access');
    await manager.storeOfflineToken(keycloak.users.ada.id, refreshToken);
    for (const call of [
      () => sessions.getKeycloakTokens('code', REDIRECT_URI),
      () => sessions.getUserInfo(accessToken),
      () => sessions.logout(refreshToken),
      () => manager.checkOfflineTokenIsActive(keycloak.users.ada.id),
      () => manager.validateOfflineToken(keycloak.users.ada.id),
    ]) {
      const failure = await failureOf(call());
      expect(failure).toBeInstanceOf(KeycloakUnavailableError);
      expect(String(failure)).toContain(`https://127.0.0.1:${port}`);
      expect(String(failure)).toMatch(/hostname-backchannel-dynamic/);
      expect(String(failure)).toMatch(/ECONNREFUSED/);
      expect(everythingPrinted(failure)).not.toMatch(/eyJ|backend-secret/);
    }
  });

  it('gets no secret at an unencrypted host that only its metadata name', async () => {
    keycloak.publicUrl = PUBLIC_URL;
    keycloak.endpointsUrl = trapUrl;
    const { sessions } = await around.startHost({ issuer: `${PUBLIC_URL}/realms/app` });
    const failure = await failureOf(sessions.getKeycloakTokens('code', REDIRECT_URI));
    expect(failure).toBeInstanceOf(KeycloakMisconfiguredError);
    expect(String(failure)).toMatch(/names no usable token_endpoint/);
    expect(trapped).toEqual([]);
  });

  it.each([PUBLIC_URL.replace('https:', 'http:'), 'https://login.example:8443/auth'])(
    'is asked below serverUrl only, if its metadata name its public host as %s',
    async (endpointsUrl) => {
      Object.assign(keycloak, { publicUrl: PUBLIC_URL, endpointsUrl });
      await useEverything(await around.startHost({ issuer: 'https://LOGIN.example:443/auth/realms/app/' }));
      expect(originsAsked()).toEqual(new Set([keycloak.url]));
    },
  );

  it('cannot lead a request out of the realm by its metadata', async () => {
    keycloak.publicUrl = PUBLIC_URL;
    const paths = [
      '/../other/protocol/openid-connect/token',
      '/%2e%2e/other/protocol/openid-connect/token',
      '/..\\other/protocol/openid-connect/token',
      `//${new URL(trapUrl).host}/token`,
      `/@${new URL(trapUrl).host}/token`,
    ];
    for (const path of paths) {
      keycloak.endpointsUrl = undefined;
      keycloak.tokenPath = path;
      const { sessions } = await around.startHost({ issuer: `${PUBLIC_URL}/realms/app` });
      fetches.mockClear();
      await failureOf(sessions.getKeycloakTokens('code', REDIRECT_URI));
      for (const [sent, init] of fetches.mock.calls) {
        const url = new URL(sent);
        const isInRealm = url.origin === keycloak.url && url.pathname.startsWith('/realms/app/');
        // Not below the issuer, so the endpoint is taken as it is named: on the public host, which is encrypted.
        const isAsNamed = url.origin === new URL(PUBLIC_URL).origin;
        expect({ path, url: url.href, isGood: isInRealm || isAsNamed }).toEqual({ path, url: url.href, isGood: true });
        expect(init?.method === 'POST' && url.protocol === 'http:' && !isInRealm).toBe(false);
      }
    }
    expect(trapped).toEqual([]);
  });
});
