import type { TokenKey } from './token-key.js';

/** Machine-readable code of every error that this module throws on purpose. Stable across releases. */
export type TokensErrorCode =
  | 'ERR_TOKENS_CONFIGURATION'
  | 'ERR_TOKENS_USAGE'
  | 'ERR_TOKENS_AUTHENTICATION_REQUIRED'
  | 'ERR_TOKENS_INVALID_INPUT'
  | 'ERR_TOKENS_NOT_FOUND'
  | 'ERR_TOKENS_REAUTHENTICATION_REQUIRED'
  | 'ERR_TOKENS_REFRESH_IN_PROGRESS'
  | 'ERR_TOKENS_REFRESH_UNAVAILABLE'
  | 'ERR_TOKENS_PROVIDER_MISCONFIGURED'
  | 'ERR_TOKENS_UNSUPPORTED_PROVIDER'
  | 'ERR_TOKENS_DECRYPTION'
  | 'ERR_TOKENS_STORE_UNAVAILABLE'
  | 'ERR_TOKENS_KEYCLOAK_UNAVAILABLE'
  | 'ERR_TOKENS_KEYCLOAK_MISCONFIGURED'
  | 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED';

/** Every error of this module: `error.code` tells which, and narrows to the class. */
export type AnyTokensError =
  | TokensConfigurationError
  | TokensUsageError
  | AuthenticationRequiredError
  | InvalidTokenInputError
  | TokensNotFoundError
  | ReauthenticationRequiredError
  | RefreshInProgressError
  | RefreshUnavailableError
  | ProviderMisconfiguredError
  | UnsupportedProviderError
  | TokenDecryptionError
  | TokenStoreUnavailableError
  | KeycloakUnavailableError
  | KeycloakMisconfiguredError
  | KeycloakSessionExpiredError;

/**
 * Base of every error of this module. Its message says what happened and what to do; it never holds a token, a response
 * body, SQL parameters or a driver's `detail`, and never carries a driver error as `cause`.
 */
export abstract class TokensError extends Error {
  abstract readonly code: TokensErrorCode;
  /** Whether the same call can succeed later without anybody changing anything. */
  abstract readonly retryable: boolean;

  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** The options of the module are wrong. Thrown while the application boots; the message lists every fault. */
export class TokensConfigurationError extends TokensError {
  readonly code = 'ERR_TOKENS_CONFIGURATION';
  readonly retryable = false;
}

/** The program uses the module in a way that cannot work: a fault in its code, which no second try mends. */
export class TokensUsageError extends TokensError {
  readonly code = 'ERR_TOKENS_USAGE';
  readonly retryable = false;
}

/** The request bears no access token, so its user is not known. @see RFC 6750 section 3 */
export class AuthenticationRequiredError extends TokensError {
  readonly code = 'ERR_TOKENS_AUTHENTICATION_REQUIRED';
  readonly retryable = false;

  constructor() {
    super('The request bears no access token. Log in, and send the access token as "Authorization: Bearer …".');
  }
}

/** An argument cannot be stored or looked up: an empty user id, an empty token, an expiry that is no epoch second. */
export class InvalidTokenInputError extends TokensError {
  readonly code = 'ERR_TOKENS_INVALID_INPUT';
  readonly retryable = false;
}

/** Nothing is stored for this user and provider: the user has not connected the account yet. */
export class TokensNotFoundError extends TokensError {
  readonly code = 'ERR_TOKENS_NOT_FOUND';
  readonly retryable = false;

  constructor(readonly subject: TokenKey) {
    super(`${about(subject)} has no stored tokens. Let the user connect the account first.`);
  }
}

/** Why only the user can make the tokens usable again. */
export type ReauthenticationReason = 'refresh_rejected' | 'refresh_token_expired' | 'no_refresh_token';

const REAUTHENTICATION_CAUSES: Record<ReauthenticationReason, string> = {
  refresh_rejected: 'the provider rejected the refresh token',
  refresh_token_expired: 'the access token and the refresh token have expired',
  no_refresh_token: 'the access token is no longer usable and there is no refresh token',
};

/** The grant has ended: only a new authorization by the user helps. The stored row is kept until then. */
export class ReauthenticationRequiredError extends TokensError {
  readonly code = 'ERR_TOKENS_REAUTHENTICATION_REQUIRED';
  readonly retryable = false;

  constructor(
    readonly subject: TokenKey,
    readonly reason: ReauthenticationReason,
  ) {
    super(`${about(subject)} must connect the account again: ${REAUTHENTICATION_CAUSES[reason]}.`);
  }
}

/** Another caller or process is refreshing these tokens and did not finish within the waiter's budget. */
export class RefreshInProgressError extends TokensError {
  readonly code = 'ERR_TOKENS_REFRESH_IN_PROGRESS';
  readonly retryable = true;

  constructor(
    readonly subject: TokenKey,
    /** A sensible pause before the next try, in milliseconds. */
    readonly retryAfterMs = 1000,
  ) {
    super(
      `${about(subject)}: the tokens are being refreshed by someone else. Try again in ${seconds(retryAfterMs)} s.`,
    );
  }
}

/** The refresh failed for a passing reason and the stored access token is no longer usable. Nothing was lost. */
export class RefreshUnavailableError extends TokensError {
  readonly code = 'ERR_TOKENS_REFRESH_UNAVAILABLE';
  readonly retryable = true;

  constructor(
    readonly subject: TokenKey,
    cause: string,
    /** How long no further refresh is attempted, in milliseconds. */
    readonly retryAfterMs = 1000,
  ) {
    super(`${about(subject)}: the tokens cannot be refreshed now: ${cause}. Try again in ${seconds(retryAfterMs)} s.`);
  }
}

/** The provider refuses this application, not this user: the grant is untouched, the operator must act. */
export class ProviderMisconfiguredError extends TokensError {
  readonly code = 'ERR_TOKENS_PROVIDER_MISCONFIGURED';
  readonly retryable = false;

  constructor(
    readonly subject: TokenKey,
    /** The OAuth error code or HTTP status that the provider answered; `OTHER_CLIENT` when it was not asked. */
    readonly providerCode: string,
    /** What is wrong, and what to do. */
    explanation = `it refused this application's request with "${providerCode}". ` +
      `Check clientId, clientSecret and the URLs in identityProviders.${subject.idp}`,
  ) {
    super(
      `Identity provider "${subject.idp}": ${explanation}; the tokens of user "${subject.keycloakUserId}" are untouched.`,
    );
  }

  /** The stored grant was issued to another client, so its refresh token was not sent. */
  static otherClient(subject: TokenKey, issuedTo: string, configured: string): ProviderMisconfiguredError {
    return new ProviderMisconfiguredError(
      subject,
      'OTHER_CLIENT',
      `the stored tokens were issued to client "${issuedTo}", and the options name client "${configured}", whose ` +
        `request would end the grant. Correct identityProviders.${subject.idp}.clientId, or let the user connect again`,
    );
  }
}

/** The provider is not among the configured ones. */
export class UnsupportedProviderError extends TokensError {
  readonly code = 'ERR_TOKENS_UNSUPPORTED_PROVIDER';
  readonly retryable = false;

  constructor(
    readonly idp: string,
    configured: readonly string[],
  ) {
    super(
      `Identity provider "${idp}" is not configured. Configured: ${configured.join(', ') || 'none'}. ` +
        'Add it to identityProviders in the options of TokensModule.',
    );
  }
}

/** A stored text does not open: its key is missing, or it was altered or moved to another row or column. */
export class TokenDecryptionError extends TokensError {
  readonly code = 'ERR_TOKENS_DECRYPTION';
  readonly retryable = false;

  constructor(
    message: string,
    /** Id of the key that the text names, if it names one. */
    readonly keyId?: string,
  ) {
    super(message);
  }
}

/**
 * SQLSTATE classes of faults that stay until somebody changes something: an unsupported feature, a value, a constraint,
 * the login, the database or schema, the statement or the rights to it, a limit, a fault of the server.
 */
const LASTING_STATES = /^(0A|22|23|28|3D|3F|42|54|XX)/;
/** Of these classes, but about a prepared statement: the next try goes by another name. */
const ABOUT_A_NAME = new Set(['0A000', '42P05']);

/**
 * PostgreSQL did not execute a statement of this module. The statement had no effect unless its answer was lost. It is
 * retryable unless its SQLSTATE says that only a change can help: a missing table, a wrong password, a bad value.
 */
export class TokenStoreUnavailableError extends TokensError {
  readonly code = 'ERR_TOKENS_STORE_UNAVAILABLE';
  readonly retryable: boolean;
  readonly retryAfterMs = 1000;

  constructor(
    message: string,
    /** SQLSTATE of PostgreSQL, absent when no server answered. */
    readonly sqlState?: string,
    /** Name of the violated constraint, if one was. */
    readonly constraint?: string,
  ) {
    super(message);
    this.retryable = sqlState === undefined || ABOUT_A_NAME.has(sqlState) || !LASTING_STATES.test(sqlState);
  }
}

/** Keycloak gave no usable answer. */
export class KeycloakUnavailableError extends TokensError {
  readonly code = 'ERR_TOKENS_KEYCLOAK_UNAVAILABLE';
  readonly retryable = true;

  constructor(
    message: string,
    /** A sensible pause before the next try, in milliseconds. */
    readonly retryAfterMs = 1000,
  ) {
    super(message);
  }
}

/** Keycloak refuses this application, not this user: the operator must act. */
export class KeycloakMisconfiguredError extends TokensError {
  readonly code = 'ERR_TOKENS_KEYCLOAK_MISCONFIGURED';
  readonly retryable = false;
}

/** The user's Keycloak session has ended: the user must log in again. */
export class KeycloakSessionExpiredError extends TokensError {
  readonly code = 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED';
  readonly retryable = false;
}

function about({ keycloakUserId, idp }: TokenKey): string {
  return `User "${keycloakUserId}", identity provider "${idp}"`;
}

function seconds(milliseconds: number): number {
  return Math.max(1, Math.ceil(milliseconds / 1000));
}
