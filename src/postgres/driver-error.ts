import { TokensError, TokenStoreUnavailableError } from '../tokens.errors.js';

/** What to do about the SQLSTATEs (or their classes) that operators meet. */
const REMEDIES: Record<string, string> = {
  '08': 'The connection was lost; check that the server is up',
  '22001': 'A column of the table is too short for a token: run the migrations, which widen it, or widen it yourself',
  '22': 'A value cannot be stored; report this as a bug with the SQLSTATE',
  '23': 'A constraint that this module does not define is in the way; compare the table with the migrations',
  '25006': 'The server is read-only: point the data source at the primary',
  '25P02': 'An earlier statement of the surrounding transaction failed; roll it back and start again',
  '26000': 'A connection pooler loses prepared statements: set preparedStatements to false',
  '0A000': 'The table was altered meanwhile; try again',
  '42P05': 'A connection pooler mixes prepared statements up: set preparedStatements to false',
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

/** Names of errors that pg, its pool, Node's sockets and, of broken connections, TypeORM throw; every other is a fault of the program, the host's or ours. */
const DRIVER_ERRORS = new Set(['Error', 'error', 'DatabaseError', 'AggregateError', 'QueryRunnerAlreadyReleasedError']);
/** TypeORM's error for a data source that is not open, which is the host's to see as a database that does not answer. */
const NOT_OPEN = 'Driver not Connected';
/** The server does not know the plan of a prepared statement, knows another under its name, or it no longer fits. */
const PLAN_STATES = new Set(['26000', '42P05', '0A000']);
const LOCK_NOT_AVAILABLE = '55P03';
/** The SQLSTATE class of values that a statement cannot take. */
const DATA_EXCEPTIONS = '22';
const UNSTORABLE_STATES = new Set(['22021', '22P05']);
/** The server ended the connection: by a command, in a crash, for its idleness, or it is starting or shutting down. */
const ENDED_STATES = /^(08|57P0[1-5]$|25P03$|25P04$)/;

/**
 * Turns whatever pg, its pool or TypeORM threw into a typed error. The original is not attached: its `detail`,
 * `parameters` and message can hold the values of the statement. A fault of the program comes back as it is.
 */
export function translateDriverError(error: unknown, action: string): Error {
  if (error instanceof TokensError) return error;
  const cause = driverErrorOf(error);
  if (isProgramFault(cause)) return cause;
  const code = textProperty(cause, 'code');
  const sqlState = sqlStateOf(error);
  if (sqlState) {
    const remedy =
      REMEDIES[sqlState] ?? REMEDIES[sqlState.slice(0, 3)] ?? REMEDIES[sqlState.slice(0, 2)] ?? 'See the server log';
    const message = `PostgreSQL refused to ${action} (SQLSTATE ${sqlState}). ${remedy}.`;
    return new TokenStoreUnavailableError(message, sqlState, textProperty(cause, 'constraint'));
  }
  if (textProperty(cause, 'message') === POOL_EXHAUSTED) return poolExhausted(action);
  const reason = code ? `: ${code}` : '';
  return new TokenStoreUnavailableError(
    `PostgreSQL did not answer the request to ${action}${reason}. Check that the server is up and the data source is open.`,
  );
}

/** SQLSTATE of an error that PostgreSQL reported; undefined for every other error. */
export function sqlStateOf(error: unknown): string | undefined {
  if (error instanceof TokenStoreUnavailableError) return error.sqlState;
  const cause = driverErrorOf(error);
  return textProperty(cause, 'severity') ? textProperty(cause, 'code') : undefined;
}

/** Whether the connection of a statement broke, so that it may or may not have had its effect. Not of a typed error. */
export function isConnectionLost(error: unknown): boolean {
  if (error instanceof TokensError || isProgramFault(driverErrorOf(error))) return false;
  const sqlState = sqlStateOf(error);
  return sqlState === undefined || ENDED_STATES.test(sqlState);
}

/** Whether a connection broke while it was made, unlike one that was refused or not answered: the next may well be made. */
export function isHandshakeBroken(error: unknown): boolean {
  const cause = driverErrorOf(error);
  return (
    textProperty(cause, 'code') === 'ECONNRESET' ||
    /^Connection terminated(?! due to connection timeout)/.test(textProperty(cause, 'message') ?? '')
  );
}

/** Whether the server refused a statement because of its prepared plan, before it did anything. */
export function isPlanLost(error: unknown): boolean {
  const sqlState = sqlStateOf(error);
  return sqlState !== undefined && PLAN_STATES.has(sqlState);
}

/** Whether a statement found its row locked by another transaction. */
export function isRowLocked(error: unknown): boolean {
  return sqlStateOf(error) === LOCK_NOT_AVAILABLE;
}

/** Whether a value is at fault, such as one that is too long for its column. */
export function isValueRefused(error: unknown): boolean {
  return sqlStateOf(error)?.startsWith(DATA_EXCEPTIONS) === true;
}

/** Whether a value has characters that the encoding of the database does not have, so that no type of column can hold it. */
export function isUnstorable(error: unknown): boolean {
  return UNSTORABLE_STATES.has(sqlStateOf(error) ?? '');
}

/** The server took a statement and said nothing. */
export function noAnswer(action: string): TokenStoreUnavailableError {
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

/** By name: errors of another realm are no instances of ours. */
function isProgramFault(error: unknown): error is Error {
  const name = textProperty(error, 'name');
  return name !== undefined && !DRIVER_ERRORS.has(name) && textProperty(error, 'message') !== NOT_OPEN;
}

function driverErrorOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'driverError' in error ? error.driverError : error;
}

function textProperty(value: unknown, name: string): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const property: unknown = Reflect.get(value, name);
  return typeof property === 'string' ? property : undefined;
}
