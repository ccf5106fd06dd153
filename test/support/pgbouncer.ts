import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pg from 'pg';

import { freePort } from '../../examples/support/free-port.js';
import { postgresUser } from './postgres-programs.js';
import { queryDatabase } from './query-database.js';
import { until } from './until.js';

/** A running PgBouncer in transaction mode. */
export interface PgBouncer {
  /** Its address and port. */
  readonly host: string;
  /** Returns the URL of a database of the server through the pooler. */
  urlOf(databaseUrl: string): string;
  /** Returns how many transactions it has passed on since it started. */
  transactions(): Promise<number>;
  /** Ends it at once, and with it all connections of its clients. {@link start} starts it on the same port again. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Ends it and deletes its configuration. */
  stop(): Promise<void>;
}

/**
 * Starts a PgBouncer in front of all databases of a server. The program must be in PATH.
 *
 * @param poolSize the number of its connections to each database
 */
export async function startPgBouncer(serverUrl: string, { poolSize = 20 } = {}): Promise<PgBouncer> {
  const server = new URL(serverUrl);
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), 'idp-tokens-pgbouncer-'));
  const configuration = join(folder, 'pgbouncer.ini');
  const users = join(folder, 'users.txt');
  const runsAs = await postgresUser(); // PgBouncer does not run as root
  const quoted = (text: string) => `"${decodeURIComponent(text).replaceAll('"', '""')}"`;
  await writeFile(users, `${quoted(server.username)} ${quoted(server.password)}\n`);
  await writeFile(
    configuration,
    `[databases]
* = host=${server.hostname} port=${server.port || '5432'}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = plain
auth_file = ${users}
admin_users = ${server.username}
pool_mode = transaction
default_pool_size = ${poolSize}
max_client_conn = 2000
ignore_startup_parameters = extra_float_digits
`,
  );
  for (const file of [folder, configuration, users]) {
    if (runsAs.uid !== undefined && runsAs.gid !== undefined) await chown(file, runsAs.uid, runsAs.gid);
  }
  await chmod(folder, 0o700);

  const through = (databaseUrl: string) => {
    const url = new URL(databaseUrl);
    url.host = `127.0.0.1:${port}`;
    return url.href;
  };
  let child: ChildProcess | undefined;
  const log: string[] = [];

  async function start(): Promise<void> {
    const started = spawn('pgbouncer', ['-q', configuration], { ...runsAs, stdio: ['ignore', 'ignore', 'pipe'] });
    child = started;
    started.stderr.on('data', (text: Buffer) => log.push(text.toString()));
    await once(started, 'spawn');
    await until(async () => {
      if (started.exitCode !== null) throw new Error(`PgBouncer ended:\n${log.join('')}`);
      return accepts(through(serverUrl));
    });
  }
  async function kill(): Promise<void> {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }
  await start();
  return {
    host: `127.0.0.1:${port}`,
    urlOf: through,
    async transactions() {
      const console = new URL(through(serverUrl));
      console.pathname = '/pgbouncer';
      const rows = await queryDatabase(console.href, 'SHOW TOTALS');
      return Number(rows.find(({ name }) => name === 'total_xact_count')?.value);
    },
    start,
    kill,
    async stop() {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function accepts(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}
