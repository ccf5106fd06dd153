/**
 * Runs an authorization server on the loopback interface until its parent ends. It is a process of its own, so that
 * requests reach it over the network as they reach any other provider. It sends its issuer to the parent when it
 * listens.
 */
import './provider-warnings.js';

import { once } from 'node:events';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

import { type ClientAuthMethod, type JWK, Provider } from 'oidc-provider';

import { providerConfiguration } from './provider-configuration.js';
import { RequestCounter } from './request-counter.js';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    'client-id': { type: 'string', default: '' },
    'client-secret': { type: 'string', default: '' },
    'client-authentication': { type: 'string', default: 'client_secret_basic' },
    'client-key': { type: 'string' },
    'redirect-uri': { type: 'string', multiple: true, default: [] },
    'access-token-ttl': { type: 'string', default: '5' },
  },
});

process.on('disconnect', () => process.exit(0));
process.on('SIGTERM', () => process.exit(0));
// The parent may have ended before the process began to listen for the `disconnect` event.
if (!process.connected) process.exit(0);

try {
  // Listens first, because the issuer contains the port.
  const server = createServer().listen(Number(values.port), '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (!address || typeof address !== 'object') throw new Error('The authorization server has no port.');
  const issuer = `http://127.0.0.1:${address.port}`;

  const configuration = await providerConfiguration({
    clientId: values['client-id'],
    clientSecret: values['client-secret'],
    clientAuthentication: values['client-authentication'] as ClientAuthMethod,
    clientKey: values['client-key'] === undefined ? undefined : (JSON.parse(values['client-key']) as JWK),
    redirectUris: values['redirect-uri'],
    accessTokenTtlSeconds: Number(values['access-token-ttl']),
  });
  const provider = new Provider(issuer, configuration);
  provider.use(new RequestCounter().middleware);
  const answer = provider.callback();
  server.on('request', (request, response) => void answer(request, response));
  process.send?.({ issuer });
} catch (error) {
  process.send?.({ error: String(error) }, () => process.exit(1));
}
