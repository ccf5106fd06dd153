import { Injectable } from '@nestjs/common';
import { decodeJwt } from 'jose';

import { AuthTokensTable } from '../auth-tokens/auth-tokens.table.js';
import type { AuthTokensKey } from '../auth-tokens/auth-tokens.types.js';
import { rowName } from '../auth-tokens/auth-tokens.row.js';
import { TokenRefresher } from '../auth-tokens/token-refresher.js';
import { TokenCipher } from '../crypto/token.cipher.js';
import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { KeycloakBroker } from '../keycloak/keycloak.broker.js';
import { KeycloakClient } from '../keycloak/keycloak.client.js';
import { KeycloakUsers } from '../keycloak/keycloak.users.js';
import { OfflineTokenStore } from '../offline-tokens/offline-token.store.js';
import { checkKey, checkToken } from '../token-input.js';
import { InvalidTokenInputError, KeycloakSessionExpiredError, TokensNotFoundError } from '../tokens.errors.js';
import type { IdpToken } from './idp-token.js';
import { IdpTokenReader } from './idp-token.reader.js';
import { OfflineSessions } from './offline-sessions.js';
import { OfflineTokenVault } from './offline-token.vault.js';
import { authTokenLocation } from './token-locations.js';

/** Tokens of identity providers for whoever has a Keycloak token, imported from Keycloak's broker where need be. */
@Injectable()
export class KeycloakIdpTokens {
  readonly #imports = new Map<string, Promise<boolean>>();

  constructor(
    private readonly client: KeycloakClient,
    private readonly broker: KeycloakBroker,
    private readonly users: KeycloakUsers,
    private readonly offlineSessions: OfflineSessions,
    private readonly offlineTokens: OfflineTokenStore,
    private readonly vault: OfflineTokenVault,
    private readonly table: AuthTokensTable,
    private readonly refresher: TokenRefresher,
    private readonly reader: IdpTokenReader,
    private readonly providers: IdentityProviderRegistry,
    private readonly cipher: TokenCipher,
  ) {}

  /** @see {@link TokenManager.importIdpTokens} */
  async import(idp: string, userId: string, accessToken: string): Promise<boolean> {
    const key = checkKey({ keycloakUserId: userId, idp });
    this.providers.get(idp);
    const subject = subjectOf(checkToken(accessToken, 'The Keycloak access token'));
    if (subject !== undefined && subject !== userId) {
      throw new InvalidTokenInputError(`The Keycloak access token is user "${subject}"'s, not user "${userId}"'s.`);
    }
    const tokens = await this.broker.storedTokens(idp, accessToken);
    if (!tokens) return false;
    const isRefreshedHere = this.client.realm.refreshOwner === 'module' && tokens.refreshToken !== '';
    const sealed = (token: string, column: 'access_token' | 'refresh_token') =>
      this.cipher.seal(checkToken(token, `The ${column} that Keycloak has stored`), authTokenLocation(key, column));
    return this.table.import(key, {
      accessToken: sealed(tokens.accessToken, 'access_token'),
      refreshToken: isRefreshedHere ? sealed(tokens.refreshToken, 'refresh_token') : '',
      accessTokenExpiresAt: tokens.accessTokenExpiresAt,
      refreshTokenExpiresAt: isRefreshedHere ? tokens.refreshTokenExpiresAt : 0,
    });
  }

  /** @see {@link TokenManager.getIdpTokenForAccessToken} */
  async forAccessToken(accessToken: string, idp: string): Promise<IdpToken> {
    const { sub } = await this.client.userInfo(checkToken(accessToken, 'The Keycloak access token'));
    return this.#tokenOf(subjectIn(sub), idp, accessToken);
  }

  /** @see {@link TokenManager.getIdpTokenFromOfflineToken} */
  async fromOfflineToken(offlineToken: string, idp: string): Promise<IdpToken> {
    this.providers.get(idp);
    const { active, sub } = await this.client.introspect(checkToken(offlineToken, 'The offline token'));
    if (!active) {
      throw new KeycloakSessionExpiredError(
        'The offline token is expired, revoked or replaced by a successor. Pass the one that is stored, or let the user log in again.',
      );
    }
    const userId = subjectIn(sub);
    // Redeemed from the row only, where its successor has a place.
    if ((await this.offlineTokens.loadToken(userId)) === null) {
      await this.offlineTokens.storeToken(userId, this.vault.seal(userId, offlineToken));
    }
    return this.#tokenFromOfflineSession(userId, idp);
  }

  /** @see {@link TokenManager.getIdpTokenFromIdpUserId} */
  async fromIdpUserId(idpUserId: string, idp: string): Promise<IdpToken> {
    this.providers.get(idp);
    const userId = await this.users.getUserIdFromIdpUserId(idpUserId, idp);
    if (userId === null) throw new TokensNotFoundError({ keycloakUserId: idpUserId, idp });
    return this.#tokenFromOfflineSession(userId, idp);
  }

  async #tokenFromOfflineSession(userId: string, idp: string): Promise<IdpToken> {
    const { accessToken } = await this.offlineSessions.refresh(userId);
    return this.#tokenOf(userId, idp, accessToken);
  }

  /** The stored token, imported first where there is none, or where Keycloak refreshes it and it is stale. */
  async #tokenOf(userId: string, idp: string, accessToken: string): Promise<IdpToken> {
    const key = checkKey({ keycloakUserId: userId, idp });
    this.providers.get(idp);
    const row = await this.refresher.find(key);
    const isGood = row && (this.client.realm.refreshOwner === 'module' || this.refresher.isFresh(row, key, {}));
    if (!isGood) await this.#importOnce(key, accessToken);
    return this.reader.read(userId, idp, {});
  }

  /** Of concurrent callers one asks the broker, which may redeem a single-use token on the way. */
  #importOnce(key: AuthTokensKey, accessToken: string): Promise<boolean> {
    const name = rowName(key);
    const underWay = this.#imports.get(name);
    if (underWay) return underWay;
    const importing = this.import(key.idp, key.keycloakUserId, accessToken).finally(() => this.#imports.delete(name));
    this.#imports.set(name, importing);
    return importing;
  }
}

/** The subject that a JWT names, unverified; undefined for every other token. */
function subjectOf(accessToken: string): string | undefined {
  try {
    return decodeJwt(accessToken).sub;
  } catch {
    return undefined;
  }
}

function subjectIn(sub: unknown): string {
  if (typeof sub === 'string' && sub !== '') return sub;
  throw new KeycloakSessionExpiredError(
    'Keycloak names no subject for this token. Give the client the scope "basic", and let the user log in again.',
  );
}
