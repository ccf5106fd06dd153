import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { freePort } from '../../examples/support/free-port.js';
import { until } from '../support/until.js';
import { type OAuthServer, REDIRECT_URI, type ServerUser } from './oauth-server.js';

const STARTED_WITHIN_MS = 60_000;
const STOPPED_WITHIN_MS = 10_000;

/** A client whose credentials change when they are form-encoded. */
export const SPECIAL_CLIENT = { clientId: 'special client', clientSecret: 'a+secret/with%signs:' };

/** Doorkeeper, and what its users can do beside OAuth. */
export interface Doorkeeper extends OAuthServer {
  /** The user ends the access of the application, on the page of authorized applications. */
  disconnect(user: ServerUser): Promise<void>;
}

/**
 * Starts Doorkeeper, from Debian's packages, with a database of its own.
 *
 * @param hasPreviousRefreshToken whether its table of access tokens has the column `previous_refresh_token`
 */
export async function startDoorkeeper({ hasPreviousRefreshToken = false } = {}): Promise<Doorkeeper> {
  const directory = await mkdtemp(join(tmpdir(), 'idp-tokens-doorkeeper-'));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const client = { clientId: 'app', clientSecret: 'secret-of-the-app' };
  const otherClient = { clientId: 'other', clientSecret: 'secret-of-the-other' };
  const rackup = fileURLToPath(new URL('./doorkeeper.ru', import.meta.url));
  const child = spawn('puma', ['--quiet', '--environment', 'production', '--bind', `tcp://127.0.0.1:${port}`, rackup], {
    cwd: directory,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      ...process.env,
      RAILS_ENV: 'production',
      DOORKEEPER_DATABASE: join(directory, 'doorkeeper.sqlite3'),
      DOORKEEPER_COLUMNS: hasPreviousRefreshToken ? 'previous_refresh_token' : '',
      DOORKEEPER_CLIENTS: JSON.stringify(
        [client, otherClient, SPECIAL_CLIENT].map(({ clientId: uid, clientSecret: secret }) => ({
          name: uid,
          uid,
          secret,
          redirect_uri: REDIRECT_URI,
        })),
      ),
    },
  });
  const exit = once(child, 'exit');
  const log: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => log.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => log.push(chunk));
  const stop = async () => {
    child.stdin.end(); // the server ends when its standard input does
    const kill = setTimeout(() => child.kill('SIGKILL'), STOPPED_WITHIN_MS);
    await exit;
    clearTimeout(kill);
    await rm(directory, { recursive: true, force: true });
  };

  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  const version = await textOf(`${url}/versions`, hasEnded).catch(async (error: unknown) => {
    await stop();
    throw new Error(`Doorkeeper did not start: ${String(error)}\n${Buffer.concat(log).toString()}`);
  });
  let users = 0;
  return {
    version: `${version}, ${hasPreviousRefreshToken ? 'with' : 'without'} previous_refresh_token`,
    authorizationEndpoint: `${url}/oauth/authorize`,
    tokenEndpoint: `${url}/oauth/token`,
    revocationEndpoint: `${url}/oauth/revoke`,
    resourceEndpoint: `${url}/me`,
    client,
    otherClient,
    scope: 'api',
    async newUser() {
      const name = `user-${++users}`;
      await succeed(`${url}/users/${name}`, { method: 'POST' });
      return {
        headers: { 'x-user': name },
        delete: () => succeed(`${url}/users/${name}`, { method: 'DELETE' }),
      };
    },
    disconnect: ({ headers }) => succeed(`${url}/oauth/authorized_applications/1`, { method: 'DELETE', headers }),
    stop,
  };
}

/** Returns the text at a URL as soon as a server answers there. */
async function textOf(url: string, hasEnded: () => boolean): Promise<string> {
  let text: string | undefined;
  await until(async () => {
    if (hasEnded()) throw new Error('its process has ended');
    const response = await fetch(url).catch(() => undefined);
    text = response?.ok ? await response.text() : undefined;
    return text !== undefined;
  }, STARTED_WITHIN_MS);
  return text ?? '';
}

async function succeed(url: string, request: RequestInit): Promise<void> {
  const response = await fetch(url, { ...request, redirect: 'manual' });
  await response.arrayBuffer();
  if (response.status >= 400) throw new Error(`${request.method ?? 'GET'} ${url} answered ${response.status}.`);
}
