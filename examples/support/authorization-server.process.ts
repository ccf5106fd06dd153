/**
 * Runs an authorization server on the loopback interface until its parent goes away. A process of its own, so that
 * what it is asked comes over the network as from any other provider. Sends its issuer to the parent when it listens.
 */
import './provider-warnings.js';

import { once } from 'node:events';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

import { Provider } from 'oidc-provider';

import { providerConfiguration } from './provider-configuration.js';
import { RequestCounter } from './request-counter.js';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    'client-id': { type: 'string', default: '' },
    'client-secret': { type: 'string', default: '' },
    'redirect-uri': { type: 'string', multiple: true, default: [] },
    'access-token-ttl': { type: 'string', default: '5' },
  },
});

process.on('disconnect', () => process.exit(0));
process.on('SIGTERM', () => process.exit(0));
// The parent may have gone before anybody listened for it.
if (!process.connected) process.exit(0);

try {
  // Listens first: the issuer names the port.
  const server = createServer().listen(Number(values.port), '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (!address || typeof address !== 'object') throw new Error('The authorization server has no port.');
  const issuer = `http://127.0.0.1:${address.port}`;

  const configuration = await providerConfiguration({
    clientId: values['client-id'],
    clientSecret: values['client-secret'],
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
