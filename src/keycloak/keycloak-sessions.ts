import { Injectable } from '@nestjs/common';

import type { Fields } from '../oauth-http/answer-fields.js';
import { KeycloakSessionExpiredError } from '../tokens.errors.js';
import { KeycloakClient } from './keycloak-client.js';
import { KeycloakTokens } from './keycloak-tokens.js';

/**
 * The sessions of users at Keycloak, for a host that logs them in and keeps their tokens. Nothing is stored here.
 *
 * Every method throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer: an outage is never taken
 * for an ended session. Every method throws {@link KeycloakMisconfiguredError} when Keycloak refuses the client of the
 * options, or is not the realm of the options.
 */
@Injectable()
export class KeycloakSessions {
  readonly #refreshes = new Map<string, Promise<KeycloakTokens>>();

  /** @internal */
  constructor(private readonly client: KeycloakClient) {}

  /**
   * Redeems the code that a login brought back.
   *
   * @param codeVerifier when the login was started with a PKCE challenge
   * @returns null when Keycloak issued no refresh token for it
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
   * The same tokens while the access token is good, refreshed ones afterwards. Store what it returns: the old refresh
   * token may be spent.
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
   * The claims of the user of an access token; `{}` for an empty one.
   *
   * @throws {@link KeycloakSessionExpiredError} when the token is expired, revoked or no token of the realm
   * @throws {@link KeycloakMisconfiguredError} when the token was issued without the scope `openid`
   */
  async getUserInfo(accessToken: string): Promise<Fields> {
    return accessToken ? this.client.userInfo(accessToken) : {};
  }

  /**
   * Redeems a refresh token. Callers of one process who pass the same token at once share one request, because with
   * Revoke Refresh Token on, Keycloak ends a session whose token comes twice.
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

  /** Ends the session of a refresh token at Keycloak; a session that is over already is no error. */
  async logout(refreshToken: string): Promise<void> {
    await this.client.endSession(refreshToken);
  }

  async #redeem(refreshToken: string): Promise<KeycloakTokens> {
    const issued = await this.client.token('refresh_token', { refresh_token: refreshToken });
    return new KeycloakTokens(issued.accessToken, issued.refreshToken ?? refreshToken);
  }
}
