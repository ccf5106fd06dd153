import { Injectable } from '@nestjs/common';

import { KeycloakSessionExpiredError } from '../tokens.errors.js';
import { KeycloakClient } from './keycloak-client.js';
import { KeycloakTokens } from './keycloak-tokens.js';

/**
 * The Keycloak sessions of users, for a host that logs its users in and keeps their tokens. The module does not store
 * these tokens.
 *
 * Every method throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer. It never takes an outage
 * for an ended session. Every method throws {@link KeycloakMisconfiguredError} when Keycloak refuses the client of the
 * options, or is not the realm of the options.
 */
@Injectable()
export class KeycloakSessions {
  readonly #refreshes = new Map<string, Promise<KeycloakTokens>>();

  constructor(private readonly client: KeycloakClient) {}

  /**
   * Exchanges the code of a login for tokens.
   *
   * @param codeVerifier the PKCE code verifier, if the login was started with a PKCE challenge
   * @returns null when Keycloak issued no refresh token for the code
   * @throws {@link KeycloakSessionExpiredError} when the code is wrong, used or expired
   * @see RFC 6749 section 4.1.3, RFC 7636 section 4.5
   */
  async getKeycloakTokens(code: string, redirectUri: string, codeVerifier?: string): Promise<KeycloakTokens | null> {
    const { accessToken, refreshToken } = await this.client.token('authorization_code', {
      code,
      redirect_uri: redirectUri,
      ...(codeVerifier && { code_verifier: codeVerifier }),
    });
    return refreshToken ? new KeycloakTokens(accessToken, refreshToken) : null;
  }

  /**
   * Returns the same tokens while the access token works, and refreshed ones afterwards. Store the tokens that it
   * returns, because the old refresh token may be spent.
   *
   * @throws {@link KeycloakSessionExpiredError} when the session is over
   */
  async verifyKeycloakToken(accessToken: string, refreshToken: string): Promise<KeycloakTokens> {
    if (!accessToken) return this.refresh(refreshToken);
    try {
      await this.client.userInfo(accessToken);
      return new KeycloakTokens(accessToken, refreshToken);
    } catch (error) {
      if (error instanceof KeycloakSessionExpiredError) return this.refresh(refreshToken);
      throw error;
    }
  }

  /**
   * Returns the claims of the user to whom the access token belongs; `{}` for an empty access token.
   *
   * @throws {@link KeycloakSessionExpiredError} when the token is expired, revoked or no token of the realm
   * @throws {@link KeycloakMisconfiguredError} when the token was issued without the scope `openid`
   */
  async getUserInfo(accessToken: string): Promise<Record<string, unknown>> {
    return accessToken ? this.client.userInfo(accessToken) : {};
  }

  /**
   * Redeems a refresh token. Callers of one process that pass the same token at the same time share one request. With
   * "Revoke Refresh Token" on, Keycloak ends the session of a token that it receives twice.
   *
   * @throws {@link KeycloakSessionExpiredError} when the session is over
   * @see RFC 6749 section 6
   */
  refresh(refreshToken: string): Promise<KeycloakTokens> {
    const underWay = this.#refreshes.get(refreshToken);
    if (underWay) return underWay;
    const refresh = this.#redeem(refreshToken).finally(() => this.#refreshes.delete(refreshToken));
    this.#refreshes.set(refreshToken, refresh);
    return refresh;
  }

  /** Ends the session of a refresh token at Keycloak. A session that has already ended is no error. */
  async logout(refreshToken: string): Promise<void> {
    await this.client.endSession(refreshToken);
  }

  async #redeem(refreshToken: string): Promise<KeycloakTokens> {
    const issued = await this.client.token('refresh_token', { refresh_token: refreshToken });
    return new KeycloakTokens(issued.accessToken, issued.refreshToken ?? refreshToken);
  }
}
