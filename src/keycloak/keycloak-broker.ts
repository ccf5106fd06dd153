import { Injectable } from '@nestjs/common';

import type { TokenPair } from '../identity-providers/identity-provider.js';
import { isPage, lifetime, nonEmptyText, parseFields, scopesIn } from '../oauth-http/answer-fields.js';
import type { TokenKey } from '../token-key.js';
import {
  KeycloakMisconfiguredError,
  KeycloakSessionExpiredError,
  KeycloakUnavailableError,
  ReauthenticationRequiredError,
} from '../tokens.errors.js';
import { KeycloakClient } from './keycloak-client.js';
import { type KeycloakAnswer, unavailable } from './keycloak-failure.js';

/**
 * A token pair in plaintext that Keycloak's broker has stored. Times are in epoch seconds; 0 = does not expire, or not
 * known.
 */
export interface BrokeredTokens extends TokenPair {
  readonly issuedAt: number;
  readonly accessTokenExpiresAt: number;
  readonly refreshTokenExpiresAt: number;
  /** Absent if Keycloak says nothing about them. */
  readonly scopes?: readonly string[];
}

const NOTHING_STORED = [
  /does not support this operation/,
  /is not associated with identity provider/,
  /^No token stored for user/,
];

/** Keycloak's own words for a refresh that failed at the provider. They come with status 502, which proxies use too. */
const REFRESH_FAILED = 'Unable to refresh token';

/** Reads the tokens of identity providers that Keycloak's broker has stored. */
@Injectable()
export class KeycloakBroker {
  constructor(private readonly client: KeycloakClient) {}

  /**
   * Returns the stored tokens of the user to whom the access token belongs; `null` if Keycloak has none. Keycloak from
   * version 26 on refreshes an expired pair before it answers.
   *
   * @throws {@link ReauthenticationRequiredError} when Keycloak says that it could not refresh the pair at the provider
   * @throws {@link KeycloakSessionExpiredError} when Keycloak no longer accepts the access token
   * @throws {@link KeycloakMisconfiguredError} when the user does not have the role `read-token` of the client `broker`
   * @throws {@link KeycloakUnavailableError} when Keycloak does not answer or could not get the token from the provider
   */
  async storedTokens(key: TokenKey, accessToken: string): Promise<BrokeredTokens | null> {
    const { idp } = key;
    const url = new URL(`${this.client.realm.url}/broker/${encodeURIComponent(idp)}/token`);
    const askedAt = Math.floor(Date.now() / 1000);
    const answer = await this.client.get(url, accessToken, isRefreshFailed);
    const { status, body } = answer;
    if (status < 300) return readTokens(body, askedAt);
    if (isRefreshFailed(answer)) throw new ReauthenticationRequiredError(key, 'broker_refresh_failed');

    const message = messageIn(body);
    if (NOTHING_STORED.some((answer) => answer.test(message))) return null;
    if (status === 401 && isPage(body)) throw unavailable('http_401'); // something in front of Keycloak answered
    if (status === 401 || message === 'Invalid token.') {
      throw new KeycloakSessionExpiredError(
        `Keycloak refused the access token for the tokens of "${idp}". Let the user log in again.`,
      );
    }
    throw new KeycloakMisconfiguredError(
      `Keycloak refused the tokens of "${idp}" with status ${status}. Give the users the role read-token of the client ` +
        `broker, for example by "Stored tokens readable" of the provider, and check that "${idp}" is its alias.`,
    );
  }
}

function isRefreshFailed({ status, body }: KeycloakAnswer): boolean {
  return status === 502 && messageIn(body) === REFRESH_FAILED;
}

/** Returns Keycloak's own message. It is always in JSON, and a form is an answer of the provider. */
function messageIn(body: string): string {
  return (/^\s*{/.test(body) && nonEmptyText(parseFields(body)?.errorMessage)) || '';
}

/**
 * Reads JSON or a form. `accessTokenExpiration` is the time at which the access token expires, in epoch seconds.
 * Keycloak adds it to JSON, but not to forms such as GitHub's. `expires_in` is the lifetime that the access token had
 * when Keycloak got it. So it counts from now only if `accessTokenExpiration` is absent.
 */
function readTokens(body: string, askedAt: number): BrokeredTokens {
  const fields = parseFields(body);
  const accessToken = nonEmptyText(fields?.access_token);
  if (!fields || !accessToken) {
    throw new KeycloakUnavailableError('Keycloak answered with stored tokens that cannot be read. Try again shortly.');
  }
  const expiresIn = lifetime(fields.expires_in);
  const expiresAt = lifetime(fields.accessTokenExpiration);
  const issuedAt = expiresAt && expiresIn ? expiresAt - expiresIn : 0;
  const refreshExpiresIn = lifetime(fields.refresh_token_expires_in ?? fields.refresh_expires_in);
  return {
    accessToken,
    issuedAt,
    refreshToken: nonEmptyText(fields.refresh_token) ?? '',
    accessTokenExpiresAt: expiresAt ?? (expiresIn ? askedAt + expiresIn : 0),
    refreshTokenExpiresAt: refreshExpiresIn ? (issuedAt || askedAt) + refreshExpiresIn : 0,
    ...scopesIn(fields),
  };
}
