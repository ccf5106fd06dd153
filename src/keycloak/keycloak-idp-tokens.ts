import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { Fields } from '../oauth-http/answer-fields.js';
import { IdpTokenReader } from '../refresh/idp-token-reader.js';
import type { IdpToken } from '../refresh/idp-token.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { DisconnectedAccountsTable } from '../storage/disconnected-accounts/disconnected-accounts.table.js';
import { checkKey, checkToken } from '../token-input.js';
import type { AccountKey } from '../token-key.js';
import {
  InvalidTokenInputError,
  KeycloakMisconfiguredError,
  KeycloakSessionExpiredError,
  KeycloakUnavailableError,
  ReauthenticationRequiredError,
  TokensNotFoundError,
} from '../tokens.errors.js';
import { KeycloakClient } from './keycloak-client.js';
import { type ImportCredential, KeycloakImports } from './keycloak-imports.js';
import { KeycloakUsers } from './keycloak-users.js';
import { OfflineSessions } from './offline-sessions.js';
import { assertUnbound, claimsOf, clientOf, subjectIn } from './token-claims.js';

/**
 * Returns tokens of default accounts to a caller that has a Keycloak token, or the user's id at a provider. If no
 * token is stored, it first imports the one of Keycloak's broker, unless the user disconnected the account. With the
 * refresh owner `keycloak` it also imports for a stale one. It redeems an offline token only for an import.
 */
@Injectable()
export class KeycloakIdpTokens {
  constructor(
    private readonly client: KeycloakClient,
    private readonly imports: KeycloakImports,
    private readonly users: KeycloakUsers,
    private readonly offlineSessions: OfflineSessions,
    private readonly table: AuthTokensTable,
    private readonly disconnected: DisconnectedAccountsTable,
    private readonly reader: IdpTokenReader,
    private readonly providers: IdentityProviderRegistry,
  ) {}

  /** @see {@link TokenManager.importIdpTokens} */
  async import(userId: string, idp: string, accessToken: string): Promise<boolean> {
    const key = checkKey({ keycloakUserId: userId, idp });
    this.providers.get(idp);
    return this.imports.import(key, accessToken, true);
  }

  /** @see {@link TokenManager.getIdpTokenForAccessToken} */
  async forAccessToken(accessToken: string, idp: string): Promise<IdpToken> {
    const { aud, azp, ...bindings } = claimsOf(checkToken(accessToken, 'The Keycloak access token'));
    assertUnbound(bindings, 'The Keycloak access token');
    const claims = await this.client.userInfo(accessToken);
    // Keycloak accepts the tokens of all its clients. The tokens stored here must not be readable with a token of
    // another client.
    const { clientId, audience } = this.client.realm;
    if (azp !== clientId && !(Array.isArray(aud) ? aud : [aud]).includes(audience)) {
      throw new KeycloakSessionExpiredError(
        `The access token was issued to another client and not for "${audience}". Let the user log in here.`,
      );
    }
    return this.#tokenOf(this.#keyOf(subjectIn(claims), idp), {
      token: accessToken,
      isOffline: false,
      accessToken: () => Promise.resolve(accessToken),
    });
  }

  /** @see {@link TokenManager.getIdpTokenFromOfflineToken} */
  async fromOfflineToken(offlineToken: string, idp: string): Promise<IdpToken> {
    this.providers.get(idp);
    const claims = await this.client.introspect(checkToken(offlineToken, 'The offline token'));
    if (!claims.active) {
      throw new KeycloakSessionExpiredError(
        'The offline token is expired, revoked or replaced by a successor. Pass the one that is stored, or let the user log in again.',
      );
    }
    this.#assertOurs(offlineToken, claims);
    if (claims.token_type !== undefined && claims.token_type !== 'Offline') {
      throw new InvalidTokenInputError(
        'The refresh token is not an offline token. It ends with its session. ' +
          'Let the user log in with scope "offline_access".',
      );
    }
    const key = this.#keyOf(subjectIn(claims), idp);
    await this.offlineSessions.storeFirst(key.keycloakUserId, offlineToken);
    return this.#tokenOf(key, {
      token: offlineToken,
      isOffline: true,
      accessToken: async () => (await this.offlineSessions.refreshWith(key.keycloakUserId, offlineToken)).accessToken,
    });
  }

  /** @see {@link TokenManager.getIdpTokenFromIdpUserId} */
  async fromIdpUserId(idpUserId: string, idp: string): Promise<IdpToken> {
    this.providers.get(idp);
    const userId = await this.users.getUserIdFromIdpUserId(idpUserId, idp);
    if (userId === null) throw new TokensNotFoundError({ keycloakUserId: idpUserId, idp });
    return this.#tokenOf(this.#keyOf(userId, idp), {
      isOffline: true,
      accessToken: async () => (await this.offlineSessions.refresh(userId)).accessToken,
    });
  }

  #keyOf(keycloakUserId: string, idp: string): AccountKey {
    const key = checkKey({ keycloakUserId, idp });
    this.providers.get(idp);
    return key;
  }

  /**
   * Throws unless Keycloak issued the offline token to the client of the options, and as a bearer token. Some versions
   * of Keycloak let every client introspect every token, so `active` alone does not say whose token it is.
   */
  #assertOurs(offlineToken: string, introspected: Fields): void {
    const { clientId } = this.client.realm;
    const issuedTo = clientOf(offlineToken, introspected, clientId);
    if (issuedTo !== clientId) {
      throw new KeycloakSessionExpiredError(
        `The offline token was issued to ${issuedTo === undefined ? 'a client that Keycloak does not name' : 'another client'}, ` +
          `not to client "${clientId}". Let the user log in here with scope "offline_access".`,
      );
    }
    assertUnbound(claimsOf(offlineToken), 'The offline token');
    assertUnbound(introspected, 'The offline token');
  }

  /**
   * Returns the stored token. Imports it first if there is none, or if it is stale and Keycloak refreshes it. If the
   * import fails because of Keycloak, it returns the stored token as long as this has not expired.
   *
   * @param credential gets the Keycloak access token for the import
   */
  async #tokenOf(key: AccountKey, credential: ImportCredential): Promise<IdpToken> {
    if ((await this.imports.isNeeded(key)) && !(await this.#isDisconnected(key))) {
      try {
        await this.imports.importAutomatically(key, credential);
      } catch (error) {
        if (!isFaultOfKeycloak(error) || !(await this.#isValid(key))) throw error;
      }
    }
    // Imports are of the default account. Another account must not take its place, also if the user has no other.
    return this.reader.read(key.keycloakUserId, key.idp, { account: '' });
  }

  async #isValid(key: AccountKey): Promise<boolean> {
    const row = await this.table.load(key);
    return row !== null && row.state !== 'ended' && row.accessTokenValidForSeconds > 0;
  }

  /** Returns whether the user disconnected the account and no pair was stored since. */
  async #isDisconnected(key: AccountKey): Promise<boolean> {
    return (await this.disconnected.has(key)) && (await this.table.load(key)) === null;
  }
}

/** Returns whether an import failed at Keycloak, not at the database or by a fault of the program. */
function isFaultOfKeycloak(error: unknown): boolean {
  return [
    KeycloakMisconfiguredError,
    KeycloakSessionExpiredError,
    KeycloakUnavailableError,
    ReauthenticationRequiredError,
  ].some((each) => error instanceof each);
}
