import type { RefreshPolicy } from './refresh-policy.js';

/** Tokens in plaintext as a provider issued them; lifetimes count from the sending of the request. */
export interface IssuedTokens {
  readonly accessToken: string;
  /** Absent when the provider keeps the old one valid. @see RFC 6749 section 6 */
  readonly refreshToken?: string;
  /** Seconds; absent = the access token does not expire. */
  readonly accessTokenExpiresIn?: number;
  /** Seconds; absent = nothing new is known about it. */
  readonly refreshTokenExpiresIn?: number;
}

/** What an attempt to redeem a refresh token came to. `code` is an OAuth or transport code, never a message or body. */
export type RefreshAnswer =
  | { readonly kind: 'success'; readonly tokens: IssuedTokens }
  /** The provider says that the refresh token is no longer good. */
  | { readonly kind: 'terminal'; readonly code: string }
  /** The provider refuses this application or its request; the refresh token is untouched. */
  | { readonly kind: 'configuration'; readonly code: string }
  /** The refresh token was certainly not redeemed; a later attempt can succeed. */
  | { readonly kind: 'not-redeemed'; readonly code: string; readonly retryAfterMs?: number }
  /** The answer was lost: the refresh token may or may not have been redeemed. */
  | { readonly kind: 'ambiguous'; readonly code: string };

/** What became of a request to revoke tokens. */
export type RevocationAnswer =
  | { readonly kind: 'revoked' }
  /** The provider will never accept this request. */
  | { readonly kind: 'refused'; readonly code: string }
  | { readonly kind: 'unavailable'; readonly code: string; readonly retryAfterMs?: number };

/** What a provider says of an access token; `unknown` when it cannot be asked, or its answer says nothing. */
export type AccessTokenLife = 'alive' | 'dead' | 'unknown';

/** The two tokens of a pair in plaintext; `refreshToken` is empty when there is none. */
export interface TokenPair {
  readonly accessToken: string;
  readonly refreshToken: string;
}

/**
 * The port through which the module talks to an identity provider. Implement it, and put an instance into
 * `identityProviders`, for a provider that the OAuth 2.0 options cannot describe.
 */
export interface IdentityProvider {
  readonly policy: RefreshPolicy;

  /**
   * The OAuth client that the provider issues tokens to. Stored with every pair: a refresh token that was issued to another
   * client is never sent, because the provider would answer `invalid_grant`. Left out, it is not checked.
   */
  readonly clientId?: string;

  /**
   * Sends the refresh token to the provider once and says what came of it. It must not reject, must not send the token
   * a second time, and must settle soon after `policy.exchangeTimeoutMs`. Concurrency and retries are the caller's.
   */
  refresh(refreshToken: string): Promise<RefreshAnswer>;

  /** Asks the provider to end the tokens. Absent when the provider has no way to. Must not reject. @see RFC 7009 */
  revoke?(tokens: TokenPair): Promise<RevocationAnswer>;

  /**
   * Asks the provider whether an access token still works. Only asked where `policy.refreshEndsAccessToken` says that the
   * answer tells what became of a refresh: alive = the refresh token is unspent, dead before its expiry = spent. Must not
   * reject, and must settle within five seconds. Absent when the provider has no way to.
   */
  isAccessTokenAlive?(accessToken: string): Promise<AccessTokenLife>;
}

/** Tells a ready-made provider from an options entry. */
export function isIdentityProvider(value: unknown): value is IdentityProvider {
  return typeof value === 'object' && value !== null && 'refresh' in value && typeof value.refresh === 'function';
}
