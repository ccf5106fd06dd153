/**
 * Migrates an empty database and asks TypeORM which statements would make it match the entities. If there are any, it
 * prints them and exits with 1. It uses the server of DATABASE_URL, or an embedded one.
 */
import { startPostgres } from '../examples/support/postgres.js';
import { runTokenMigrations } from '../src/postgres/run-token-migrations.js';
import { createTestDatabase, openDataSource } from './support/test-database.js';

const server = process.env.DATABASE_URL ? undefined : await startPostgres();
process.env.TOKENS_TEST_SERVER_URL = process.env.DATABASE_URL ?? server?.url;
const database = await createTestDatabase({ empty: true });
try {
  const dataSource = await openDataSource(database.url);
  await runTokenMigrations(dataSource);
  const { upQueries } = await dataSource.driver.createSchemaBuilder().log();
  await dataSource.destroy();
  for (const { query } of upQueries) console.error(query);
  console.log(
    upQueries.length === 0 ? 'The entities match the migrated schema.' : 'The entities differ from the schema.',
  );
  process.exitCode = upQueries.length === 0 ? 0 : 1;
} finally {
  await database.drop();
  await server?.stop();
}
