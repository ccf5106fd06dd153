import { startPostgres, type PostgresServer } from '../../examples/support/postgres.js';
import { createTemplateDatabase, dropTemplateDatabase } from './test-database.js';

declare global {
  var tokensTestPostgres: PostgresServer | undefined;
}

/**
 * Starts a PostgreSQL server before all suites, unless DATABASE_URL names one. Creates a migrated template database on
 * it.
 */
export default async function setUp(): Promise<void> {
  if (!process.env.DATABASE_URL) {
    globalThis.tokensTestPostgres = await startPostgres(['-c', 'max_connections=300', '-c', 'fsync=off']);
  }
  process.env.TOKENS_TEST_SERVER_URL = process.env.DATABASE_URL ?? globalThis.tokensTestPostgres?.url;
  await createTemplateDatabase();
}

export async function tearDown(): Promise<void> {
  await dropTemplateDatabase();
  await globalThis.tokensTestPostgres?.stop();
}
