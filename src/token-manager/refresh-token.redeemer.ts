import { Injectable } from '@nestjs/common';

import type { AuthTokensKey, RefreshedTokens } from '../storage/auth-tokens/auth-tokens.types.js';
import type { Redeem, Redeemer, Redemption } from '../refresh/redeemer.js';
import { TokenCipher } from '../crypto/token.cipher.js';
import { redeemAt } from '../identity-providers/checked-answer.js';
import type { IdentityProvider, IssuedTokens } from '../identity-providers/identity-provider.js';
import { authTokenLocation } from './token-locations.js';

/** Redeems leased refresh tokens at their provider: opens them, sends them once, seals what comes back. */
@Injectable()
export class RefreshTokenRedeemer {
  constructor(private readonly cipher: TokenCipher) {}

  /** A redeemer for one row. Opens the refresh token before anything is sent; holds plaintext only for the exchange. */
  redeemerFor(key: AuthTokensKey, provider: IdentityProvider): Redeemer {
    const redeem: Redeem = async (lease): Promise<Redemption> => {
      let refreshToken: string;
      try {
        refreshToken = this.cipher.open(lease.row.tokens.refreshToken, authTokenLocation(key, 'refresh_token'));
      } catch (error) {
        return { kind: 'abandoned', error };
      }
      const sentAt = Math.floor(lease.now());
      const answer = await redeemAt(provider, refreshToken);
      if (answer.kind !== 'success') return answer;
      return { kind: 'success', tokens: this.#seal(key, { ...lease.row.tokens, refreshToken }, answer.tokens, sentAt) };
    };
    return { source: 'provider', redeem };
  }

  /** An omitted refresh token means that the old one stays good: it is sealed anew. @see RFC 6749 section 6 */
  #seal(
    key: AuthTokensKey,
    old: { refreshToken: string; refreshTokenExpiresAt: number },
    issued: IssuedTokens,
    sentAt: number,
  ): RefreshedTokens {
    const { accessToken, refreshToken, accessTokenExpiresIn, refreshTokenExpiresIn } = issued;
    return {
      accessToken: this.cipher.seal(accessToken, authTokenLocation(key, 'access_token')),
      refreshToken: this.cipher.seal(refreshToken ?? old.refreshToken, authTokenLocation(key, 'refresh_token')),
      accessTokenExpiresAt: accessTokenExpiresIn ? sentAt + accessTokenExpiresIn : 0,
      refreshTokenExpiresAt: refreshTokenExpiresIn ? sentAt + refreshTokenExpiresIn : old.refreshTokenExpiresAt,
    };
  }
}
