/** Machine-readable code of every error that this module throws on purpose. The codes are the same in all releases. */
export type TokensErrorCode =
  | 'ERR_TOKENS_CONFIGURATION'
  | 'ERR_TOKENS_USAGE'
  | 'ERR_TOKENS_AUTHENTICATION_REQUIRED'
  | 'ERR_TOKENS_INVALID_INPUT'
  | 'ERR_TOKENS_NOT_FOUND'
  | 'ERR_TOKENS_AMBIGUOUS_ACCOUNT'
  | 'ERR_TOKENS_INSUFFICIENT_SCOPE'
  | 'ERR_TOKENS_REAUTHENTICATION_REQUIRED'
  | 'ERR_TOKENS_REFRESH_IN_PROGRESS'
  | 'ERR_TOKENS_REFRESH_UNAVAILABLE'
  | 'ERR_TOKENS_PROVIDER_MISCONFIGURED'
  | 'ERR_TOKENS_UNSUPPORTED_PROVIDER'
  | 'ERR_TOKENS_DECRYPTION'
  | 'ERR_TOKENS_KEY_IN_USE'
  | 'ERR_TOKENS_STORE_UNAVAILABLE'
  | 'ERR_TOKENS_KEYCLOAK_UNAVAILABLE'
  | 'ERR_TOKENS_KEYCLOAK_MISCONFIGURED'
  | 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED'
  | 'ERR_TOKENS_LINK_REFUSED'
  | 'ERR_TOKENS_PROVIDER_UNAVAILABLE';

/**
 * Base class of every error of this module. The message says what happened and what to do. It never contains a token, a
 * response body, SQL parameters or the `detail` of a driver error. The error never has a driver error as its `cause`.
 */
export abstract class TokensError extends Error {
  abstract readonly code: TokensErrorCode;
  /** Whether the same call can succeed later, although the host, the operator and the user change nothing. */
  abstract readonly retryable: boolean;

  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** Returns a pause of so many milliseconds for a message, in whole seconds, at least one. */
export function seconds(milliseconds: number): number {
  return Math.max(1, Math.ceil(milliseconds / 1000));
}
