import type { TokenKey } from '../token-key.js';

declare const sealed: unique symbol;

/**
 * A text that {@link TokenCipher.seal} returned. It has a type of its own, so that the host cannot store a plaintext
 * token by mistake.
 */
export type SealedToken = string & { readonly [sealed]: true };

/**
 * The place of a sealed text. The text is authenticated together with its place. So a text that was copied to another
 * row, user, provider, account or column does not open there.
 */
export interface TokenLocation extends TokenKey {
  readonly table: string;
  readonly column: string;
  /** Name of the identity provider. It is empty if the row has none. */
  readonly idp: string;
}
