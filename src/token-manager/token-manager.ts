import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { KeycloakClient } from '../keycloak/keycloak-client.js';
import { KeycloakIdpTokens } from '../keycloak/keycloak-idp-tokens.js';
import { OfflineSessions } from '../keycloak/offline-sessions.js';
import { OfflineTokenVault } from '../keycloak/offline-token-vault.js';
import { type IdpTokenRequest, IdpTokenReader } from '../refresh/idp-token-reader.js';
import type { IdpToken } from '../refresh/idp-token.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { OfflineTokensTable } from '../storage/offline-tokens/offline-tokens.table.js';
import { checkEndedGrants, checkKey, checkUserId, type EndedGrants } from '../token-input.js';
import { KeycloakSessionExpiredError } from '../tokens.errors.js';
import { AuthTokenStore } from './auth-token.store.js';
import { type IdpTokens, sealIdpTokens } from './idp-tokens.js';
import { TokenRevoker } from './token-revoker.js';

/** The demands on a token that {@link TokenManager.getIdpToken} takes. */
export type GetIdpTokenOptions = IdpTokenRequest;

/** Names the account of a user who has several at a provider. */
export interface OfAccount {
  /** Default: '', the default account. */
  readonly account?: string | undefined;
}

/**
 * Stores the tokens of the application's users and returns them in plaintext. It seals what it stores, opens what it
 * reads, and keeps access tokens fresh. The stores and the database have the tokens only sealed. A singleton; every
 * method may be called concurrently.
 *
 * All methods throw {@link InvalidTokenInputError} for arguments that cannot be stored, and {@link
 * TokenStoreUnavailableError} when PostgreSQL does not execute a statement.
 */
@Injectable()
export class TokenManager {
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
   * Seals and stores the tokens of a user at a provider. They replace the stored ones. Tokens without a refresh token
   * replace only the access token, because some providers issue a refresh token at the first login only. In a
   * {@link QueryRunnerScope} they are committed or rolled back with the surrounding transaction.
   *
   * @throws {@link UnsupportedProviderError} when the provider is not configured
   */
  async storeIdpTokens(userId: string, idp: string, tokens: IdpTokens, { account }: OfAccount = {}): Promise<void> {
    const key = checkKey({ keycloakUserId: userId, idp, account });
    this.providers.get(idp);
    await this.authTokens.storeTokens(key, sealIdpTokens(this.cipher, key, tokens));
  }

  /**
   * Returns a usable access token of a user at a provider. It refreshes a stale or rejected one first. All callers
   * together redeem the refresh token once. The refresh runs outside of every transaction, and goes on if this caller
   * stops waiting. If a refresh fails for a transient reason, this method returns an access token that still works,
   * with its real expiry.
   *
   * @throws {@link UnsupportedProviderError} when the provider is not configured
   * @throws {@link TokensNotFoundError} when the user has not connected the account
   * @throws {@link AmbiguousAccountError} when the call names no account, and the user has several and no default account
   * @throws {@link InsufficientScopeError} when the token lacks scopes of `options.scopes`
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
   * Deletes the tokens of one account of a user at a provider, and has them revoked there. Without `account` this is the
   * default account, also if there is none and another one. The deletion joins the surrounding
   * transaction. After its commit one of the processes that run the module sends the revocation. The process sends it
   * again while the provider is down. If the provider cannot revoke tokens, they are only deleted.
   * So are they if the user has connected the same account at the provider under another name, because a revocation
   * could end those tokens too. A refresh under way does not restore the tokens. Its new pair is revoked on the same
   * conditions.
   *
   * With `keycloak` in the options the account stays disconnected, also if there were no tokens, until
   * {@link storeIdpTokens} or {@link importIdpTokens} stores tokens. No other method imports the copy of Keycloak's
   * broker meanwhile.
   *
   * @returns whether there were tokens to delete
   * @throws {@link UnsupportedProviderError} when the provider is not configured
   */
  async revokeIdpTokens(userId: string, idp: string, { account }: OfAccount = {}): Promise<boolean> {
    const key = checkKey({ keycloakUserId: userId, idp, account });
    const isRevocable = this.providers.get(idp).revoke !== undefined;
    const isDeleted = await this.table.deleteForRevocation(key, isRevocable);
    if (isDeleted && isRevocable) this.revoker.wakeAfterCommit();
    return isDeleted;
  }

  /**
   * Makes grants of a provider active again that ended by mistake, for the operator: for example after the provider
   * answered `invalid_grant` because of a wrong client. The stored tokens are used again. A grant that has really ended
   * ends again at its next refresh. Rows without a refresh token stay as they are.
   *
   * @returns the number of grants that are active again
   * @throws {@link UnsupportedProviderError} when the provider is not configured
   */
  async reactivateIdpTokens(idp: string, which: EndedGrants = {}): Promise<number> {
    this.providers.get(idp);
    return this.table.reactivate({ idp, ...checkEndedGrants(which) });
  }

  /**
   * Imports the pair that Keycloak's broker has stored for a user. Call it right after a login. It connects an account
   * again that {@link revokeIdpTokens} disconnected. It replaces the stored
   * pair only if Keycloak issued its copy later. So it never overwrites a pair that was refreshed here since. With
   * `keycloak.refreshOwner: 'keycloak'` it imports only the access token.
   *
   * @param keycloakAccessToken an access token of this user
   * @returns whether something was stored; false if Keycloak has nothing, or nothing newer, or a pair that
   * {@link revokeIdpTokens} is still revoking
   * @throws {@link InvalidTokenInputError} when the access token belongs to another user
   * @throws {@link KeycloakSessionExpiredError} when Keycloak does not accept the access token, or the token is bound to
   * a key of its holder
   * @throws {@link ReauthenticationRequiredError} when Keycloak could not refresh its copy at the provider
   * @throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer
   * @throws {@link KeycloakMisconfiguredError} when the user may not read stored tokens
   */
  importIdpTokens(userId: string, idp: string, keycloakAccessToken: string): Promise<boolean> {
    return this.keycloak.import(userId, idp, keycloakAccessToken);
  }

  /**
   * As {@link getIdpToken} for the default account of the user of a Keycloak access token. If no token is stored here,
   * it first imports the one of Keycloak's broker. With `refreshOwner: 'keycloak'` it also does this for a stale one. If
   * this import fails, it returns the stored token until that expires. It imports nothing for an account that the user
   * disconnected. It never returns the token of a named account, because imports are of the default account.
   *
   * @throws {@link TokensNotFoundError} when the user disconnected the account by {@link revokeIdpTokens}
   * @throws every error of {@link getIdpToken} and of {@link importIdpTokens}
   */
  getIdpTokenForAccessToken(keycloakAccessToken: string, idp: string): Promise<IdpToken> {
    return this.keycloak.forAccessToken(keycloakAccessToken, idp);
  }

  /**
   * As {@link getIdpTokenForAccessToken} for the user of an offline token. Keycloak must call it active, and must have
   * issued it to the client of the options. If none is stored for the user, the given one is stored. Only for an import
   * does the method redeem the offline token that is stored, and store the successor.
   *
   * @throws {@link KeycloakSessionExpiredError} when the offline token is not active, was issued to another client, or
   * is bound to a key of its holder
   * @throws every error of {@link getIdpTokenForAccessToken}
   */
  getIdpTokenFromOfflineToken(offlineToken: string, idp: string): Promise<IdpToken> {
    return this.keycloak.fromOfflineToken(offlineToken, idp);
  }

  /**
   * As {@link getIdpTokenFromOfflineToken} for the user who has this id at the provider, by the stored offline token.
   *
   * @throws {@link TokensNotFoundError} when Keycloak knows no such user
   * @throws {@link KeycloakSessionExpiredError} when an import is needed and no offline token is stored, or Keycloak no
   * longer accepts it
   * @throws every error of {@link getIdpTokenForAccessToken}
   */
  getIdpTokenFromIdpUserId(idpUserId: string, idp: string): Promise<IdpToken> {
    return this.keycloak.fromIdpUserId(idpUserId, idp);
  }

  /** Seals and stores the Keycloak offline token of a user. It replaces the stored one. */
  async storeOfflineToken(userId: string, offlineToken: string): Promise<void> {
    const sealed = this.vault.seal(userId, offlineToken);
    await this.offlineTokens.store(userId, { offlineToken: sealed }, this.keycloakClient.clientId);
  }

  /**
   * Returns the Keycloak offline token of a user in plaintext; `null` if none is stored.
   *
   * @throws {@link TokenDecryptionError} when the stored text does not open
   */
  async loadOfflineToken(userId: string): Promise<string | null> {
    const stored = await this.offlineTokens.load(checkUserId(userId));
    return stored && this.vault.open(userId, stored.offlineToken);
  }

  /**
   * Redeems the stored offline token of a user, and returns whether Keycloak accepted it; false also if none is stored,
   * or if it is bound to a key of its holder. It stores the successor.
   *
   * @throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer
   * @throws {@link KeycloakMisconfiguredError} when Keycloak refuses the client, or issued the token to another client
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
   * Returns whether Keycloak's introspection calls the stored offline token active; false if it does not, if none is
   * stored, and for a token that no import would use: one that is bound to a key of its holder, or whose client Keycloak
   * does not name. It redeems nothing.
   *
   * @throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer, because an outage does not mean
   * "inactive"
   * @throws {@link KeycloakMisconfiguredError} when Keycloak issued the active token to another client
   */
  checkOfflineTokenIsActive(userId: string): Promise<boolean> {
    return this.offlineSessions.isActive(checkUserId(userId));
  }
}
