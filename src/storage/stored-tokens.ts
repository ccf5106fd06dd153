import type { SealedToken } from '../sealing/sealed-token.js';

/** A sealed token pair to store. Expiries are whole epoch seconds; 0 = does not expire. */
export interface SealedTokens {
  readonly accessToken: SealedToken;
  /** Empty when the provider gave no refresh token. */
  readonly refreshToken: SealedToken | '';
  readonly accessTokenExpiresAt: number;
  readonly refreshTokenExpiresAt: number;
}

/** A sealed token pair as it is stored. */
export interface StoredTokens extends SealedTokens {
  /** Token version: a 63-bit integer in decimal. */
  readonly version: string;
  /** The scopes of the access token, sorted; absent if they are not known. */
  readonly scopes?: readonly string[];
}

/** A sealed token pair with its scopes, as the columns have them. */
export interface ScopedTokens extends SealedTokens {
  /** The scopes of the access token, sorted, with a space between two; null if they are not known. */
  readonly scopes: string | null;
}

/** A pair of a row, as the columns have it. */
export interface RowTokens extends ScopedTokens {
  /** Token version: a 63-bit integer in decimal. */
  readonly version: string;
}
