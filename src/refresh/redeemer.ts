import type { RefreshAnswer } from '../identity-providers/identity-provider.js';
import type { Lease } from '../storage/auth-tokens/auth-tokens.row.js';
import type { RefreshedTokens } from '../storage/auth-tokens/auth-tokens.types.js';

/** What one attempt to redeem a leased refresh token came to. */
export type Redemption =
  | { readonly kind: 'success'; readonly tokens: RefreshedTokens }
  | Exclude<RefreshAnswer, { kind: 'success' }>
  /** The stored pair is to be kept. */
  | { readonly kind: 'unchanged' }
  /** Nothing was sent, or nobody can say: the lease goes back and the error to the callers. */
  | { readonly kind: 'abandoned'; readonly error: unknown };

/**
 * Redeems the refresh token of a leased row. The refresh token is opened, and the key that seals its successor checked,
 * before anything is sent. Must not reject.
 */
export type Redeem = (lease: Lease) => Promise<Redemption>;

/**
 * Who redeems: the provider by the options, or a callback of the host. What a callback decides (to keep the pair, or to
 * throw) binds only callers who came with a callback.
 */
export interface Redeemer {
  readonly source: 'provider' | 'callback';
  readonly redeem: Redeem;
}
