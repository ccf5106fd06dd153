import { type DataSource, QueryFailedError, type QueryRunner } from 'typeorm';

import { TokensConfigurationError, TokenStoreUnavailableError } from '../tokens.errors.js';
import { sqlStateOf, translateDriverError } from './driver-error.js';
import { CreateTokenTables1763942400000 } from './migrations/1763942400000-create-token-tables.js';
import { AddRefreshState1763942400001 } from './migrations/1763942400001-add-refresh-state.js';
import { recordStatements } from './migrations/recorded-statements.js';
import { TokensMigrationExecutor } from './migrations/tokens-migration-executor.js';

/** The migrations of this module in their order, for the `migrations` option of a data source. */
export const tokensMigrations = [CreateTokenTables1763942400000, AddRefreshState1763942400001];

/**
 * Key of the advisory lock. It must be a number that no other lock of the database uses. It is the first 63 bits of
 * SHA-256("nestjs-idp-tokens").
 */
const MIGRATION_LOCK = '4081709275206357376';
/** The SQLSTATE of a statement for which the user lacks a right. The migrations need more rights than the module. */
const NO_RIGHT = '42501';
const WHO_MIGRATES = 'Run them as a user that owns the tables and has the right CREATE on the schema.';
/** The SQLSTATE of a table that is to be created in a schema that does not exist. */
const NO_SCHEMA = '3F000';

/**
 * Applies the migrations of this module that the database does not have yet. It applies all of them or none, and no
 * migration of the host. Every process may call it at its start. An advisory lock lets one process apply the
 * migrations. The other processes wait for it, each on one connection. If there is nothing to apply, the function takes
 * no lock. It records the migrations in the migrations table of the data source, as the TypeORM command line does. So
 * the host may use both.
 *
 * @returns the names of the migrations that this call applied
 * @throws {@link TokensConfigurationError} when the data source is not initialised, when its schema does not exist, or
 * when the database has something else where a column, a table or an index of this module belongs
 * @throws {@link TokenStoreUnavailableError} when PostgreSQL refuses
 */
export async function runTokenMigrations(dataSource: DataSource): Promise<string[]> {
  return inMigrationTransaction(
    dataSource,
    async (queryRunner, executor) => {
      const applied = await executor.executePendingMigrations();
      await queryRunner.commitTransaction();
      return applied.map(({ name }) => name);
    },
    [],
  );
}

/** The migrations that a database does not have yet, and their SQL. */
export interface MigrationPlan {
  readonly names: readonly string[];
  /** The statements in their order, without the transaction around them. */
  readonly statements: readonly string[];
}

/**
 * Returns what {@link runTokenMigrations} would execute. It changes nothing, and rewrites and locks no table that exists:
 * it creates the tables that are missing in a transaction that it rolls back, and executes nothing else.
 *
 * @throws every error of {@link runTokenMigrations}
 */
export async function planTokenMigrations(dataSource: DataSource): Promise<MigrationPlan> {
  const none: MigrationPlan = { names: [], statements: [] };
  return inMigrationTransaction(
    dataSource,
    async (queryRunner, executor) => {
      const recording = await recordStatements(queryRunner);
      const planned = await executor.executePendingMigrations();
      recording.end();
      await queryRunner.rollbackTransaction();
      return { names: planned.map(({ name }) => name), statements: recording.statements };
    },
    none,
  );
}

async function inMigrationTransaction<Result>(
  dataSource: DataSource,
  work: (queryRunner: QueryRunner, executor: TokensMigrationExecutor) => Promise<Result>,
  none: Result,
): Promise<Result> {
  if (!dataSource.isInitialized) {
    throw new TokensConfigurationError('The data source is not initialised. Await dataSource.initialize() first.');
  }
  const queryRunner = dataSource.createQueryRunner('master');
  const executor = new TokensMigrationExecutor(dataSource, queryRunner, tokensMigrations);
  try {
    if ((await executor.getPendingMigrations()).length === 0) return none;
    // The executor reads the migrations table again when it has the lock. It must see what the process before it
    // committed.
    await queryRunner.startTransaction('READ COMMITTED');
    await liftTimeouts(queryRunner);
    // A lock of the transaction and not of the session, because poolers in transaction mode do not keep sessions.
    await queryRunner.query(`SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`);
    return await work(queryRunner, executor);
  } catch (error) {
    await rollBack(queryRunner);
    throw sqlStateOf(error) === NO_SCHEMA ? schemaMissing(dataSource) : translateMigrationError(error);
  } finally {
    await queryRunner.release();
  }
}

/**
 * Switches the timeouts off for this transaction, because the wait for another process and the rewrite of a table can
 * take longer than the host allows for its statements.
 */
async function liftTimeouts(queryRunner: QueryRunner): Promise<void> {
  // Selected from the list of settings, because PostgreSQL has transaction_timeout only since version 17.
  await queryRunner.query(`
    SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN
      ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`);
}

/**
 * Returns a typed error with the message of the server. The message names tables and columns. It contains no secret,
 * because a migration has no values.
 */
function translateMigrationError(error: unknown): Error {
  const translated = translateDriverError(error, 'run the migrations');
  if (!(translated instanceof TokenStoreUnavailableError) || !(error instanceof QueryFailedError)) return translated;
  const { sqlState, constraint, message } = translated;
  const refusal = sqlState === NO_RIGHT ? `PostgreSQL refused to run the migrations. ${WHO_MIGRATES}` : message;
  return new TokenStoreUnavailableError(`${refusal} The server says: ${error.message}.`, sqlState, constraint);
}

/** The function does not create the schema, because its owner and its rights are the host's to choose. */
function schemaMissing({ driver }: DataSource): TokensConfigurationError {
  const { schema } = driver; // TypeORM takes it from the search_path if no option names it, and null for none
  return new TokensConfigurationError(
    !schema
      ? 'No schema of the search_path exists, so the migrations cannot create the tables. Create one with ' +
          'CREATE SCHEMA, or name one in the schema option of the data source.'
      : `The schema "${schema}" of the data source does not exist, and the migrations of TypeORM create none. ` +
          `Run CREATE SCHEMA ${driver.escape(schema)}, or correct the schema option of the data source.`,
  );
}

async function rollBack(queryRunner: QueryRunner): Promise<void> {
  if (!queryRunner.isTransactionActive) return;
  // The rollback fails too if the connection broke. The caller gets the error of the migration, which says more.
  await queryRunner.rollbackTransaction().catch(() => undefined);
}
