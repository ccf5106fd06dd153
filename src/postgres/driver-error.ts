import { TokensError } from '../tokens-error.js';
import { TokensConfigurationError, TokenStoreUnavailableError } from '../tokens.errors.js';

/** What the operator can do about an SQLSTATE or a class of them. */
const REMEDIES: Record<string, string> = {
  '08': 'The connection was lost; check that the server is up',
  '22001': 'A column of the table is too short for a token: run the migrations, which widen it, or widen it yourself',
  '22': 'A value cannot be stored; report this as a bug with the SQLSTATE',
  '23': 'A constraint that this module does not define refused the row; compare the table with the migrations',
  '25006': 'The server is read-only: point the data source at the primary',
  '25P02': 'An earlier statement of the surrounding transaction failed; roll it back and start again',
  '26000': 'A connection pooler loses prepared statements: set preparedStatements to false',
  '0A000': 'The table was altered meanwhile; try again',
  '42P05': 'A connection pooler mixes prepared statements up: set preparedStatements to false',
  '28': 'Check the user name and password of the data source',
  '3D000': 'Create the database or correct its name in the data source',
  '3F000': 'The schema of the data source does not exist: create it with CREATE SCHEMA, or correct its name',
  '40': 'Concurrent transactions conflicted; run the transaction again',
  '42': 'The statement does not fit the server or the tables: use PostgreSQL 13 or newer, and compare the tables with the migrations',
  '42501': 'Grant the database user USAGE on the schema, and SELECT, INSERT, UPDATE and DELETE on the tables',
  '42P01':
    'A table is missing: run the migrations with runTokenMigrations(dataSource) or migration:run. If they ran, the ' +
    'data source has another schema or search_path now',
  '42P10': 'A unique index is missing: run the migrations with runTokenMigrations(dataSource) or migration:run',
  '42703': 'A column is missing: run the migrations with runTokenMigrations(dataSource) or migration:run',
  '53': 'The server is out of a resource; check its connection limit, memory and disk',
  '55P03': 'Another transaction has the row or the table locked; try again',
  '57014': 'The statement was cancelled, for example by statement_timeout; try again',
  '57P': 'The server is shutting down or starting; try again',
};

const POOL_EXHAUSTED = 'timeout exceeded when trying to connect';

/**
 * Names of the errors that pg, its pool and Node's sockets throw, and that TypeORM throws for a broken connection. An
 * error with another name is a fault of the program, either of the host or of this module.
 */
const DRIVER_ERRORS = new Set(['Error', 'error', 'DatabaseError', 'AggregateError', 'QueryRunnerAlreadyReleasedError']);
/** Name of the errors that pg and its pool throw, and that a host may throw too, for example in a subscriber. */
const PLAIN = 'Error';
/** A code of Node.js, OpenSSL or the operating system. The error of a socket or of TLS has one. */
const SYSTEM_CODE = /^[A-Z][A-Z0-9_]+$/;
/** Beginnings of the messages by which pg and its pool report a connection that broke or that they could not make. */
const CONNECTION_MESSAGES =
  /^(Connection terminated|Client (has encountered a connection error|was closed)|Query read timeout|Received unexpected |timeout (exceeded|expired)|SASL: |There was an error establishing an SSL )/;
/** The errors of TypeORM and of pg's pool for a data source that is not initialised, or that is destroyed. */
const NOT_OPEN = new Set(['Driver not Connected', 'Cannot use a pool after calling end on the pool']);
/** The errors of pg for options of the data source that the server does not accept, and what to do about each. */
const MISCONFIGURED: readonly (readonly [RegExp, string])[] = [
  [
    /^SASL: .* client password must be/,
    'The server wants a password, and the password of the data source is no text, or it is empty. Set it',
  ],
  [
    /^The server does not support SSL connections/,
    'The data source wants TLS, and the server has none. Switch ssl on at the server, or remove the option ssl',
  ],
];
/** The server has no plan of this name, has another statement under this name, or the plan does not fit any more. */
const PLAN_STATES = new Set(['26000', '42P05', '0A000']);
const LOCK_NOT_AVAILABLE = '55P03';
/** The SQLSTATE class of values that PostgreSQL refuses. */
const DATA_EXCEPTIONS = '22';
const ROW_STATES = /^(22|23|40|44|P0)|^(42501|55P03)$/;
const UNSTORABLE_STATES = new Set(['22021', '22P05']);
/** The server ended the connection by a command, in a crash or for its idleness, or the server starts or stops. */
const ENDED_STATES = /^(08|57P0[1-5]$|25P03$|25P04$)/;

/**
 * Returns the typed error for an error of pg, its pool or TypeORM. The typed error has no `cause`, because the
 * `detail`, the `parameters` and the message of the original can contain the values of the statement. A fault of the
 * program is returned as it is, with its stack. Such a fault is an error of the host's subscriber or logger, a usage
 * error of TypeORM, or a fault of this module.
 */
export function translateDriverError(error: unknown, action: string): Error {
  if (error instanceof TokensError) return error;
  const cause = driverErrorOf(error);
  if (isNotOpen(cause)) return notOpen(action);
  const misconfigured = remedyOfOptions(cause);
  if (misconfigured) return new TokensConfigurationError(`The module could not ${action}. ${misconfigured}.`);
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
    `PostgreSQL did not answer the request to ${action}${reason}. Check that the server is up and can be reached.`,
  );
}

/** Returns the SQLSTATE of an error that PostgreSQL reported, and undefined for every other error. */
export function sqlStateOf(error: unknown): string | undefined {
  if (error instanceof TokenStoreUnavailableError) return error.sqlState;
  const cause = driverErrorOf(error);
  return textProperty(cause, 'severity') ? textProperty(cause, 'code') : undefined;
}

/**
 * Returns whether the connection of a statement broke, so that the statement may or may not have had its effect. False
 * for a typed error.
 */
export function isConnectionLost(error: unknown): boolean {
  const cause = driverErrorOf(error);
  if (error instanceof TokensError || isNotOpen(cause) || remedyOfOptions(cause) || isProgramFault(cause)) return false;
  const sqlState = sqlStateOf(error);
  return sqlState === undefined || ENDED_STATES.test(sqlState);
}

/**
 * Returns whether a connection broke while it was made. A second try may succeed then. False for a connection that the
 * server refused or did not answer.
 */
export function isHandshakeBroken(error: unknown): boolean {
  const cause = driverErrorOf(error);
  return (
    textProperty(cause, 'code') === 'ECONNRESET' ||
    /^Connection terminated(?! due to connection timeout)/.test(textProperty(cause, 'message') ?? '')
  );
}

/**
 * Returns whether the server refused a statement for a cause that one of its rows can have: a value, a constraint, a
 * right, a lock, a conflict, or the host's own code. The statement had no effect then.
 */
export function isRowRefused(error: unknown): boolean {
  return ROW_STATES.test(sqlStateOf(error) ?? '');
}

/** Returns whether the server refused a statement because of its prepared plan. The statement had no effect then. */
export function isPlanLost(error: unknown): boolean {
  const sqlState = sqlStateOf(error);
  return sqlState !== undefined && PLAN_STATES.has(sqlState);
}

/** Returns whether a statement failed because another transaction has its row locked. */
export function isRowLocked(error: unknown): boolean {
  return sqlStateOf(error) === LOCK_NOT_AVAILABLE;
}

/** Returns whether PostgreSQL refused a value, for example because it is too long for its column. */
export function isValueRefused(error: unknown): boolean {
  return sqlStateOf(error)?.startsWith(DATA_EXCEPTIONS) === true;
}

/**
 * Returns whether a value has characters that the encoding of the database does not have. No type of column can store
 * such a value.
 */
export function isUnstorable(error: unknown): boolean {
  return UNSTORABLE_STATES.has(sqlStateOf(error) ?? '');
}

/** Returns the text of an error for the log. A fault of the program has its stack there, because it has no remedy. */
export function logTextOf(error: unknown): string {
  return error instanceof Error && !(error instanceof TokensError) ? (error.stack ?? String(error)) : String(error);
}

/** Error of a statement that the server did not answer in time. */
export function noAnswer(action: string): TokenStoreUnavailableError {
  return new TokenStoreUnavailableError(
    `PostgreSQL did not answer the request to ${action} in time, so the module closed the connection. ` +
      'Check that the server is up and that the network does not drop its packets.',
  );
}

/** Error of a call that got no connection of the pool in time. */
export function poolExhausted(action: string): TokenStoreUnavailableError {
  return new TokenStoreUnavailableError(
    `The pool had no free database connection to ${action}. Enlarge the pool, or keep no transaction open while you ` +
      'call the module; if the pool is not full, check that the server can be reached.',
  );
}

/** Retryable, because a request can come while the process stops, and another process can then serve it. */
function notOpen(action: string): TokenStoreUnavailableError {
  return new TokenStoreUnavailableError(
    `The data source is not open, so the module could not ${action}. Await dataSource.initialize() before the first ` +
      'call, and do not destroy the data source before app.close() has ended.',
  );
}

/** Error of a connection for which a function of the host has failed. Its error is the `cause`. */
export function passwordFailed(action: string, cause: Error): TokenStoreUnavailableError {
  const error = new TokenStoreUnavailableError(
    `The module could not ${action}, because a function of the host failed while a connection was made: the password ` +
      "function of the data source, or the pool's `verify`. Its error is the cause.",
  );
  return Object.assign(error, { cause });
}

/** Compares names, because an error of another realm is no instance of the classes of this one. */
function isProgramFault(error: unknown): error is Error {
  const name = textProperty(error, 'name');
  if (name === undefined) return false;
  return !DRIVER_ERRORS.has(name) || (name === PLAIN && !isOfConnection(error));
}

/** Whether pg, its pool or a socket threw a plain error, and not the host. */
function isOfConnection(error: unknown): boolean {
  if (textProperty(error, 'severity') !== undefined) return true; // PostgreSQL reported it
  const message = textProperty(error, 'message') ?? '';
  if (CONNECTION_MESSAGES.test(message)) return true;
  // The error of a file has a path. The host may read its password from a file.
  return SYSTEM_CODE.test(textProperty(error, 'code') ?? '') && textProperty(error, 'path') === undefined;
}

function isNotOpen(error: unknown): boolean {
  return NOT_OPEN.has(textProperty(error, 'message') ?? '');
}

/** Returns what to change in the options of the data source, or undefined for every other error. */
function remedyOfOptions(error: unknown): string | undefined {
  const message = textProperty(error, 'message') ?? '';
  return MISCONFIGURED.find(([pattern]) => pattern.test(message))?.[1];
}

function driverErrorOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'driverError' in error ? error.driverError : error;
}

function textProperty(value: unknown, name: string): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const property: unknown = Reflect.get(value, name);
  return typeof property === 'string' ? property : undefined;
}
