import { randomBytes } from 'node:crypto';

import pg from 'pg';
import { DataSource, type DataSourceOptions } from 'typeorm';

import { runTokenMigrations } from '../../src/postgres/run-token-migrations.js';
import { tokensEntities } from '../../src/storage/tokens-entities.js';

const TEMPLATE = `idp_tokens_template_${process.env.TOKENS_TEST_RUN ?? process.pid}`;

/** A database of one suite, dropped by it. */
export interface TestDatabase {
  readonly name: string;
  readonly url: string;
  /** Runs statements on a connection of its own, past everything that is tested. */
  query(sql: string, values?: unknown[]): Promise<Record<string, unknown>[]>;
  drop(): Promise<void>;
}

/** Clones the migrated template; `empty` gives a database without tables. */
export async function createTestDatabase({ empty = false } = {}): Promise<TestDatabase> {
  const name = `idp_tokens_test_${randomBytes(6).toString('hex')}`;
  await onServer(`CREATE DATABASE ${name}${empty ? '' : ` TEMPLATE ${TEMPLATE}`}`);
  const url = urlOf(name);
  return {
    name,
    url,
    query: (sql, values) => onDatabase(url, sql, values),
    drop: async () => {
      await onServer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    },
  };
}

/** An initialised data source with the entities of the module; the caller destroys it. */
export async function openDataSource(url: string, options: Partial<DataSourceOptions> = {}): Promise<DataSource> {
  const dataSource = new DataSource({
    type: 'postgres',
    url,
    entities: tokensEntities,
    ...options,
  } as DataSourceOptions);
  return dataSource.initialize();
}

/** Connections of a data source's pool that somebody holds or waits for. */
export function connectionsInUse(dataSource: DataSource): number {
  const { totalCount, idleCount, waitingCount } = poolOf(dataSource);
  return totalCount - idleCount + waitingCount;
}

/** The pool of a data source: TypeORM types its drivers without what its PostgreSQL driver has. */
export function poolOf(dataSource: DataSource): pg.Pool {
  return (dataSource.driver as unknown as { master: pg.Pool }).master;
}

export async function createTemplateDatabase(): Promise<void> {
  process.env.TOKENS_TEST_RUN = String(process.pid);
  await onServer(`DROP DATABASE IF EXISTS ${TEMPLATE} WITH (FORCE)`);
  await onServer(`CREATE DATABASE ${TEMPLATE}`);
  const dataSource = await openDataSource(urlOf(TEMPLATE));
  await runTokenMigrations(dataSource);
  await dataSource.destroy();
}

export async function dropTemplateDatabase(): Promise<void> {
  await onServer(`DROP DATABASE IF EXISTS ${TEMPLATE} WITH (FORCE)`);
}

function urlOf(database: string): string {
  const url = new URL(serverUrl());
  url.pathname = `/${database}`;
  return url.href;
}

function serverUrl(): string {
  const url = process.env.TOKENS_TEST_SERVER_URL;
  if (!url) throw new Error('No PostgreSQL server: run the suites with npm test.');
  return url;
}

function onServer(sql: string): Promise<Record<string, unknown>[]> {
  return onDatabase(serverUrl(), sql);
}

async function onDatabase(url: string, sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql, values)).rows;
  } finally {
    await client.end();
  }
}
