import { Injectable } from '@nestjs/common';

import { AuthTokenStore } from '../auth-tokens/auth-token.store.js';
import type { AuthTokensKey } from '../auth-tokens/auth-tokens.types.js';
import { type FreshTokenRequest, TokenRefresher } from '../auth-tokens/token-refresher.js';
import { TokenCipher } from '../crypto/token.cipher.js';
import { QueryRunnerScope } from '../database/query-runner.scope.js';
import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { OfflineTokenStore } from '../offline-tokens/offline-token.store.js';
import { TokenRevocationsTable } from '../token-revocations/token-revocations.table.js';
import { checkExpiry, checkKey, checkSeconds, checkToken, checkUserId } from '../token-input.js';
import { TokenDecryptionError, TokensNotFoundError } from '../tokens.errors.js';
import { IdpToken } from './idp-token.js';
import { RefreshTokenRedeemer } from './refresh-token.redeemer.js';
import { TokenRevoker } from './token-revoker.js';
import { authTokenLocation, offlineTokenLocation } from './token-locations.js';

/** Tokens in plaintext as an identity provider issued them. */
export interface IdpTokens {
  accessToken: string;
  /** Left out for providers and apps that issue none. */
  refreshToken?: string | null;
  /** Epoch seconds; 0 or left out = does not expire. */
  accessTokenExpiresAt?: number;
  /** Epoch seconds; 0 or left out = does not expire. */
  refreshTokenExpiresAt?: number;
}

/** What {@link TokenManager.getIdpToken} may be asked for beyond the token. */
export type GetIdpTokenOptions = FreshTokenRequest;

/**
 * The tokens of the application's users, in plaintext at this surface and nowhere else: seals what is stored, opens
 * what is read, and keeps access tokens fresh. A singleton; every method may be called concurrently.
 *
 * All methods throw {@link InvalidTokenInputError} for arguments that cannot be stored, and
 * {@link TokenStoreUnavailableError} when PostgreSQL does not execute a statement.
 */
@Injectable()
export class TokenManager {
  constructor(
    private readonly authTokens: AuthTokenStore,
    private readonly offlineTokens: OfflineTokenStore,
    private readonly refresher: TokenRefresher,
    private readonly redeemer: RefreshTokenRedeemer,
    private readonly providers: IdentityProviderRegistry,
    private readonly cipher: TokenCipher,
    private readonly scope: QueryRunnerScope,
    private readonly revocations: TokenRevocationsTable,
    private readonly revoker: TokenRevoker,
  ) {}

  /**
   * Seals and stores the tokens of a user at a provider, replacing those that were there. In a
   * {@link QueryRunnerScope} it commits or rolls back with the surrounding transaction.
   *
   * @throws {@link UnsupportedProviderError} when the provider is not configured
   */
  async storeIdpTokens(userId: string, idp: string, tokens: IdpTokens): Promise<void> {
    const key = checkKey({ keycloakUserId: userId, idp });
    this.providers.get(idp);
    const accessToken = checkToken(tokens.accessToken, 'The access token');
    const refreshToken = tokens.refreshToken ? checkToken(tokens.refreshToken, 'The refresh token') : '';
    await this.authTokens.storeTokens(key, {
      accessToken: this.cipher.seal(accessToken, authTokenLocation(key, 'access_token')),
      refreshToken: refreshToken && this.cipher.seal(refreshToken, authTokenLocation(key, 'refresh_token')),
      accessTokenExpiresAt: checkExpiry(tokens.accessTokenExpiresAt ?? 0, 'accessTokenExpiresAt'),
      refreshTokenExpiresAt: checkExpiry(tokens.refreshTokenExpiresAt ?? 0, 'refreshTokenExpiresAt'),
    });
  }

  /**
   * A usable access token of a user at a provider, refreshed first when it is stale or rejected. However many callers
   * ask at once, the refresh token is redeemed once; the refresh happens outside of every transaction and goes on when
   * this caller stops waiting. While a refresh fails for a passing reason, a token that still works is returned with
   * its real expiry.
   *
   * @throws {@link UnsupportedProviderError} when the provider is not configured
   * @throws {@link TokensNotFoundError} when the user has not connected the account
   * @throws {@link ReauthenticationRequiredError} when only the user can make the tokens usable again
   * @throws {@link RefreshInProgressError} | {@link RefreshUnavailableError} when trying again later can help
   * @throws {@link ProviderMisconfiguredError} when the provider refuses this application
   * @throws {@link TokenDecryptionError} when the stored text does not open
   * @throws the reason of `options.signal` when it aborts
   */
  async getIdpToken(userId: string, idp: string, options: GetIdpTokenOptions = {}): Promise<IdpToken> {
    const key = checkKey({ keycloakUserId: userId, idp });
    const provider = this.providers.get(idp);
    if (options.minValiditySeconds !== undefined) checkSeconds(options.minValiditySeconds, 'minValiditySeconds');
    const found = await this.refresher.find(key, options.signal);
    const row =
      found && this.refresher.isFresh(found, key, options)
        ? found
        : await this.refresher.load(key, this.redeemer.redeemerFor(key, provider), options);
    if (!row) throw new TokensNotFoundError(key);
    const { accessToken, accessTokenExpiresAt, version } = row.tokens;
    return new IdpToken(this.#openAccessToken(key, accessToken), accessTokenExpiresAt, version);
  }

  /**
   * Deletes the tokens of a user at a provider now, and has them revoked there afterwards: when the surrounding
   * transaction is committed, by whichever process comes first, again and again while the provider is down. A refresh
   * under way does not bring them back; its new pair is revoked too.
   *
   * @returns whether there were tokens to delete
   * @throws {@link UnsupportedProviderError} when the provider is not configured
   */
  async revokeIdpTokens(userId: string, idp: string): Promise<boolean> {
    const key = checkKey({ keycloakUserId: userId, idp });
    const isRevocable = this.providers.get(idp).revoke !== undefined;
    const deleted = await this.scope.run(async () => {
      const tokens = await this.authTokens.deleteTokens(key);
      if (tokens && isRevocable) await this.revocations.add({ ...key, ...tokens });
      return tokens;
    });
    if (deleted && isRevocable) this.revoker.wake();
    return deleted !== null;
  }

  /** Seals and stores the Keycloak offline token of a user, replacing the one that was there. */
  async storeOfflineToken(userId: string, offlineToken: string): Promise<void> {
    const location = offlineTokenLocation(checkUserId(userId));
    const payload = JSON.stringify({ refresh_token: checkToken(offlineToken, 'The offline token') });
    await this.offlineTokens.storeToken(userId, JSON.stringify({ tokens: this.cipher.seal(payload, location) }));
  }

  /**
   * The Keycloak offline token of a user in plaintext; `null` when none is stored.
   *
   * @throws {@link TokenDecryptionError} when the stored text does not open
   */
  async loadOfflineToken(userId: string): Promise<string | null> {
    const stored = await this.offlineTokens.loadToken(userId);
    if (stored === null) return null;
    const sealed = textField(stored, 'tokens');
    const payload = sealed && this.cipher.open(sealed, offlineTokenLocation(userId));
    const offlineToken = payload && textField(payload, 'refresh_token');
    if (offlineToken) return offlineToken;
    throw new TokenDecryptionError(
      `The offline token of user "${userId}" is not stored in the form {"tokens": …}. Let the user log in again.`,
    );
  }

  #openAccessToken(key: AuthTokensKey, sealed: string): string {
    return this.cipher.open(sealed, authTokenLocation(key, 'access_token'));
  }
}

/** A text field of a JSON object, or undefined when the text is no such thing. */
function textField(json: string, field: string): string | undefined {
  try {
    const parsed: unknown = JSON.parse(json);
    const value: unknown = typeof parsed === 'object' && parsed !== null ? Reflect.get(parsed, field) : undefined;
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}
