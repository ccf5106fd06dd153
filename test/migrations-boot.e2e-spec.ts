import { createHash } from 'node:crypto';

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import type { DataSource, DataSourceOptions } from 'typeorm';

import { runTokenMigrations, tokensMigrations } from '../src/index.js';
import { createLegacyTables } from './support/legacy-tables.js';
import { connectionsInUse, createTestDatabase, openDataSource, type TestDatabase } from './support/test-database.js';
import { until } from './support/until.js';

const NAMES = tokensMigrations.map(({ name }) => name);
const LOCK = createHash('sha256').update('nestjs-idp-tokens').digest().readBigUInt64BE() >> 1n;

let database: TestDatabase;
let sources: DataSource[];

beforeEach(async () => {
  database = await createTestDatabase({ empty: true });
  sources = [];
});

afterEach(async () => {
  await until(() => sources.every((source) => connectionsInUse(source) === 0));
  await Promise.all(sources.map((source) => source.destroy()));
  await database.drop();
});

async function boot(options: Partial<DataSourceOptions> = {}): Promise<DataSource> {
  const source = await openDataSource(database.url, options);
  sources.push(source);
  return source;
}

/** Holds a lock in a session of its own until `release`. The idle timeout of the database does not end the session. */
async function hold(lock: string): Promise<{ release(): Promise<void> }> {
  const client = new pg.Client({ connectionString: database.url, application_name: 'holder' });
  await client.connect();
  await client.query(`BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; ${lock}`);
  return { release: () => client.end() };
}

/** Counts the sessions that have waited for a lock for longer than this many milliseconds. */
async function waiting(ms = 0): Promise<number> {
  const [row] = await database.query(
    `SELECT count(*)::int AS count FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > $1::interval`,
    [`${ms} ms`],
  );
  return Number(row?.count);
}

async function sessions(): Promise<number> {
  const [row] = await database.query(`SELECT count(*)::int AS count FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'holder'`);
  return Number(row?.count);
}

describe('runTokenMigrations at start-up', () => {
  it('lets one of eight concurrent callers apply them and succeeds for all', async () => {
    const booted = await Promise.all(Array.from({ length: 8 }, () => boot({ poolSize: 2 })));
    const applied = await Promise.all(booted.map((source) => runTokenMigrations(source)));
    expect(applied.filter(({ length }) => length > 0)).toEqual([NAMES]);
  });

  it('serves four callers on a pool of one connection', async () => {
    const source = await boot({ poolSize: 1 });
    const applied = await Promise.all(Array.from({ length: 4 }, () => runTokenMigrations(source)));
    expect(applied).toEqual([NAMES, [], [], []]);
  });

  it('needs one connection while it applies, and one while it waits', async () => {
    await createLegacyTables(database);
    const source = await boot();
    const other = await boot();
    const holder = await hold('LOCK TABLE auth_tokens');
    const applying = [runTokenMigrations(source), runTokenMigrations(other)];
    await until(async () => (await waiting()) === 2);
    await expect(sessions()).resolves.toBe(2);
    await holder.release();
    expect((await Promise.all(applying)).filter(({ length }) => length > 0)).toEqual([NAMES]);
  });

  it('does not wait for the lock when nothing is left to apply', async () => {
    const source = await boot();
    await runTokenMigrations(source);
    const holder = await hold(`SELECT pg_advisory_xact_lock(${LOCK})`);
    await expect(runTokenMigrations(source)).resolves.toEqual([]);
    await holder.release();
  });

  it('sees after the lock what another process applied, whatever the isolation level of the database', async () => {
    await database.query(`ALTER DATABASE ${database.name} SET default_transaction_isolation = 'serializable'`);
    const booted = await Promise.all([boot(), boot({ isolationLevel: 'REPEATABLE READ' })]);
    const holder = await hold(`SELECT pg_advisory_xact_lock(${LOCK})`);
    const applying = booted.map((source) => runTokenMigrations(source));
    await until(async () => (await waiting()) === 2);
    await holder.release();
    expect((await Promise.all(applying)).filter(({ length }) => length > 0)).toEqual([NAMES]);
  });

  it.each(['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'])(
    'outlives the %s of the database, which holds again afterwards',
    async (timeout) => {
      const [known] = await database.query('SELECT FROM pg_settings WHERE name = $1', [timeout]);
      if (!known) return; // PostgreSQL has transaction_timeout since version 17.
      await createLegacyTables(database);
      await database.query(`ALTER DATABASE ${database.name} SET ${timeout} = '400ms'`);
      const [first, second] = [await boot({ poolSize: 1 }), await boot({ poolSize: 1 })];
      const advisory = await hold(`SET LOCAL ${timeout} = 0; SELECT pg_advisory_xact_lock(${LOCK})`);
      const table = await hold(`SET LOCAL ${timeout} = 0; LOCK TABLE auth_tokens IN ACCESS SHARE MODE`);
      const applying = [runTokenMigrations(first), runTokenMigrations(second)];
      const outcome = Promise.all(applying);
      outcome.catch(() => undefined);
      await until(async () => (await waiting(600)) === 2);
      await advisory.release();
      // One process now waits for the table, and the other one still waits for the advisory lock.
      await until(async () => (await waiting(600)) === 2);
      await table.release();
      expect((await outcome).filter(({ length }) => length > 0)).toEqual([NAMES]);
      await expect(first.query(`SHOW ${timeout}`)).resolves.toEqual([{ [timeout]: '400ms' }]);
    },
  );
});
