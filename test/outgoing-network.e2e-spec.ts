import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';

import { type ForwardProxy, startForwardProxy } from './support/forward-proxy.js';
import { type OneRefreshSettings, refreshOnce, type RefreshOutcome } from './support/one-refresh.js';
import { selfSignedCertificate } from './support/self-signed-certificate.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { TEST_KEY } from './support/tokens-app.js';

/** A host that no name server knows, so that only the proxy reaches it. */
const HOST = 'provider.invalid';

let folder: string;
let caFile: string;
let database: TestDatabase;
let endpoint: TokenEndpoint;
let secureEndpoint: Server;
let proxy: ForwardProxy;
let secureProxy: ForwardProxy;
let securePort: number;
let ofProvider: ReturnType<typeof selfSignedCertificate>;
/** The refresh tokens that the endpoint behind TLS received. */
const redeemedSecurely: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'idp-tokens-network-'));
  const { certificate, privateKey } = selfSignedCertificate('localhost');
  ofProvider = selfSignedCertificate(HOST);
  caFile = join(folder, 'ca.pem');
  await writeFile(caFile, certificate + ofProvider.certificate);
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  endpoint.answer = () => newPair({ access_token: 'new' });
  secureEndpoint = createServer({ cert: certificate, key: privateKey }, (request, response) => {
    void text(request).then((body) => {
      redeemedSecurely.push(new URLSearchParams(body).get('refresh_token') ?? '');
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(newPair({ access_token: 'new' }).body));
    });
  });
  secureEndpoint.addContext(HOST, { cert: ofProvider.certificate, key: ofProvider.privateKey });
  secureEndpoint.listen(0, '127.0.0.1');
  await once(secureEndpoint, 'listening');
  securePort = (secureEndpoint.address() as AddressInfo).port;
  proxy = await startForwardProxy(Number(new URL(endpoint.url).port));
  secureProxy = await startForwardProxy(securePort);
});

afterAll(async () => {
  await proxy.close();
  await secureProxy.close();
  await endpoint.close();
  secureEndpoint.closeAllConnections();
  secureEndpoint.close();
  await once(secureEndpoint, 'close');
  await database.drop();
  await rm(folder, { recursive: true });
});

beforeEach(() => {
  for (const list of [proxy.asked, secureProxy.asked, endpoint.redeemed, redeemedSecurely]) list.length = 0;
});

let users = 0;

async function refreshAt(
  tokenEndpoint: string,
  settings: Pick<OneRefreshSettings, 'dispatcher' | 'proxyUrl'>,
  environment: Record<string, string> = {},
): Promise<RefreshOutcome> {
  const acme = { tokenEndpoint, clientId: 'app', clientSecret: 'app-secret' };
  const options = { encryption: { keys: [TEST_KEY] }, identityProviders: { acme } };
  return refreshOnce({ databaseUrl: database.url, options, user: `user-${++users}`, ...settings }, environment);
}

describe('A refresh at a provider that only a proxy reaches', () => {
  const plain = `http://${HOST}/token`;
  const secure = `https://${HOST}/token`;

  it('fails without the proxy, and sends nothing', async () => {
    const { error } = await refreshAt(plain, {});
    expect(error).toMatch(/^RefreshUnavailableError: .*(ENOTFOUND|EAI_AGAIN)/);
    expect(endpoint.redeemed).toEqual([]);
  });

  it('goes through the ProxyAgent that the host has set for all of its requests', async () => {
    await expect(refreshAt(plain, { dispatcher: 'ProxyAgent', proxyUrl: proxy.url })).resolves.toEqual({
      accessToken: 'new',
    });
    expect(endpoint.redeemed).toEqual(['to-redeem']);
    expect(proxy.asked).toEqual([
      expect.stringMatching(/^(CONNECT provider\.invalid:80|POST http:\/\/provider\.invalid\/token)$/),
    ]);
  });

  it('goes through a tunnel of the proxy if the provider has an https URL', async () => {
    const ca = { NODE_EXTRA_CA_CERTS: caFile };
    await expect(refreshAt(secure, { dispatcher: 'ProxyAgent', proxyUrl: secureProxy.url }, ca)).resolves.toEqual({
      accessToken: 'new',
    });
    expect(redeemedSecurely).toEqual(['to-redeem']);
    expect(secureProxy.asked).toEqual([`CONNECT ${HOST}:443`]);
  });

  it('goes by HTTP_PROXY, HTTPS_PROXY and NO_PROXY with EnvHttpProxyAgent', async () => {
    const environment = { HTTP_PROXY: proxy.url, HTTPS_PROXY: secureProxy.url, NODE_EXTRA_CA_CERTS: caFile };
    const dispatcher = { dispatcher: 'EnvHttpProxyAgent' } as const;
    await expect(refreshAt(plain, dispatcher, environment)).resolves.toEqual({ accessToken: 'new' });
    await expect(refreshAt(secure, dispatcher, environment)).resolves.toEqual({ accessToken: 'new' });
    expect([proxy.asked.length, secureProxy.asked.length]).toEqual([1, 1]);
    const { error } = await refreshAt(plain, dispatcher, { ...environment, NO_PROXY: HOST });
    expect(error).toMatch(/ENOTFOUND|EAI_AGAIN/);
    expect([proxy.asked.length, secureProxy.asked.length]).toEqual([1, 1]);
  });

  it.each([407, 502])('is known not to be sent when the proxy refuses the tunnel with %d', async (status) => {
    secureProxy.refusal = status;
    const { error } = await refreshAt(secure, { dispatcher: 'ProxyAgent', proxyUrl: secureProxy.url });
    secureProxy.refusal = undefined;
    expect(error).toMatch(new RegExp(`^RefreshUnavailableError: .*PROXY_${status}`));
    const state = 'lease_outcome_unknown, lease_id, open_leases, failure_kind, last_error_code, status';
    const rows = await database.query(`SELECT ${state} FROM auth_tokens WHERE keycloak_user_id = $1`, [
      `user-${users}`,
    ]);
    expect(rows).toEqual([
      {
        lease_outcome_unknown: false,
        lease_id: null,
        open_leases: 0,
        failure_kind: 'transient',
        last_error_code: `PROXY_${status}`,
        status: 'active',
      },
    ]);
  });

  it('is known not to be sent when the certificate of the proxy is of another host', async () => {
    const ofOtherHost = createServer({ cert: ofProvider.certificate, key: ofProvider.privateKey });
    ofOtherHost.listen(0, '127.0.0.1');
    await once(ofOtherHost, 'listening');
    const proxyUrl = `https://localhost:${(ofOtherHost.address() as AddressInfo).port}`;
    const { error } = await refreshAt(
      secure,
      { dispatcher: 'ProxyAgent', proxyUrl },
      { NODE_EXTRA_CA_CERTS: caFile },
    ).finally(() => ofOtherHost.close());
    expect(error).toMatch(/^RefreshUnavailableError: .*UND_ERR_PRX_TLS/);
    const rows = await database.query(
      'SELECT failure_kind, lease_outcome_unknown FROM auth_tokens WHERE keycloak_user_id = $1',
      [`user-${users}`],
    );
    expect(rows).toEqual([{ failure_kind: 'transient', lease_outcome_unknown: false }]);
  });

  if (Number(process.versions.node.split('.')[0]) < 24) {
    process.stdout.write(`NOT RUN: NODE_USE_ENV_PROXY. It needs Node.js 24, and this is ${process.version}.\n`);
    return;
  }

  it('goes by HTTP_PROXY with NODE_USE_ENV_PROXY=1, without code', async () => {
    const environment = { HTTP_PROXY: proxy.url, NODE_USE_ENV_PROXY: '1' };
    await expect(refreshAt(plain, {}, environment)).resolves.toEqual({ accessToken: 'new' });
    expect(proxy.asked).toHaveLength(1);
  });
});

describe('A refresh at a provider whose certificate is of an authority of its own', () => {
  it('fails before anything is sent', async () => {
    const { error } = await refreshAt(`https://localhost:${securePort}/token`, {});
    expect(error).toMatch(/^RefreshUnavailableError: .*(SELF_SIGNED|UNABLE_TO_VERIFY)/);
    expect(redeemedSecurely).toEqual([]);
  });

  it('is done with NODE_EXTRA_CA_CERTS', async () => {
    const url = `https://localhost:${securePort}/token`;
    await expect(refreshAt(url, {}, { NODE_EXTRA_CA_CERTS: caFile })).resolves.toEqual({ accessToken: 'new' });
    expect(redeemedSecurely).toEqual(['to-redeem']);
  });
});
