import pg from 'pg';
import type { DataSource } from 'typeorm';

import { startPostgres } from '../../examples/support/postgres.js';

/** A PostgreSQL server for one run of the bench. */
export interface BenchServer {
  /** Creates a database and returns its URL. */
  createDatabase(name: string): Promise<string>;
  stop(): Promise<void>;
}

/**
 * Starts PostgreSQL with its defaults, also for durability. Only the number of connections and the size of the cache
 * differ.
 */
export async function startServer(): Promise<BenchServer> {
  const server = await startPostgres(['-c', 'max_connections=200', '-c', 'shared_buffers=512MB']);
  return {
    async createDatabase(name) {
      await query(server.url, `CREATE DATABASE ${name}`);
      const url = new URL(server.url);
      url.pathname = `/${name}`;
      return url.href;
    },
    stop: () => server.stop(),
  };
}

/** Runs one statement on a connection of its own. */
export async function query(url: string, sql: string, values?: unknown[]): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql, values)).rows;
  } finally {
    await client.end();
  }
}

/** Inserts rows in chunks. `sql` has one array parameter for each column. */
export async function fill(url: string, sql: string, count: number, rowOf: (n: number) => unknown[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (let start = 0; start < count; start += CHUNK) {
      const columns: unknown[][] = [];
      for (let n = start; n < Math.min(start + CHUNK, count); n++) {
        for (const [index, value] of rowOf(n).entries()) (columns[index] ??= []).push(value);
      }
      await client.query(sql, columns);
    }
  } finally {
    await client.end();
  }
}

const CHUNK = 5000;

/** Gives the planner statistics and the table a clean visibility map, as autovacuum does. */
export async function vacuum(dataSource: DataSource, table: string): Promise<void> {
  await dataSource.query(`VACUUM ANALYZE ${table}`);
}
