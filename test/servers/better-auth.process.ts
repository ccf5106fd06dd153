/** better-auth with its OAuth provider, in a process of its own. The process ends with its parent. */
import { once } from 'node:events';
import { createServer } from 'node:http';

import { oauthProvider } from '@better-auth/oauth-provider';
import { betterAuth } from 'better-auth';
import { memoryAdapter } from 'better-auth/adapters/memory';
import { getAuthTables } from 'better-auth/db';
import { getMigrations } from 'better-auth/db/migration';
import { toNodeHandler } from 'better-auth/node';
import pg from 'pg';

import type { BetterAuthReady, BetterAuthSettings } from './better-auth.js';
import { REDIRECT_URI } from './oauth-server.js';

const { url, reuseIntervalSeconds, databaseUrl } = JSON.parse(process.argv[2] ?? '{}') as BetterAuthSettings;
const SCOPES = ['openid', 'offline_access', 'brief'];

const options = {
  baseURL: url,
  secret: 'a secret of better-auth in this suite',
  emailAndPassword: { enabled: true },
  user: { deleteUser: { enabled: true } },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  plugins: [
    oauthProvider({
      loginPage: '/login',
      consentPage: '/consent',
      disableJwtPlugin: true,
      scopes: SCOPES,
      scopeExpirations: { brief: '3s' },
      refreshTokenReuseInterval: reuseIntervalSeconds,
      silenceWarnings: { oauthAuthServerConfig: true },
    }),
  ],
};
const tables = () => Object.fromEntries(Object.keys(getAuthTables(options)).map((name) => [name, []]));
const database = databaseUrl ? new pg.Pool({ connectionString: databaseUrl }) : memoryAdapter(tables());
const auth = betterAuth({ ...options, database });
if (databaseUrl) await (await getMigrations(auth.options)).runMigrations();

const answer = toNodeHandler(auth);
const server = createServer((request, response) => void answer(request, response)).listen(
  Number(new URL(url).port),
  '127.0.0.1',
);
await once(server, 'listening');
const { headers } = await auth.api.signUpEmail({
  body: { email: 'operator@example.com', password: 'the password of the operator', name: 'Operator' },
  returnHeaders: true,
});
const cookie = headers
  .getSetCookie()
  .map((line) => line.split(';')[0])
  .join('; ');
const newClient = async (name: string) => {
  const { client_id: clientId, client_secret: clientSecret = '' } = await auth.api.adminCreateOAuthClient({
    headers: { cookie },
    body: {
      client_name: name,
      redirect_uris: [REDIRECT_URI],
      scope: SCOPES.join(' '),
      grant_types: ['authorization_code', 'refresh_token'],
      skip_consent: true,
    },
  });
  return { clientId, clientSecret };
};
const ready: BetterAuthReady = { client: await newClient('app'), otherClient: await newClient('other') };
process.on('disconnect', () => process.exit(0));
process.send?.(ready);
