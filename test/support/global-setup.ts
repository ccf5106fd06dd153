import { startPostgres, type PostgresServer } from '../../examples/support/postgres.js';
import { type PgBouncer, startPgBouncer } from './pgbouncer.js';
import { createTemplateDatabase, dropTemplateDatabase } from './test-database.js';

declare global {
  var tokensTestPostgres: PostgresServer | undefined;
  var tokensTestPgBouncer: PgBouncer | undefined;
}

/**
 * Starts a PostgreSQL server before all suites, unless DATABASE_URL names one. Creates a migrated template database on
 * it. With TOKENS_TEST_PGBOUNCER the code under test reaches the server through a PgBouncer in transaction mode.
 */
export default async function setUp(): Promise<void> {
  if (!process.env.DATABASE_URL) {
    globalThis.tokensTestPostgres = await startPostgres(['-c', 'max_connections=300', '-c', 'fsync=off']);
  }
  process.env.TOKENS_TEST_SERVER_URL = process.env.DATABASE_URL ?? globalThis.tokensTestPostgres?.url;
  await createTemplateDatabase();
  // After the template, because no database can be cloned to which the pooler keeps a connection.
  if (process.env.TOKENS_TEST_PGBOUNCER) {
    globalThis.tokensTestPgBouncer = await startPgBouncer(process.env.TOKENS_TEST_SERVER_URL ?? '');
    process.env.TOKENS_TEST_POOLER = globalThis.tokensTestPgBouncer.host;
  }
}

export async function tearDown(): Promise<void> {
  if (globalThis.tokensTestPgBouncer) {
    console.log(`${await globalThis.tokensTestPgBouncer.transactions()} transactions went through PgBouncer.`);
    await globalThis.tokensTestPgBouncer.stop();
  }
  await dropTemplateDatabase();
  await globalThis.tokensTestPostgres?.stop();
}
