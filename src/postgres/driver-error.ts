import { TokensError, TokenStoreUnavailableError } from '../tokens.errors.js';

/** What to do about the SQLSTATEs (or their classes) that operators meet. */
const REMEDIES: Record<string, string> = {
  '08': 'The connection was lost; check that the server is up',
  '22': 'A value cannot be stored; report this as a bug with the SQLSTATE',
  '23': 'A constraint that this module does not define is in the way; compare the table with the migrations',
  '25006': 'The server is read-only: point the data source at the primary',
  '25P02': 'An earlier statement of the surrounding transaction failed; roll it back and start again',
  '26000': 'A connection pooler loses prepared statements: set preparedStatements to false',
  '28': 'Check the user name and password of the data source',
  '3D000': 'Create the database or correct its name in the data source',
  '40': 'Concurrent transactions conflicted; run the transaction again',
  '42501': 'Grant the database user access to the tables',
  '42P01': 'A table is missing: run the migrations with runTokenMigrations(dataSource) or migration:run',
  '42703': 'A column is missing: run the migrations with runTokenMigrations(dataSource) or migration:run',
  '53': 'The server is out of a resource; check its connection limit, memory and disk',
  '55P03': 'A row lock was not granted in time; try again',
  '57014': 'The statement was cancelled, for example by statement_timeout; try again',
  '57P': 'The server is shutting down or starting; try again',
};

const POOL_EXHAUSTED = 'timeout exceeded when trying to connect';

/**
 * Turns whatever pg, its pool or TypeORM threw into a typed error. The original is not attached: its `detail`,
 * `parameters` and message can hold the values of the statement.
 */
export function translateDriverError(error: unknown, action: string): TokensError {
  if (error instanceof TokensError) return error;
  const cause = driverErrorOf(error);
  const code = textProperty(cause, 'code');
  if (textProperty(cause, 'severity') && code) {
    const remedy = REMEDIES[code] ?? REMEDIES[code.slice(0, 3)] ?? REMEDIES[code.slice(0, 2)] ?? 'See the server log';
    const message = `PostgreSQL refused to ${action} (SQLSTATE ${code}). ${remedy}.`;
    return new TokenStoreUnavailableError(message, code, textProperty(cause, 'constraint'));
  }
  if (textProperty(cause, 'message') === POOL_EXHAUSTED) return poolExhausted(action);
  const reason = code ? `: ${code}` : '';
  return new TokenStoreUnavailableError(
    `PostgreSQL did not answer the request to ${action}${reason}. Check that the server is up and the data source is open.`,
  );
}

/** The server took a statement and said nothing. */
export function unanswered(action: string): TokenStoreUnavailableError {
  return new TokenStoreUnavailableError(
    `PostgreSQL did not answer the request to ${action} in time, so the connection was closed. Check that the server is ` +
      'up and the network between lets its packets through.',
  );
}

/** No connection of the pool became free in time. */
export function poolExhausted(action: string): TokenStoreUnavailableError {
  return new TokenStoreUnavailableError(
    `No free database connection to ${action}. Enlarge the pool, or do not hold a transaction open while calling this; ` +
      'if the pool is not full, check that the server can be reached.',
  );
}

function driverErrorOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'driverError' in error ? error.driverError : error;
}

function textProperty(value: unknown, name: string): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const property: unknown = Reflect.get(value, name);
  return typeof property === 'string' ? property : undefined;
}
