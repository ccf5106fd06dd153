import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { KeycloakClient } from '../keycloak/keycloak-client.js';
import { KeycloakIdpTokens } from '../keycloak/keycloak-idp-tokens.js';
import { OfflineSessions } from '../keycloak/offline-sessions.js';
import { OfflineTokenVault } from '../keycloak/offline-token-vault.js';
import { IdpTokenReader } from '../refresh/idp-token-reader.js';
import type { IdpToken } from '../refresh/idp-token.js';
import type { FreshTokenRequest } from '../refresh/token-refresher.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { OfflineTokensTable } from '../storage/offline-tokens/offline-tokens.table.js';
import { authTokenLocation } from '../storage/token-locations.js';
import { checkExpiry, checkKey, checkPresent, checkToken, checkUserId } from '../token-input.js';
import { KeycloakSessionExpiredError } from '../tokens.errors.js';
import { AuthTokenStore } from './auth-token.store.js';
import { TokenRevoker } from './token-revoker.js';

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
  /** @internal */
  constructor(
    private readonly authTokens: AuthTokenStore,
    private readonly reader: IdpTokenReader,
    private readonly providers: IdentityProviderRegistry,
    private readonly cipher: TokenCipher,
    private readonly table: AuthTokensTable,
    private readonly revoker: TokenRevoker,
    private readonly keycloak: KeycloakIdpTokens,
    private readonly offlineTokens: OfflineTokensTable,
    private readonly keycloakClient: KeycloakClient,
    private readonly offlineSessions: OfflineSessions,
    private readonly vault: OfflineTokenVault,
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
    checkPresent(tokens);
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
  getIdpToken(userId: string, idp: string, options: GetIdpTokenOptions = {}): Promise<IdpToken> {
    return this.reader.read(userId, idp, options);
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
    if (!isRevocable) return (await this.table.delete(key)) !== null;
    const isDeleted = await this.table.deleteForRevocation(key);
    if (isDeleted) this.revoker.wake();
    return isDeleted;
  }

  /**
   * Takes over the pair that Keycloak's broker has stored for a user, right after a login: replaces what stands here
   * only when Keycloak's copy was issued later, so a pair that was refreshed here since is never overwritten. With
   * `keycloak.refreshOwner: 'keycloak'` only the access token is taken over.
   *
   * @param keycloakAccessToken an access token of this user
   * @returns whether something was stored; false when Keycloak has nothing, or nothing newer
   * @throws {@link InvalidTokenInputError} when the access token is another user's
   * @throws {@link KeycloakSessionExpiredError} when Keycloak does not accept the access token
   * @throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer
   * @throws {@link KeycloakMisconfiguredError} when the user may not read stored tokens
   */
  importIdpTokens(idp: string, userId: string, keycloakAccessToken: string): Promise<boolean> {
    return this.keycloak.import(idp, userId, keycloakAccessToken);
  }

  /**
   * As {@link getIdpToken} for the user of a Keycloak access token, imported from Keycloak's broker first where nothing
   * is stored here (with `refreshOwner: 'keycloak'` also where it is stale).
   *
   * @throws every error of {@link getIdpToken} and of {@link importIdpTokens}
   */
  getIdpTokenForAccessToken(keycloakAccessToken: string, idp: string): Promise<IdpToken> {
    return this.keycloak.forAccessToken(keycloakAccessToken, idp);
  }

  /**
   * As {@link getIdpTokenForAccessToken} for the user of an offline token, which Keycloak must call active. What is
   * redeemed is the user's stored offline token, whose successor takes its place; the one that is passed is stored when
   * there is none.
   *
   * @throws {@link KeycloakSessionExpiredError} when the offline token is not active
   * @throws every error of {@link getIdpTokenForAccessToken}
   */
  getIdpTokenFromOfflineToken(offlineToken: string, idp: string): Promise<IdpToken> {
    return this.keycloak.fromOfflineToken(offlineToken, idp);
  }

  /**
   * As {@link getIdpTokenFromOfflineToken} for the user whose id at the provider this is, by the stored offline token.
   *
   * @throws {@link TokensNotFoundError} when Keycloak knows no such user
   * @throws {@link KeycloakSessionExpiredError} when no offline token is stored, or it is not accepted any more
   * @throws every error of {@link getIdpTokenForAccessToken}
   */
  getIdpTokenFromIdpUserId(idpUserId: string, idp: string): Promise<IdpToken> {
    return this.keycloak.fromIdpUserId(idpUserId, idp);
  }

  /** Seals and stores the Keycloak offline token of a user, replacing the one that was there. */
  async storeOfflineToken(userId: string, offlineToken: string): Promise<void> {
    const sealed = this.vault.seal(userId, offlineToken);
    await this.offlineTokens.store(userId, { offlineToken: sealed }, this.keycloakClient.clientId);
  }

  /**
   * The Keycloak offline token of a user in plaintext; `null` when none is stored.
   *
   * @throws {@link TokenDecryptionError} when the stored text does not open
   */
  async loadOfflineToken(userId: string): Promise<string | null> {
    const stored = await this.offlineTokens.load(checkUserId(userId));
    return stored && this.vault.open(userId, stored.offlineToken);
  }

  /**
   * Whether Keycloak accepts a refresh with the stored offline token; false when it does not, or none is stored. The
   * successor that the refresh brings is stored.
   *
   * @throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer
   */
  async validateOfflineToken(userId: string): Promise<boolean> {
    try {
      await this.offlineSessions.refresh(checkUserId(userId));
      return true;
    } catch (error) {
      if (error instanceof KeycloakSessionExpiredError) return false;
      throw error;
    }
  }

  /**
   * Whether Keycloak's introspection calls the stored offline token active; false when it does not, or none is stored.
   * Spends nothing.
   *
   * @throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer: an outage is not "inactive"
   */
  checkOfflineTokenIsActive(userId: string): Promise<boolean> {
    return this.offlineSessions.isActive(checkUserId(userId));
  }
}
