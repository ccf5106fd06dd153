import type { AmbiguousAccountError, InsufficientScopeError } from './account.errors.js';
import type { LinkRefusedError, ProviderUnavailableError } from './link.errors.js';
import { accountInWords, keyInWords, type TokenKey } from './token-key.js';
import { seconds, TokensError } from './tokens-error.js';

/** Every error of this module. TypeScript narrows it to one class by `error.code`. */
export type AnyTokensError =
  | TokensConfigurationError
  | TokensUsageError
  | AuthenticationRequiredError
  | InvalidTokenInputError
  | TokensNotFoundError
  | AmbiguousAccountError
  | InsufficientScopeError
  | ReauthenticationRequiredError
  | RefreshInProgressError
  | RefreshUnavailableError
  | ProviderMisconfiguredError
  | UnsupportedProviderError
  | TokenDecryptionError
  | KeyInUseError
  | TokenStoreUnavailableError
  | KeycloakUnavailableError
  | KeycloakMisconfiguredError
  | KeycloakSessionExpiredError
  | LinkRefusedError
  | ProviderUnavailableError;

/** The options, the data source or the tables are not as the module needs them. The message lists every fault. */
export class TokensConfigurationError extends TokensError {
  readonly code = 'ERR_TOKENS_CONFIGURATION';
  readonly retryable = false;
}

/** The code of the host uses the module in a way that cannot work. A second try cannot succeed. */
export class TokensUsageError extends TokensError {
  readonly code = 'ERR_TOKENS_USAGE';
  readonly retryable = false;
}

/** The request has no access token, so the module does not know its user. @see RFC 6750 section 3 */
export class AuthenticationRequiredError extends TokensError {
  readonly code = 'ERR_TOKENS_AUTHENTICATION_REQUIRED';
  readonly retryable = false;

  constructor() {
    super('The request has no access token. Log in, and send the access token as "Authorization: Bearer …".');
  }
}

/** The module cannot use an argument, such as an empty user id, an empty token or an expiry that is no epoch second. */
export class InvalidTokenInputError extends TokensError {
  readonly code = 'ERR_TOKENS_INVALID_INPUT';
  readonly retryable = false;
}

/** The module has no tokens of this user and provider, because the user has not connected the account yet. */
export class TokensNotFoundError extends TokensError {
  readonly code = 'ERR_TOKENS_NOT_FOUND';
  readonly retryable = false;

  constructor(readonly subject: TokenKey) {
    super(`${keyInWords(subject)} has no stored tokens. Let the user connect the account first.`);
  }
}

/** Why the user must connect the account again. */
export type ReauthenticationReason =
  'refresh_rejected' | 'refresh_token_expired' | 'no_refresh_token' | 'broker_refresh_failed';

const REAUTHENTICATION_CAUSES: Record<ReauthenticationReason, string> = {
  refresh_rejected: 'the provider rejected the refresh token',
  refresh_token_expired: 'the access token and the refresh token have expired',
  no_refresh_token: 'the access token is no longer usable and there is no refresh token',
  broker_refresh_failed:
    "Keycloak's broker could not refresh the tokens at the provider. The provider rejected the refresh token, or it " +
    'did not answer',
};

/** The grant has ended. The user must connect the account again. The module keeps the stored row until then. */
export class ReauthenticationRequiredError extends TokensError {
  readonly code = 'ERR_TOKENS_REAUTHENTICATION_REQUIRED';
  readonly retryable = false;

  constructor(
    readonly subject: TokenKey,
    readonly reason: ReauthenticationReason,
  ) {
    super(`${keyInWords(subject)} must connect the account again, because ${REAUTHENTICATION_CAUSES[reason]}.`);
  }
}

/** A refresh of these tokens, in this process or in another one, did not end while the caller could wait. */
export class RefreshInProgressError extends TokensError {
  readonly code = 'ERR_TOKENS_REFRESH_IN_PROGRESS';
  readonly retryable = true;

  constructor(
    readonly subject: TokenKey,
    /** A sensible pause before the next try, in milliseconds. */
    readonly retryAfterMs = 1000,
  ) {
    super(
      `${keyInWords(subject)}: a refresh of the tokens has not ended yet. Try again in ${seconds(retryAfterMs)} s.`,
    );
  }
}

/** The module cannot refresh the tokens now, and the stored access token is not usable. A later try can succeed. */
export class RefreshUnavailableError extends TokensError {
  readonly code = 'ERR_TOKENS_REFRESH_UNAVAILABLE';
  readonly retryable = true;

  constructor(
    readonly subject: TokenKey,
    /** A clause without a full stop: the message has it after "because". */
    cause: string,
    /** How long the module starts no other refresh, in milliseconds. */
    readonly retryAfterMs = 1000,
  ) {
    super(
      `${keyInWords(subject)}: the tokens cannot be refreshed now, because ${cause}. ` +
        `Try again in ${seconds(retryAfterMs)} s.`,
    );
  }
}

/** The provider refuses this application, not this user. The operator must act. The grant is untouched. */
export class ProviderMisconfiguredError extends TokensError {
  readonly code = 'ERR_TOKENS_PROVIDER_MISCONFIGURED';
  readonly retryable = false;

  constructor(
    readonly subject: TokenKey,
    /** The OAuth error code or HTTP status of the provider's answer. `OTHER_CLIENT` if the module sent no request. */
    readonly providerCode: string,
    /** What is wrong, and what to do, without the last full stop. */
    explanation = `the provider refused this application's request with "${providerCode}". ` +
      `Check clientId, clientSecret and the URLs in identityProviders.${subject.idp}`,
  ) {
    super(
      `Identity provider "${subject.idp}": ${explanation}. ` +
        `The tokens of user "${subject.keycloakUserId}"${accountInWords(subject)} are untouched.`,
    );
  }

  /**
   * The provider issued the stored tokens to another client, so the module did not send the refresh token.
   *
   * @internal
   */
  static otherClient(subject: TokenKey, issuedTo: string, configured: string): ProviderMisconfiguredError {
    return new ProviderMisconfiguredError(
      subject,
      'OTHER_CLIENT',
      `the provider issued the stored tokens to client "${issuedTo}", but the options name client "${configured}". ` +
        `A request of client "${configured}" would end the grant. ` +
        `Correct identityProviders.${subject.idp}.clientId, or let the user connect the account again`,
    );
  }
}

/** The options do not name this identity provider. */
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

/** A stored text does not open. Its key is missing, or the text was altered or moved to another row or column. */
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

/** An encryption key cannot be retired yet, because stored texts name it, or because open transactions may store some. */
export class KeyInUseError extends TokensError {
  readonly code = 'ERR_TOKENS_KEY_IN_USE';
  readonly retryable = true;

  constructor(
    readonly keyId: string,
    /** A clause without a full stop: the message has it after "because". The remedy is a sentence without one. */
    cause: string,
    remedy: string,
    /** How many texts of each table name the key. */
    readonly texts: Readonly<Record<string, number>>,
  ) {
    super(`The encryption key "${keyId}" is not retired, because ${cause}. ${remedy}.`);
  }
}

/**
 * SQLSTATE classes of faults that make a later try fail too: an unsupported feature, a value, a constraint, the login,
 * the database or schema, the statement or the rights to it, a limit, a fault of the server.
 */
const LASTING_STATES = /^(0A|22|23|28|3D|3F|42|54|XX)/;
/**
 * States of these classes after which a later try can succeed, because it prepares the statement under another name.
 */
const ABOUT_A_NAME = new Set(['0A000', '42P05']);

/**
 * PostgreSQL did not execute a statement of this module. The statement had no effect unless its answer was lost. The
 * error is retryable unless its SQLSTATE says that a later try fails too: a missing table, a wrong password, a bad
 * value.
 */
export class TokenStoreUnavailableError extends TokensError {
  readonly code = 'ERR_TOKENS_STORE_UNAVAILABLE';
  readonly retryable: boolean;
  readonly retryAfterMs = 1000;

  constructor(
    message: string,
    /** SQLSTATE of PostgreSQL. It is undefined if no server answered. */
    readonly sqlState?: string,
    /** Name of the constraint that the statement violated, if it violated one. */
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

/** Keycloak refuses this application, not this user. The operator must act. */
export class KeycloakMisconfiguredError extends TokensError {
  readonly code = 'ERR_TOKENS_KEYCLOAK_MISCONFIGURED';
  readonly retryable = false;
}

/** The user's Keycloak session has ended. The user must log in again. */
export class KeycloakSessionExpiredError extends TokensError {
  readonly code = 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED';
  readonly retryable = false;
}
