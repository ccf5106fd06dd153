import { type DataSource, QueryFailedError, type QueryRunner } from 'typeorm';

import { TokensConfigurationError, TokenStoreUnavailableError } from '../tokens.errors.js';
import { translateDriverError } from './driver-error.js';
import { CreateTokenTables1763942400000 } from './migrations/1763942400000-create-token-tables.js';
import { AddRefreshState1763942400001 } from './migrations/1763942400001-add-refresh-state.js';
import { TokensMigrationExecutor } from './migrations/tokens-migration-executor.js';

/** The migrations of this module in their order, for the `migrations` option of a data source. */
export const tokensMigrations = [CreateTokenTables1763942400000, AddRefreshState1763942400001];

/** Any number that no other lock of the database uses: the first 63 bits of SHA-256("nestjs-idp-tokens"). */
const MIGRATION_LOCK = '4081709275206357376';

/**
 * Applies the migrations of this module, and no other, that the database does not have yet: all of them or none. Safe
 * to call from every process at start-up: an advisory lock lets one apply them while the others wait for it, each on
 * one connection, and when nothing is left to apply it returns without the lock. What was applied is recorded in the
 * migrations table of the data source, so it may be mixed with the TypeORM command line.
 *
 * @returns the names of the migrations that this call applied
 * @throws {@link TokensConfigurationError} when the data source is not initialised, or when the database has something
 * else where a column, a table or an index of this module belongs
 * @throws {@link TokenStoreUnavailableError} when PostgreSQL refuses
 */
export async function runTokenMigrations(dataSource: DataSource): Promise<string[]> {
  if (!dataSource.isInitialized) {
    throw new TokensConfigurationError('The data source is not initialised. Await dataSource.initialize() first.');
  }
  const queryRunner = dataSource.createQueryRunner('master');
  const executor = new TokensMigrationExecutor(dataSource, queryRunner, tokensMigrations);
  try {
    if ((await executor.getPendingMigrations()).length === 0) return [];
    // After the lock the executor looks again, so the look must see what the holder before committed.
    await queryRunner.startTransaction('READ COMMITTED');
    await liftTimeouts(queryRunner);
    // Bound to the transaction, not to the session: poolers in transaction mode keep it.
    await queryRunner.query(`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`);
    const applied = await executor.executePendingMigrations();
    await queryRunner.commitTransaction();
    return applied.map(({ name }) => name);
  } catch (error) {
    await rollBack(queryRunner);
    throw translateMigrationError(error);
  } finally {
    await queryRunner.release();
  }
}

/** Waiting for another process, and rewriting a table, may take longer than the host allows its statements. */
async function liftTimeouts(queryRunner: QueryRunner): Promise<void> {
  // From the list of settings, because PostgreSQL knows transaction_timeout from version 17 on.
  await queryRunner.query(`
    SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN
      ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`);
}

/** With the message of the server: it names tables and columns, and a migration has no values that it could name. */
function translateMigrationError(error: unknown): Error {
  const translated = translateDriverError(error, 'run the migrations');
  if (!(translated instanceof TokenStoreUnavailableError) || !(error instanceof QueryFailedError)) return translated;
  const { sqlState, constraint, message } = translated;
  return new TokenStoreUnavailableError(`${message} The server says: ${error.message}.`, sqlState, constraint);
}

async function rollBack(queryRunner: QueryRunner): Promise<void> {
  if (!queryRunner.isTransactionActive) return;
  // The connection may be the very thing that failed; the error of the migration says more.
  await queryRunner.rollbackTransaction().catch(() => undefined);
}
