import { keyInWords, type TokenKey } from './token-key.js';
import { TokensError } from './tokens-error.js';

/**
 * The user has several accounts at the provider, none of them is the default account, and the call names none. Name one
 * of them.
 */
export class AmbiguousAccountError extends TokensError {
  readonly code = 'ERR_TOKENS_AMBIGUOUS_ACCOUNT';
  readonly retryable = false;

  constructor(
    readonly subject: TokenKey,
    /** The names of the accounts, sorted. */
    readonly accounts: readonly string[],
  ) {
    const names = accounts.map((account) => `"${account}"`).join(', ');
    super(`${keyInWords(subject)} has tokens of several accounts: ${names}. Pass one of them as account.`);
  }
}

/** Why scopes count as missing: the user did not grant them, or the module does not know what the user granted. */
export type InsufficientScopeReason = 'not_granted' | 'unknown';

/**
 * The stored access token lacks scopes that the caller requires. The tokens are untouched. Let the user connect the
 * account again, with these scopes.
 */
export class InsufficientScopeError extends TokensError {
  readonly code = 'ERR_TOKENS_INSUFFICIENT_SCOPE';
  readonly retryable = false;

  constructor(
    readonly subject: TokenKey,
    readonly missingScopes: readonly string[],
    readonly reason: InsufficientScopeReason = 'not_granted',
  ) {
    const missing = missingScopes.map((scope) => `"${scope}"`).join(', ');
    const cause =
      reason === 'unknown' ? `the granted scopes are not known and ${missing} must be` : `${missing} are missing`;
    super(`${keyInWords(subject)} must connect the account again with more scopes, because ${cause}.`);
  }

  /** The name of the identity provider. */
  get idp(): string {
    return this.subject.idp;
  }

  /** The account that lacks the scopes; '' is the default account. */
  get account(): string {
    return this.subject.account ?? '';
  }
}
