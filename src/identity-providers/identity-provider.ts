import type { ImpliedScopes } from '../scopes.js';
import type { CodeFlow } from './code-flow.js';
import type { RefreshPolicy } from './refresh-policy.js';

/** Tokens in plaintext as a provider issued them. Lifetimes count from the sending of the request. */
export interface IssuedTokens {
  readonly accessToken: string;
  /** Absent if the old refresh token stays valid. @see RFC 6749 section 6 */
  readonly refreshToken?: string;
  /** Seconds; absent = the access token does not expire. */
  readonly accessTokenExpiresIn?: number;
  /** Seconds; absent = the provider says nothing about it, so the expiry of a new refresh token is unknown. */
  readonly refreshTokenExpiresIn?: number;
  /**
   * The scopes of the access token. Absent if the provider says nothing about them. @see RFC 6749 section 5.1
   */
  readonly scopes?: readonly string[];
}

/**
 * The outcome of one attempt to redeem a refresh token. `code` is an OAuth error or a transport code, never a message
 * or a body.
 */
export type RefreshAnswer =
  | { readonly kind: 'success'; readonly tokens: IssuedTokens }
  /** The provider no longer accepts the refresh token. */
  | { readonly kind: 'terminal'; readonly code: string }
  /** The provider refuses this application or its request. The refresh token is untouched. */
  | { readonly kind: 'configuration'; readonly code: string }
  /** The provider certainly did not redeem the refresh token. A later attempt can succeed. */
  | { readonly kind: 'not-redeemed'; readonly code: string; readonly retryAfterMs?: number }
  /** The answer is lost. The provider may or may not have redeemed the refresh token. */
  | { readonly kind: 'ambiguous'; readonly code: string };

/** The outcome of a request to revoke tokens. */
export type RevocationAnswer =
  | { readonly kind: 'revoked' }
  /** The provider will never accept this request. */
  | { readonly kind: 'refused'; readonly code: string }
  | { readonly kind: 'unavailable'; readonly code: string; readonly retryAfterMs?: number };

/**
 * What a provider says about an access token. `unknown` = the provider cannot be asked, or its answer does not tell.
 */
export type AccessTokenLife = 'alive' | 'dead' | 'unknown';

/** A token pair in plaintext. `refreshToken` is empty if there is none. */
export interface TokenPair {
  readonly accessToken: string;
  readonly refreshToken: string;
}

/**
 * The interface by which the module calls an identity provider. For a provider that the OAuth 2.0 options cannot
 * describe, implement it and put an instance into `identityProviders`.
 */
export interface IdentityProvider {
  readonly policy: RefreshPolicy;

  /**
   * The OAuth client to which the provider issues tokens. The module stores it with every pair. It never sends a
   * refresh token that was issued to another client, because the provider would answer `invalid_grant`. If `clientId`
   * is absent, the module does not check the client.
   */
  readonly clientId?: string;

  /**
   * The lifetime in seconds of an access token without an expiry, of a stored one too. The module refreshes the token
   * after this time, if there is a refresh token. If it is absent, such a token never expires.
   */
  readonly assumedLifetimeSeconds?: number;

  /**
   * The scopes that a scope of this provider contains, such as `{ repo: ['public_repo'] }`. Those that they contain
   * count too. Default: none.
   */
  readonly impliedScopes?: ImpliedScopes;

  /**
   * Whether a token whose scopes are not known lacks every scope that a caller requires. Default: false, so that the
   * pairs of an adopted database pass.
   */
  readonly requireKnownScopes?: boolean;

  /**
   * Sends the refresh token to the provider once, and returns the outcome. It must not reject, must not send the token
   * a second time, and must settle soon after `policy.exchangeTimeoutMs`. The caller decides about concurrency and
   * retries.
   */
  refresh(refreshToken: string): Promise<RefreshAnswer>;

  /**
   * Asks the provider to end the tokens. It must not reject. Leave it out if the provider cannot revoke tokens. @see
   * RFC 7009
   */
  revoke?(tokens: TokenPair): Promise<RevocationAnswer>;

  /**
   * Asks the provider whether an access token still works. The module calls it only if `policy.refreshEndsAccessToken`
   * is true, because only then the answer tells what became of a refresh: `alive` = the refresh token is unspent,
   * `dead` before the expiry = the refresh token is spent. It must not reject, and must settle within five seconds.
   * Leave it out if the provider cannot answer this question.
   */
  isAccessTokenAlive?(accessToken: string): Promise<AccessTokenLife>;

  /**
   * The code flow by which {@link AccountLinks} connects accounts. {@link OAuth2Provider} makes it.
   *
   * @internal
   */
  readonly codeFlow?: CodeFlow;
}

/** Returns whether an entry of the options is a provider object. */
export function isIdentityProvider(value: unknown): value is IdentityProvider {
  return typeof value === 'object' && value !== null && 'refresh' in value && typeof value.refresh === 'function';
}
