import { readFile } from 'node:fs/promises';

import { startScript } from '../../examples/support/child-process.js';
import { freePort } from '../../examples/support/free-port.js';
import type { Client, OAuthServer } from './oauth-server.js';

/** The settings of a better-auth process. They must be JSON. */
export interface BetterAuthSettings {
  readonly url: string;
  /** `refreshTokenReuseInterval`, in seconds. */
  readonly reuseIntervalSeconds: number;
  /** A PostgreSQL database without tables. Default: the memory of the process. */
  readonly databaseUrl?: string;
}

/** The message of a better-auth process that is ready. */
export interface BetterAuthReady {
  readonly client: Client;
  readonly otherClient: Client;
}

const PASSWORD = 'the password of this user';

/** Starts better-auth with its OAuth provider in a process of its own. */
export async function startBetterAuth(settings: Omit<BetterAuthSettings, 'url'>): Promise<OAuthServer> {
  const url = `http://127.0.0.1:${await freePort()}`;
  const api = `${url}/api/auth`;
  const script = await startScript<BetterAuthReady>(new URL('./better-auth.process', import.meta.url), [
    JSON.stringify({ ...settings, url } satisfies BetterAuthSettings),
  ]);
  let users = 0;
  const storage = settings.databaseUrl ? 'in PostgreSQL' : 'in memory';
  return {
    version:
      `better-auth ${await versionOf('better-auth')} with @better-auth/oauth-provider ` +
      `${await versionOf('@better-auth/oauth-provider')} ${storage}, ` +
      `refreshTokenReuseInterval ${settings.reuseIntervalSeconds}`,
    authorizationEndpoint: `${api}/oauth2/authorize`,
    tokenEndpoint: `${api}/oauth2/token`,
    revocationEndpoint: `${api}/oauth2/revoke`,
    resourceEndpoint: `${api}/oauth2/userinfo`,
    client: script.ready.client,
    otherClient: script.ready.otherClient,
    scope: 'openid offline_access',
    async newUser() {
      const email = `user-${++users}@example.com`;
      const login = await post(`${api}/sign-up/email`, { email, password: PASSWORD, name: 'User' }, { origin: url });
      const cookie = login.headers
        .getSetCookie()
        .map((line) => line.split(';')[0])
        .join('; ');
      return {
        headers: { cookie },
        async delete() {
          await post(`${api}/delete-user`, { password: PASSWORD }, { origin: url, cookie });
        },
      };
    },
    stop: () => script.stop(),
  };
}

async function post(url: string, body: object, headers: Record<string, string>): Promise<Response> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`POST ${url} answered ${response.status}: ${text}`);
  return response;
}

async function versionOf(packageName: string): Promise<string> {
  const path = new URL(`./node_modules/${packageName}/package.json`, import.meta.url);
  return (JSON.parse(await readFile(path, 'utf8')) as { version: string }).version;
}
