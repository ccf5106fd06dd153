import { Injectable } from '@nestjs/common';

import { accessTokenLifeAt, refreshAt } from '../identity-providers/checked-answer.js';
import type { AccessTokenLife, IdentityProvider, IssuedTokens } from '../identity-providers/identity-provider.js';
import { scopeText } from '../scopes.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import type { AuthTokensRow } from '../storage/auth-tokens/auth-tokens-row.js';
import type { Lease } from '../storage/leases/lease.js';
import type { ScopedTokens } from '../storage/stored-tokens.js';
import { authTokenLocation } from '../storage/token-locations.js';
import type { AccountKey } from '../token-key.js';
import type { PairRefresh, Redeemer } from './pair-refresh.js';
import type { ExchangeOutcome } from './refresh-target.js';

/** Redeems leased refresh tokens at their provider. Opens a token, sends it once, and seals the new tokens. */
@Injectable()
export class RefreshTokenRedeemer {
  constructor(private readonly cipher: TokenCipher) {}

  /**
   * Returns a redeemer for one row. It opens the refresh token before it sends anything, and has the plaintext only
   * during the exchange.
   */
  redeemerFor(key: AccountKey, provider: IdentityProvider): Redeemer {
    return {
      source: 'provider',
      clientId: provider.clientId,
      redeem: (lease) => this.#redeem(key, provider, lease),
      askWitness: provider.isAccessTokenAlive && ((row) => this.#ask(key, provider, row)),
    };
  }

  async #redeem(
    key: AccountKey,
    provider: IdentityProvider,
    lease: Lease<AuthTokensRow>,
  ): Promise<ExchangeOutcome<PairRefresh>> {
    let refreshToken: string;
    try {
      refreshToken = this.cipher.open(lease.row.tokens.refreshToken, authTokenLocation(key, 'refresh_token'));
    } catch (error) {
      return { kind: 'threw', error };
    }
    const sentAt = Math.floor(lease.now());
    const answer = await refreshAt(provider, refreshToken);
    if (answer.kind !== 'success') return answer;
    const tokens = this.#seal(key, { ...lease.row.tokens, refreshToken }, answer.tokens, sentAt);
    return { kind: 'success', tokens, issued: undefined };
  }

  async #ask(key: AccountKey, provider: IdentityProvider, { tokens }: AuthTokensRow): Promise<AccessTokenLife> {
    let accessToken: string;
    try {
      accessToken = this.cipher.open(tokens.accessToken, authTokenLocation(key, 'access_token'));
    } catch {
      return 'unknown'; // the exchange reports the missing key
    }
    return accessTokenLifeAt(provider, accessToken);
  }

  /**
   * Seals the new tokens. If the provider omits the refresh token, the old one stays valid and is sealed again, with its
   * expiry. The expiry of a new refresh token is unknown if the provider does not name it, because the expiry of the
   * old one says nothing about it. The scopes of the answer are those of the new access token, and can be fewer. An
   * answer without scopes keeps them.
   *
   * @see RFC 6749 section 5.1 and 6
   */
  #seal(
    key: AccountKey,
    old: { refreshToken: string; refreshTokenExpiresAt: number; scopes: string | null },
    issued: IssuedTokens,
    sentAt: number,
  ): ScopedTokens {
    const { accessToken, refreshToken = old.refreshToken, accessTokenExpiresIn, refreshTokenExpiresIn } = issued;
    const unnamedExpiry = refreshToken === old.refreshToken ? old.refreshTokenExpiresAt : 0;
    return {
      accessToken: this.cipher.seal(accessToken, authTokenLocation(key, 'access_token')),
      refreshToken: this.cipher.seal(refreshToken, authTokenLocation(key, 'refresh_token')),
      accessTokenExpiresAt: accessTokenExpiresIn ? sentAt + accessTokenExpiresIn : 0,
      refreshTokenExpiresAt: refreshTokenExpiresIn ? sentAt + refreshTokenExpiresIn : unnamedExpiry,
      scopes: issued.scopes ? scopeText(issued.scopes) : old.scopes,
    };
  }
}
