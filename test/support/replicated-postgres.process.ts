/**
 * Runs a primary and its standby until the parent process ends in any way. Sends their URLs when the standby streams.
 * Then it answers each request with the text of an error, or with an empty text.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import pg from 'pg';

import { freePort } from '../../examples/support/free-port.js';
import { findPostgresPrograms, postgresUser } from './postgres-programs.js';
import { queryDatabase } from './query-database.js';
import type { ReplicatedPostgresRequest, ReplicatedPostgresSettings } from './replicated-postgres.js';
import { until } from './until.js';

const STANDBY = 'standby';

const { isSynchronous } = JSON.parse(process.argv[2] ?? '{}') as ReplicatedPostgresSettings;
const programs = findPostgresPrograms() ?? '';
const user = await postgresUser();
const directory = await mkdtemp(join(tmpdir(), 'idp-tokens-failover-'));
const password = randomBytes(16).toString('hex');
const surroundings = { ...user, cwd: directory, env: { ...process.env, LC_ALL: 'C' } };
const servers: Server[] = [];

/**
 * The settings of the primary. They are in the file, because ALTER SYSTEM cannot change settings of the command line.
 * The standby gets a copy of the file.
 */
const CONFIGURATION = `
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
synchronous_commit = on
synchronous_standby_names = '${isSynchronous ? STANDBY : ''}'
# The operating system stays up, so that it brings to the disk what a killed server has written.
fsync = off
`;

interface Server {
  readonly data: string;
  readonly url: string;
  readonly child: ChildProcess;
}

let isStopping = false;
process.on('message', (request: ReplicatedPostgresRequest) => {
  void answer(request).then(
    () => {
      tellParent('');
    },
    (error: unknown) => {
      tellParent(String(error));
    },
  );
});
process.on('disconnect', () => void stop(0));
process.on('SIGTERM', () => void stop(0));

const starting = start();
// The parent may have ended before this process listened for 'disconnect'.
if (!process.connected) await stop(0);
try {
  const [primary, standby] = await starting;
  tellParent({ primaryUrl: primary.url, standbyUrl: standby.url });
} catch (error) {
  tellParent({ error: String(error) });
  await stop(1);
}

function answer(request: ReplicatedPostgresRequest): Promise<void> {
  switch (request) {
    case 'kill-primary':
      return killPrimary();
    case 'revive-primary':
      return revivePrimary();
    case 'promote':
      return promote();
  }
}

async function start(): Promise<[primary: Server, standby: Server]> {
  if (user.uid !== undefined && user.gid !== undefined) await chown(directory, user.uid, user.gid);
  const passwordFile = join(directory, 'password');
  await writeFile(passwordFile, password);
  const data = join(directory, 'primary');
  const authentication = ['--auth=scram-sha-256', `--pwfile=${passwordFile}`];
  await run('initdb', '-D', data, '-U', 'postgres', '--encoding=UTF8', '--no-sync', ...authentication);
  await appendFile(join(data, 'postgresql.conf'), CONFIGURATION);
  const primary = await startServer(data);

  const copy = join(directory, 'standby');
  const way = `${primary.url}?application_name=${STANDBY}`;
  await run('pg_basebackup', '-d', way, '-D', copy, '--checkpoint=fast', '--no-sync', '--write-recovery-conf');
  const standby = await startServer(copy);
  const state = isSynchronous ? 'sync' : 'async';
  await until(async () => {
    const sql = 'SELECT state, sync_state FROM pg_stat_replication WHERE application_name = $1';
    const [row] = await queryDatabase(primary.url, sql, [STANDBY]);
    return row?.state === 'streaming' && row.sync_state === state;
  }, 20_000);
  return [primary, standby];
}

async function startServer(data: string, port?: number): Promise<Server> {
  port ??= await freePort();
  const url = `postgres://postgres:${password}@127.0.0.1:${port}/postgres`;
  const child = spawn(join(programs, 'postgres'), ['-D', data, '-p', String(port)], {
    ...surroundings,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const server = { data, url, child };
  servers.push(server);
  await until(async () => {
    if (hasEnded(child)) throw new Error(`A server did not start:\n${log}`);
    return queryDatabase(url, 'SELECT').then(
      () => true,
      () => false,
    );
  }, 20_000);
  return server;
}

/**
 * Kills all processes of the primary. It stops the postmaster first. A stopped postmaster starts no process and waits
 * for none, so no process id can have been given to another process.
 */
async function killPrimary(): Promise<void> {
  const [primary] = await starting;
  const monitor = new pg.Client({ connectionString: primary.url });
  monitor.on('error', () => undefined); // the connection breaks with the server
  await monitor.connect();
  const exit = once(primary.child, 'exit');
  primary.child.kill('SIGSTOP');
  const { rows } = await monitor.query<{ pid: number }>('SELECT pid FROM pg_stat_activity');
  for (const { pid } of rows) process.kill(pid, 'SIGKILL');
  primary.child.kill('SIGKILL');
  await exit;
}

async function revivePrimary(): Promise<void> {
  const [primary] = await starting;
  await startServer(primary.data, Number(new URL(primary.url).port));
}

async function promote(): Promise<void> {
  const [, standby] = await starting;
  await run('pg_ctl', 'promote', '-w', '-D', standby.data);
  // The standby has the configuration of the primary. Without this change every commit would wait for a standby.
  await queryDatabase(standby.url, "ALTER SYSTEM SET synchronous_standby_names = ''");
  await queryDatabase(standby.url, 'SELECT pg_reload_conf()');
  await until(async () => {
    const [row] = await queryDatabase(standby.url, 'SHOW synchronous_standby_names');
    return row?.synchronous_standby_names === '';
  });
}

async function stop(exitCode: number): Promise<void> {
  if (isStopping) return;
  isStopping = true;
  // rm() fails while a server fills its data directory.
  await starting.catch(() => undefined);
  for (const { child } of servers.reverse()) {
    if (hasEnded(child)) continue;
    const exit = once(child, 'exit');
    child.kill('SIGCONT');
    child.kill('SIGQUIT');
    await exit;
  }
  await rm(directory, { recursive: true, force: true });
  process.exit(exitCode);
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

async function run(program: string, ...args: string[]): Promise<void> {
  await promisify(execFile)(join(programs, program), args, surroundings);
}

/** Sends a message to the parent. It ignores a parent that has ended, because 'disconnect' stops this process. */
function tellParent(message: object | string): void {
  process.send?.(message, undefined, undefined, () => undefined);
}
