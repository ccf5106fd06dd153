import type { TokenKey } from '../token-key.js';

declare const sealed: unique symbol;

/** Text produced by {@link TokenCipher.seal}. A type of its own, so that a plaintext token cannot be stored by mistake. */
export type SealedToken = string & { readonly [sealed]: true };

/**
 * Where a sealed text lives. It is authenticated together with the text, so that one copied to another row, user,
 * provider or column does not open there.
 */
export interface TokenLocation extends TokenKey {
  readonly table: string;
  readonly column: string;
  /** Name of the identity provider; empty where the row has none. */
  readonly idp: string;
}
