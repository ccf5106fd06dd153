import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { Fields } from '../oauth-http/answer-fields.js';
import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { IdpTokenReader } from '../refresh/idp-token-reader.js';
import type { IdpToken } from '../refresh/idp-token.js';
import { TokenFreshness } from '../refresh/token-freshness.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { DisconnectedAccountsTable } from '../storage/disconnected-accounts/disconnected-accounts.table.js';
import { authTokenLocation } from '../storage/token-locations.js';
import { checkKey, checkToken } from '../token-input.js';
import { keyName, type TokenKey } from '../token-key.js';
import {
  InvalidTokenInputError,
  KeycloakSessionExpiredError,
  TokenDecryptionError,
  TokensNotFoundError,
} from '../tokens.errors.js';
import { KeycloakBroker } from './keycloak-broker.js';
import { KeycloakClient } from './keycloak-client.js';
import { KeycloakUsers } from './keycloak-users.js';
import { OfflineSessions } from './offline-sessions.js';
import { assertUnbound, claimsOf, clientOf, subjectIn } from './token-claims.js';

/**
 * Returns tokens of identity providers to a caller that has a Keycloak token, or the user's id at a provider. If no
 * token is stored, it first imports the one of Keycloak's broker, unless the user disconnected the account. With the
 * refresh owner `keycloak` it also imports for a stale one. It redeems an offline token only for an import.
 */
@Injectable()
export class KeycloakIdpTokens {
  readonly #imports = new Map<string, Promise<boolean>>();

  constructor(
    private readonly client: KeycloakClient,
    private readonly broker: KeycloakBroker,
    private readonly users: KeycloakUsers,
    private readonly offlineSessions: OfflineSessions,
    private readonly table: AuthTokensTable,
    private readonly disconnected: DisconnectedAccountsTable,
    private readonly freshness: TokenFreshness,
    private readonly reader: IdpTokenReader,
    private readonly providers: IdentityProviderRegistry,
    private readonly cipher: TokenCipher,
    private readonly scope: QueryRunnerScope,
  ) {}

  /** @see {@link TokenManager.importIdpTokens} */
  async import(userId: string, idp: string, accessToken: string): Promise<boolean> {
    const key = checkKey({ keycloakUserId: userId, idp });
    this.providers.get(idp);
    return this.#import(key, accessToken, true);
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
    return this.#tokenOf(this.#keyOf(subjectIn(claims), idp), () => Promise.resolve(accessToken));
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
    return this.#tokenOf(key, async () => {
      return (await this.offlineSessions.refreshWith(key.keycloakUserId, offlineToken)).accessToken;
    });
  }

  /** @see {@link TokenManager.getIdpTokenFromIdpUserId} */
  async fromIdpUserId(idpUserId: string, idp: string): Promise<IdpToken> {
    this.providers.get(idp);
    const userId = await this.users.getUserIdFromIdpUserId(idpUserId, idp);
    if (userId === null) throw new TokensNotFoundError({ keycloakUserId: idpUserId, idp });
    return this.#tokenOf(this.#keyOf(userId, idp), async () => {
      return (await this.offlineSessions.refresh(userId)).accessToken;
    });
  }

  #keyOf(keycloakUserId: string, idp: string): TokenKey {
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
   * Returns the stored token. Imports it first if there is none, or if it is stale and Keycloak refreshes it.
   *
   * @param accessTokenOf gets the Keycloak access token for the import
   */
  async #tokenOf(key: TokenKey, accessTokenOf: () => Promise<string>): Promise<IdpToken> {
    if (!(await this.#isThere(key))) {
      if (await this.#isDisconnected(key)) throw new TokensNotFoundError(key);
      await this.#importOnce(key, accessTokenOf);
    }
    return this.reader.read(key.keycloakUserId, key.idp, {});
  }

  /** Returns whether a caller can be served without an import: now, or by a refresh at the provider. */
  async #isThere(key: TokenKey): Promise<boolean> {
    const row = await this.table.load(key);
    if (row === null || row.state === 'ended') return false;
    return this.client.realm.refreshOwner === 'module' || this.freshness.isFresh(row, key, {});
  }

  /** Returns whether the user disconnected the account and no pair was stored since. */
  async #isDisconnected(key: TokenKey): Promise<boolean> {
    return (await this.disconnected.has(key)) && (await this.table.load(key)) === null;
  }

  async #isStored(key: TokenKey, accessToken: string): Promise<boolean> {
    const row = await this.table.load(key);
    try {
      return (
        row !== null && this.cipher.open(row.tokens.accessToken, authTokenLocation(key, 'access_token')) === accessToken
      );
    } catch (error) {
      if (error instanceof TokenDecryptionError) return false; // an import makes such a row usable again
      throw error;
    }
  }

  async #import(key: TokenKey, accessToken: string, isExplicit: boolean): Promise<boolean> {
    const { keycloakUserId, idp } = key;
    checkToken(accessToken, 'The Keycloak access token');
    // This check comes before the request to the broker, because the broker may redeem a single-use token for it.
    this.scope.transaction()?.assertOpen();
    const claims = claimsOf(accessToken);
    assertUnbound(claims, 'The Keycloak access token');
    const subject = claims.sub ?? subjectIn(await this.client.userInfo(accessToken));
    if (subject !== keycloakUserId) {
      throw new InvalidTokenInputError(
        `The Keycloak access token belongs to user "${subject}", not to user "${keycloakUserId}".`,
      );
    }
    const tokens = await this.broker.storedTokens(key, accessToken);
    // A stored token is not imported again. It would get a later expiry if Keycloak names only its lifetime.
    if (!tokens || (await this.#isStored(key, tokens.accessToken))) return false;
    const isRefreshedHere = this.client.realm.refreshOwner === 'module';
    const sealed = (token: string, column: 'access_token' | 'refresh_token') =>
      this.cipher.seal(checkToken(token, `The ${column} that Keycloak has stored`), authTokenLocation(key, column));
    return this.table.import(
      key,
      {
        accessToken: sealed(tokens.accessToken, 'access_token'),
        refreshToken: isRefreshedHere && tokens.refreshToken ? sealed(tokens.refreshToken, 'refresh_token') : '',
        accessTokenExpiresAt: tokens.accessTokenExpiresAt,
        refreshTokenExpiresAt: isRefreshedHere ? tokens.refreshTokenExpiresAt : 0,
        issuedAt: tokens.issuedAt,
        mayDropRefreshToken: !isRefreshedHere,
        isExplicit,
      },
      this.providers.get(idp).clientId ?? null,
    );
  }

  /**
   * Imports the tokens of a key by itself, without a host that asks for it. Concurrent callers share one request to the
   * broker, because the broker may redeem a single-use token for it. The import runs outside of the caller's transaction, so that the other callers see its
   * result. It runs inside if this transaction has changed the row, because no other connection can change the row
   * then.
   */
  async #importOnce(key: TokenKey, accessTokenOf: () => Promise<string>): Promise<boolean> {
    if (this.scope.transaction() && (await this.table.isUncommitted(key, await this.table.load(key)))) {
      return this.#import(key, await accessTokenOf(), false);
    }
    const name = keyName(key);
    const underWay = this.#imports.get(name);
    if (underWay) return underWay;
    const accessToken = await accessTokenOf();
    const begunMeanwhile = this.#imports.get(name);
    if (begunMeanwhile) return begunMeanwhile;
    const importing = this.scope
      // Looks again, because another import may have ended after this caller looked.
      .detached(async () => (await this.#isThere(key)) || this.#import(key, accessToken, false))
      .finally(() => this.#imports.delete(name));
    this.#imports.set(name, importing);
    return importing;
  }
}
