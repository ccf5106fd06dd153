import { scopeList, type Scopes } from '../scopes.js';
import type { TokenCipher } from '../sealing/token-cipher.js';
import { authTokenLocation } from '../storage/token-locations.js';
import { checkExpiry, checkPresent, checkScopes, checkToken } from '../token-input.js';
import type { AccountKey } from '../token-key.js';
import type { TokensToStore } from './auth-token.store.js';

/** Tokens in plaintext as an identity provider issued them. */
export interface IdpTokens {
  accessToken: string;
  /**
   * If it is absent or empty, because the login brought none, the stored refresh token and its expiry are kept. `null`
   * drops the stored one. Pass `null` if the tokens can be of another account of the user at the provider.
   */
  refreshToken?: string | null | undefined;
  /** Epoch seconds; 0 or absent = the token does not expire. */
  accessTokenExpiresAt?: number | undefined;
  /** Epoch seconds; 0 or absent = the token does not expire. */
  refreshTokenExpiresAt?: number | undefined;
  /**
   * The scopes of the access token: a list, or the `scope` of the provider's answer. If the answer has none, pass what
   * was asked. Absent, null or an empty text = not known. @see RFC 6749 section 5.1
   */
  scopes?: Scopes | null | undefined;
}

/**
 * Checks tokens and seals them for their row.
 *
 * @throws {@link InvalidTokenInputError} for an empty access token, for a token of more than 64 KiB, and for an expiry
 * that is no whole epoch second
 */
export function sealIdpTokens(cipher: TokenCipher, key: AccountKey, tokens: IdpTokens): TokensToStore {
  checkPresent(tokens);
  const accessToken = checkToken(tokens.accessToken, 'The access token');
  const refreshToken = tokens.refreshToken && checkToken(tokens.refreshToken, 'The refresh token');
  const scopes = checkScopes(tokens.scopes, 'The scopes');
  return {
    accessToken: cipher.seal(accessToken, authTokenLocation(key, 'access_token')),
    refreshToken: refreshToken && cipher.seal(refreshToken, authTokenLocation(key, 'refresh_token')),
    accessTokenExpiresAt: checkExpiry(tokens.accessTokenExpiresAt ?? 0, 'accessTokenExpiresAt'),
    refreshTokenExpiresAt: checkExpiry(tokens.refreshTokenExpiresAt ?? 0, 'refreshTokenExpiresAt'),
    scopes: scopes === null ? null : scopeList(scopes), // as a list, because an empty text would mean something else
  };
}
