import { DataSource, QueryFailedError, type QueryRunner } from 'typeorm';

import { TokensConfigurationError, TokenStoreUnavailableError } from '../tokens.errors.js';
import { translateDriverError } from './driver-error.js';
import { AddOfflineLeases1763942400003 } from './migrations/1763942400003-add-offline-leases.js';
import { AddRefreshState1763942400001 } from './migrations/1763942400001-add-refresh-state.js';
import { CreateTokenRevocations1763942400002 } from './migrations/1763942400002-create-token-revocations.js';
import { CreateTokenTables1763942400000 } from './migrations/1763942400000-create-token-tables.js';

/** The migrations of this module in their order, for the `migrations` option of a data source. */
export const tokensMigrations = [
  CreateTokenTables1763942400000,
  AddRefreshState1763942400001,
  CreateTokenRevocations1763942400002,
  AddOfflineLeases1763942400003,
];

/** Any number that no other lock of the database uses: the first 63 bits of SHA-256("nestjs-idp-tokens"). */
const MIGRATION_LOCK = '4081709275206357376';

/**
 * Applies the migrations of this module, and no other, that the database does not have yet: all of them or none. Safe
 * to call from every process at start-up: an advisory lock lets one apply them while the others wait for it. What was
 * applied is recorded in the migrations table of the data source, so it may be mixed with the TypeORM command line.
 *
 * @returns the names of the migrations that this call applied
 * @throws {@link TokensConfigurationError} when the data source is not initialised
 * @throws {@link TokenStoreUnavailableError} when PostgreSQL refuses
 */
export async function runTokenMigrations(dataSource: DataSource): Promise<string[]> {
  if (!dataSource.isInitialized) {
    throw new TokensConfigurationError('The data source is not initialised. Await dataSource.initialize() first.');
  }
  const lock = dataSource.createQueryRunner('master');
  try {
    await lock.startTransaction();
    // Bound to the transaction, not to the session: poolers in transaction mode keep it.
    await lock.query(`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`);
    const applied = await applyPending(dataSource);
    await lock.commitTransaction();
    return applied;
  } catch (error) {
    await rollBack(lock);
    throw translateMigrationError(error);
  } finally {
    await lock.release();
  }
}

async function applyPending(dataSource: DataSource): Promise<string[]> {
  const migrating = new DataSource({
    ...dataSource.options,
    entities: [],
    subscribers: [],
    migrations: tokensMigrations,
    migrationsRun: false,
    synchronize: false,
    dropSchema: false,
  });
  await migrating.initialize();
  try {
    const applied = await migrating.runMigrations({ transaction: 'all' });
    return applied.map(({ name }) => name);
  } finally {
    await migrating.destroy();
  }
}

/** With the message of the server: it names tables and columns, and a migration has no values that it could name. */
function translateMigrationError(error: unknown): Error {
  const translated = translateDriverError(error, 'run the migrations');
  if (!(translated instanceof TokenStoreUnavailableError) || !(error instanceof QueryFailedError)) return translated;
  const { sqlState, constraint, message } = translated;
  return new TokenStoreUnavailableError(`${message} The server says: ${error.message}.`, sqlState, constraint);
}

async function rollBack(lock: QueryRunner): Promise<void> {
  if (!lock.isTransactionActive) return;
  // The connection may be the very thing that failed; the error of the migration says more.
  await lock.rollbackTransaction().catch(() => undefined);
}
