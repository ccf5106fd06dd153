import { describe, expect, it } from '@jest/globals';
import { QueryFailedError } from 'typeorm';

import { TokensConfigurationError, TokenStoreUnavailableError } from '../tokens.errors.js';
import { isConnectionLost, translateDriverError } from './driver-error.js';

const ACTION = 'load tokens';

/** An error as pg reports one of PostgreSQL. */
function refusal(code: string): Error {
  const detail = 'Failing row contains (secret-value).';
  return Object.assign(new Error('a message with secret-value'), { name: 'error', severity: 'ERROR', code, detail });
}

/** The error of a socket, as Node.js makes it. */
function socketError(code: string): Error {
  return Object.assign(new Error(`connect ${code} 127.0.0.1:5432`), { code, syscall: 'connect' });
}

class VaultSealedError extends Error {
  override readonly name = 'VaultSealedError';
}

describe('an error of the connection', () => {
  const errors = [
    socketError('ECONNREFUSED'),
    socketError('ENOTFOUND'),
    Object.assign(new AggregateError([]), { code: 'ETIMEDOUT' }),
    Object.assign(new Error('certificate has expired'), { code: 'CERT_HAS_EXPIRED' }),
    Object.assign(new Error('wrong version number'), { code: 'ERR_SSL_WRONG_VERSION_NUMBER' }),
    new Error('Connection terminated'),
    new Error('Connection terminated unexpectedly'),
    new Error('Connection terminated due to connection timeout'),
    new Error('timeout expired'),
    new Error('Query read timeout'),
    new Error('Client has encountered a connection error and is not queryable'),
    new Error('Client was closed and is not queryable'),
    new Error('Received unexpected commandComplete message from backend.'),
    new Error('There was an error establishing an SSL connection'),
    Object.assign(new Error('released'), { name: 'QueryRunnerAlreadyReleasedError' }),
  ];

  it.each(errors)('says that PostgreSQL did not answer, and counts as lost: %s', (error) => {
    const translated = translateDriverError(error, ACTION);
    expect(translated).toBeInstanceOf(TokenStoreUnavailableError);
    expect(translated).toMatchObject({ retryable: true });
    expect(translated.message).toContain('PostgreSQL did not answer the request to load tokens');
    expect(isConnectionLost(error)).toBe(true);
  });
});

describe('a fault of the program', () => {
  const faults = [
    new Error('a subscriber of the host'),
    new Error('Prepared statements must be unique'),
    new TypeError('x is not a function'),
    new RangeError('Invalid array length'),
    new ReferenceError('x is not defined'),
    new VaultSealedError('the vault is sealed'),
    Object.assign(new Error('no metadata'), { name: 'EntityMetadataNotFoundError' }),
  ];

  it.each(faults)('comes out as it is, and is no lost connection: %s', (fault) => {
    expect(translateDriverError(fault, ACTION)).toBe(fault);
    expect(translateDriverError(new QueryFailedError('SELECT $1', ['secret-value'], fault), ACTION)).toBe(fault);
    expect(isConnectionLost(fault)).toBe(false);
  });
});

describe('a data source that is not open', () => {
  it.each(['Driver not Connected', 'Cannot use a pool after calling end on the pool'])(
    'is named, and is no lost connection: %s',
    (message) => {
      const translated = translateDriverError(new Error(message), ACTION);
      expect(translated).toMatchObject({ name: TokenStoreUnavailableError.name, retryable: true });
      expect(translated.message).toBe(
        'The data source is not open, so the module could not load tokens. Await dataSource.initialize() before the ' +
          'first call, and do not destroy the data source before app.close() has ended.',
      );
      expect(isConnectionLost(new Error(message))).toBe(false);
    },
  );
});

describe('a data source whose options do not fit the server', () => {
  it.each([
    ['SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string', /password of the data source is no text/],
    ['The server does not support SSL connections', /remove the option ssl/],
  ])('is a fault of the configuration, and no lost connection: %s', (message, remedy) => {
    const translated = translateDriverError(new Error(message), ACTION);
    expect(translated).toBeInstanceOf(TokensConfigurationError);
    expect(translated.message).toMatch(remedy);
    expect(isConnectionLost(new Error(message))).toBe(false);
  });
});

describe('a refusal of PostgreSQL', () => {
  it.each([
    ['42P01', /run the migrations.*If they ran, the data source has another schema or search_path/],
    ['42703', /run the migrations/],
    ['42P10', /A unique index is missing: run the migrations/],
    ['3F000', /schema of the data source does not exist: create it with CREATE SCHEMA/],
    ['42501', /Grant the database user USAGE on the schema, and SELECT, INSERT, UPDATE and DELETE on the tables/],
    ['42601', /does not fit the server or the tables.*PostgreSQL 13/],
    ['42883', /does not fit the server or the tables.*PostgreSQL 13/],
  ])('is named with what to do, without values, and no second try helps: %s', (code, remedy) => {
    const translated = translateDriverError(new QueryFailedError('SELECT $1', ['secret-value'], refusal(code)), ACTION);
    expect(translated).toBeInstanceOf(TokenStoreUnavailableError);
    expect(translated).toMatchObject({ retryable: false, sqlState: code });
    expect(translated.message).toMatch(remedy);
    expect(JSON.stringify(Object.getOwnPropertyDescriptors(translated))).not.toContain('secret-value');
  });
});
