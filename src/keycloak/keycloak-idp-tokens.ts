import { Injectable } from '@nestjs/common';
import { decodeJwt, type JWTPayload } from 'jose';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { Fields } from '../oauth-http/answer-fields.js';
import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { IdpTokenReader } from '../refresh/idp-token-reader.js';
import type { IdpToken } from '../refresh/idp-token.js';
import { TokenFreshness } from '../refresh/token-freshness.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
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

/**
 * Returns tokens of identity providers to a caller that has a Keycloak token, or the user's id at a provider. If no
 * token is stored, it first imports the one of Keycloak's broker. With the refresh owner `keycloak` it also does this
 * for a stale one.
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
    private readonly freshness: TokenFreshness,
    private readonly reader: IdpTokenReader,
    private readonly providers: IdentityProviderRegistry,
    private readonly cipher: TokenCipher,
    private readonly scope: QueryRunnerScope,
  ) {}

  /** @see {@link TokenManager.importIdpTokens} */
  async import(idp: string, userId: string, accessToken: string): Promise<boolean> {
    const key = checkKey({ keycloakUserId: userId, idp });
    this.providers.get(idp);
    checkToken(accessToken, 'The Keycloak access token');
    // This check comes before the request to the broker, because the broker may redeem a single-use token for it.
    this.scope.transaction()?.assertOpen();
    const subject = claimsOf(accessToken).sub ?? subjectIn(await this.client.userInfo(accessToken));
    if (subject !== userId) {
      throw new InvalidTokenInputError(
        `The Keycloak access token belongs to user "${subject}", not to user "${userId}".`,
      );
    }
    const tokens = await this.broker.storedTokens(idp, accessToken);
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
      },
      this.providers.get(idp).clientId ?? null,
    );
  }

  /** @see {@link TokenManager.getIdpTokenForAccessToken} */
  async forAccessToken(accessToken: string, idp: string): Promise<IdpToken> {
    const claims = await this.client.userInfo(checkToken(accessToken, 'The Keycloak access token'));
    // Keycloak accepts the tokens of all its clients. The tokens stored here must not be readable with a token of
    // another client.
    const { aud, azp } = claimsOf(accessToken);
    const { clientId, audience } = this.client.realm;
    if (azp !== clientId && !(Array.isArray(aud) ? aud : [aud]).includes(audience)) {
      throw new KeycloakSessionExpiredError(
        `The access token was issued to another client and not for "${audience}". Let the user log in here.`,
      );
    }
    return this.#tokenOf(subjectIn(claims), idp, accessToken);
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
    if (claims.token_type !== undefined && claims.token_type !== 'Offline') {
      throw new InvalidTokenInputError(
        'The refresh token is not an offline token. It ends with its session. ' +
          'Let the user log in with scope "offline_access".',
      );
    }
    const userId = subjectIn(claims);
    const { accessToken } = await this.offlineSessions.refreshWith(userId, offlineToken);
    return this.#tokenOf(userId, idp, accessToken);
  }

  /** @see {@link TokenManager.getIdpTokenFromIdpUserId} */
  async fromIdpUserId(idpUserId: string, idp: string): Promise<IdpToken> {
    this.providers.get(idp);
    const userId = await this.users.getUserIdFromIdpUserId(idpUserId, idp);
    if (userId === null) throw new TokensNotFoundError({ keycloakUserId: idpUserId, idp });
    const { accessToken } = await this.offlineSessions.refresh(userId);
    return this.#tokenOf(userId, idp, accessToken);
  }

  /** Returns the stored token. Imports it first if there is none, or if it is stale and Keycloak refreshes it. */
  async #tokenOf(userId: string, idp: string, accessToken: string): Promise<IdpToken> {
    const key = checkKey({ keycloakUserId: userId, idp });
    this.providers.get(idp);
    if (!(await this.#isThere(key))) await this.#importOnce(key, accessToken);
    return this.reader.read(userId, idp, {});
  }

  async #isThere(key: TokenKey): Promise<boolean> {
    const row = await this.table.findAccessToken(key);
    return row !== null && (this.client.realm.refreshOwner === 'module' || this.freshness.isFresh(row, key, {}));
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

  /**
   * Imports the tokens of a key. Concurrent callers share one request to the broker, because the broker may redeem a
   * single-use token for it. The import runs outside of the caller's transaction, so that the other callers see its
   * result. It runs inside if this transaction has changed the row, because no other connection can change the row
   * then.
   */
  async #importOnce(key: TokenKey, accessToken: string): Promise<boolean> {
    if (this.scope.transaction() && (await this.table.isUncommitted(key, await this.table.load(key)))) {
      return this.import(key.idp, key.keycloakUserId, accessToken);
    }
    const name = keyName(key);
    const underWay = this.#imports.get(name);
    if (underWay) return underWay;
    const importing = this.scope
      // Looks again, because another import may have ended after this caller looked.
      .detached(async () => (await this.#isThere(key)) || this.import(key.idp, key.keycloakUserId, accessToken))
      .finally(() => this.#imports.delete(name));
    this.#imports.set(name, importing);
    return importing;
  }
}

/** Returns the claims of a JWT without verifying it. Every other token has none. */
function claimsOf(accessToken: string): JWTPayload {
  try {
    return decodeJwt(accessToken);
  } catch {
    return {};
  }
}

function subjectIn({ sub }: Fields): string {
  if (typeof sub === 'string' && sub !== '') return sub;
  throw new KeycloakSessionExpiredError(
    'Keycloak names no subject for this token. Give the client the scope "basic", and let the user log in again.',
  );
}
