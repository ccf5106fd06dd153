import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { authTokenLocation } from '../storage/token-locations.js';
import { checkKey, checkSeconds } from '../token-input.js';
import { TokensNotFoundError } from '../tokens.errors.js';
import { IdpToken } from './idp-token.js';
import { RefreshTokenRedeemer } from './refresh-token-redeemer.js';
import { TokenFreshness } from './token-freshness.js';
import { type FreshTokenRequest, TokenRefresher } from './token-refresher.js';
import { unlessAborted } from './unless-aborted.js';

/** Reads fresh access tokens for {@link TokenManager.getIdpToken}, and opens them. */
@Injectable()
export class IdpTokenReader {
  constructor(
    private readonly table: AuthTokensTable,
    private readonly freshness: TokenFreshness,
    private readonly refresher: TokenRefresher,
    private readonly redeemer: RefreshTokenRedeemer,
    private readonly providers: IdentityProviderRegistry,
    private readonly cipher: TokenCipher,
  ) {}

  async read(userId: string, idp: string, request: FreshTokenRequest): Promise<IdpToken> {
    const key = checkKey({ keycloakUserId: userId, idp });
    const provider = this.providers.get(idp);
    if (request.minValiditySeconds !== undefined) checkSeconds(request.minValiditySeconds, 'minValiditySeconds');
    const found = await unlessAborted(() => this.table.findAccessToken(key), request.signal);
    const row =
      found && this.freshness.isFresh(found, key, request)
        ? found
        : await this.refresher.load(key, this.redeemer.redeemerFor(key, provider), request);
    if (!row) throw new TokensNotFoundError(key);
    const { accessToken, version } = row.tokens;
    const plaintext = this.cipher.open(accessToken, authTokenLocation(key, 'access_token'));
    return new IdpToken(plaintext, row.accessTokenExpiresAt, version);
  }
}
