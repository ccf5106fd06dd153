import { randomBytes } from 'node:crypto';

import pg from 'pg';
import { DataSource, type DataSourceOptions } from 'typeorm';

import { runTokenMigrations } from '../../src/postgres/run-token-migrations.js';
import { tokensEntities } from '../../src/storage/tokens-entities.js';

const TEMPLATE = `idp_tokens_template_${process.env.TOKENS_TEST_RUN ?? process.pid}`;

/** The database of one suite. The suite drops it. */
export interface TestDatabase {
  readonly name: string;
  readonly url: string;
  /** Runs a statement on a new connection, without the code under test. */
  query(sql: string, values?: unknown[]): Promise<Record<string, unknown>[]>;
  drop(): Promise<void>;
}

/** Clones the migrated template. With `empty` the database has no tables. */
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

/**
 * Returns the URL that the code under test gets for a database. It leads through the pooler if one is in front of the
 * server of the suites. The URL of another server, or of a proxy, is returned as it is.
 */
export function urlUnderTest(databaseUrl: string): string {
  const pooler = process.env.TOKENS_TEST_POOLER;
  const url = new URL(databaseUrl);
  if (pooler === undefined || url.host !== new URL(serverUrl()).host) return databaseUrl;
  url.host = pooler;
  return url.href;
}

/** What the module needs to be told if a pooler is in front of the server of the suites. */
export function poolerOptions(): { preparedStatements?: false } {
  return process.env.TOKENS_TEST_POOLER === undefined ? {} : { preparedStatements: false };
}

/** Opens a data source with the entities of the module. The caller destroys it. */
export async function openDataSource(url: string, options: Partial<DataSourceOptions> = {}): Promise<DataSource> {
  const dataSource = new DataSource({
    type: 'postgres',
    url: urlUnderTest(url),
    entities: tokensEntities,
    ...options,
  } as DataSourceOptions);
  return dataSource.initialize();
}

/** Counts the connections of the pool that are checked out, and the callers that wait for one. */
export function connectionsInUse(dataSource: DataSource): number {
  const { totalCount, idleCount, waitingCount } = poolOf(dataSource);
  return totalCount - idleCount + waitingCount;
}

/** Returns the pool of a data source. The cast is needed because the types of TypeORM do not have `master`. */
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
  if (!url) throw new Error('There is no PostgreSQL server. Run the suites with npm test.');
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
