import { describe, expect, it } from '@jest/globals';

import * as api from './index.js';
import { type AnyTokensError, TokensError, type TokensErrorCode, TokenStoreUnavailableError } from './index.js';

const subject = { keycloakUserId: 'ada', idp: 'acme' };

/** One error of every code. It compiles only if each code belongs to one class of the union. */
const errors: { readonly [Code in TokensErrorCode]: Extract<AnyTokensError, { code: Code }> } = {
  ERR_TOKENS_CONFIGURATION: new api.TokensConfigurationError('x'),
  ERR_TOKENS_USAGE: new api.TokensUsageError('x'),
  ERR_TOKENS_AUTHENTICATION_REQUIRED: new api.AuthenticationRequiredError(),
  ERR_TOKENS_INVALID_INPUT: new api.InvalidTokenInputError('x'),
  ERR_TOKENS_NOT_FOUND: new api.TokensNotFoundError(subject),
  ERR_TOKENS_AMBIGUOUS_ACCOUNT: new api.AmbiguousAccountError(subject, ['home', 'work']),
  ERR_TOKENS_INSUFFICIENT_SCOPE: new api.InsufficientScopeError(subject, ['repo']),
  ERR_TOKENS_REAUTHENTICATION_REQUIRED: new api.ReauthenticationRequiredError(subject, 'refresh_rejected'),
  ERR_TOKENS_REFRESH_IN_PROGRESS: new api.RefreshInProgressError(subject),
  ERR_TOKENS_REFRESH_UNAVAILABLE: new api.RefreshUnavailableError(subject, 'x', 2000),
  ERR_TOKENS_PROVIDER_MISCONFIGURED: new api.ProviderMisconfiguredError(subject, 'invalid_client'),
  ERR_TOKENS_UNSUPPORTED_PROVIDER: new api.UnsupportedProviderError('initech', []),
  ERR_TOKENS_DECRYPTION: new api.TokenDecryptionError('x', '2025'),
  ERR_TOKENS_KEY_IN_USE: new api.KeyInUseError('2024', 'x', 'x', {}),
  ERR_TOKENS_STORE_UNAVAILABLE: new TokenStoreUnavailableError('x', '08006'),
  ERR_TOKENS_KEYCLOAK_UNAVAILABLE: new api.KeycloakUnavailableError('x', 3000),
  ERR_TOKENS_KEYCLOAK_MISCONFIGURED: new api.KeycloakMisconfiguredError('x'),
  ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED: new api.KeycloakSessionExpiredError('x'),
  ERR_TOKENS_LINK_REFUSED: new api.LinkRefusedError('denied', { idp: 'acme' }),
  ERR_TOKENS_PROVIDER_UNAVAILABLE: new api.ProviderUnavailableError('acme', 'x', 4000),
};

/** A field that only the class of the code has. It compiles only if `code` narrows and the cases are complete. */
function narrowed(error: AnyTokensError): unknown {
  switch (error.code) {
    case 'ERR_TOKENS_NOT_FOUND':
      return error.subject;
    case 'ERR_TOKENS_AMBIGUOUS_ACCOUNT':
      return error.accounts;
    case 'ERR_TOKENS_INSUFFICIENT_SCOPE':
      return error.missingScopes;
    case 'ERR_TOKENS_REAUTHENTICATION_REQUIRED':
    case 'ERR_TOKENS_LINK_REFUSED':
      return error.reason;
    case 'ERR_TOKENS_REFRESH_IN_PROGRESS':
    case 'ERR_TOKENS_REFRESH_UNAVAILABLE':
    case 'ERR_TOKENS_KEYCLOAK_UNAVAILABLE':
    case 'ERR_TOKENS_PROVIDER_UNAVAILABLE':
      return error.retryAfterMs;
    case 'ERR_TOKENS_PROVIDER_MISCONFIGURED':
      return error.providerCode;
    case 'ERR_TOKENS_UNSUPPORTED_PROVIDER':
      return error.idp;
    case 'ERR_TOKENS_DECRYPTION':
    case 'ERR_TOKENS_KEY_IN_USE':
      return error.keyId;
    case 'ERR_TOKENS_STORE_UNAVAILABLE':
      return error.sqlState;
    case 'ERR_TOKENS_CONFIGURATION':
    case 'ERR_TOKENS_USAGE':
    case 'ERR_TOKENS_AUTHENTICATION_REQUIRED':
    case 'ERR_TOKENS_INVALID_INPUT':
    case 'ERR_TOKENS_KEYCLOAK_MISCONFIGURED':
    case 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED':
      return error.message;
    default: {
      const missing: never = error;
      return missing;
    }
  }
}

describe('AnyTokensError', () => {
  it('is told apart by its code', () => {
    expect(Object.values(errors).map(narrowed)).toEqual([
      'x',
      'x',
      expect.stringContaining('Log in'),
      'x',
      subject,
      ['home', 'work'],
      ['repo'],
      'refresh_rejected',
      1000,
      2000,
      'invalid_client',
      'initech',
      '2025',
      '2024',
      '08006',
      3000,
      'x',
      'x',
      'denied',
      4000,
    ]);
  });

  it('has every concrete error class of the package, each with a code of its own', () => {
    const exported = Object.entries(api).filter(
      ([, value]) => typeof value === 'function' && value.prototype instanceof TokensError,
    );
    const classes = Object.values(errors).map((error) => error.constructor);
    expect(new Set(exported.map(([, value]) => value))).toEqual(new Set(classes));
    expect(new Set(classes).size).toBe(Object.keys(errors).length);
    expect(new Set(Object.values(errors).map(({ name }) => name))).toEqual(new Set(exported.map(([name]) => name)));
  });

  it.each(Object.entries(errors))('with the code %s is a TokensError with the name of its class', (code, error) => {
    expect(error).toBeInstanceOf(TokensError);
    expect(error).toBeInstanceOf(Error);
    expect(error.code).toBe(code);
    expect(error.name).toBe(error.constructor.name);
    expect(String(error)).toBe(`${error.name}: ${error.message}`);
  });
});

describe('A TokenStoreUnavailableError', () => {
  const retryable: [sqlState: string | undefined, meaning: string][] = [
    [undefined, 'no server answered'],
    ['08006', 'the connection broke'],
    ['40001', 'serialization failure'],
    ['40P01', 'deadlock'],
    ['53300', 'too many connections'],
    ['55P03', 'lock not available'],
    ['57P01', 'the server shuts down'],
    ['57014', 'the statement was cancelled'],
    ['25006', 'the server is a standby'],
    ['25P02', 'the transaction is aborted'],
    ['26000', 'the prepared statement is unknown'],
    ['0A000', 'the plan of the prepared statement is outdated'],
    ['42P05', 'the prepared statement exists already'],
  ];
  const lasting: [sqlState: string, meaning: string][] = [
    ['42P01', 'no such table'],
    ['42703', 'no such column'],
    ['28P01', 'wrong password'],
    ['28000', 'no such login'],
    ['3D000', 'no such database'],
    ['22001', 'the value is too long'],
    ['22021', 'a character that cannot be stored'],
    ['23505', 'the row exists already'],
    ['42501', 'no right to the table'],
    ['42601', 'syntax error'],
    ['54000', 'a limit of the server'],
    ['XX000', 'a fault of the server'],
  ];

  it.each(retryable)('with the SQLSTATE %s (%s) is retryable', (sqlState) => {
    expect(new TokenStoreUnavailableError('x', sqlState).retryable).toBe(true);
  });

  it.each(lasting)('with the SQLSTATE %s (%s) is not retryable', (sqlState) => {
    expect(new TokenStoreUnavailableError('x', sqlState).retryable).toBe(false);
  });
});
