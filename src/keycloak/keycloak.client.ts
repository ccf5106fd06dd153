import { Injectable } from '@nestjs/common';
import * as oauth from 'oauth4webapi';

import { exchange } from '../identity-providers/http-exchange.js';
import { type Fields, nonEmptyText, oauthErrorCode, parseFields } from '../identity-providers/token-answer.js';
import { KeycloakSessionExpiredError, KeycloakUnavailableError, TokensConfigurationError } from '../tokens.errors.js';
import { KeycloakRealm } from './keycloak.realm.js';

/** What the token endpoint issued. */
export interface IssuedKeycloakTokens {
  readonly accessToken: string;
  /** Absent for the service account, and where the old one stays good. */
  readonly refreshToken?: string;
  /** Seconds; absent when Keycloak did not say. */
  readonly expiresIn?: number;
}

/** An answer of Keycloak below 500. */
export interface KeycloakAnswer {
  readonly status: number;
  readonly body: string;
}

const UNREADABLE = 'an answer that cannot be read';
/** Says nothing about the request but "later". */
const PASSING_STATUSES = new Set([408, 425, 429]);
/** What Keycloak also calls `invalid_grant`, and no login of the user puts right. */
const CONFIGURATION_GRANTS: readonly [RegExp, string][] = [
  [/redirect_uri/i, 'the redirect URI is not the one that the login was started with'],
  [/issuer/i, 'the token was issued under another URL of the server'],
  [/client.*match/i, 'the token was issued to another client'],
];

/**
 * The HTTP side of one Keycloak realm. Each request has one absolute deadline, follows no redirect, and is tried a second
 * time only when no connection was made. Every method throws {@link KeycloakUnavailableError} when Keycloak gives no
 * usable answer, and {@link TokensConfigurationError} when it refuses this application. No error holds a token, a secret
 * or a body.
 */
@Injectable()
export class KeycloakClient {
  #metadata: Promise<oauth.AuthorizationServer> | undefined;

  constructor(private readonly configured: KeycloakRealm | null) {}

  /** @throws {@link TokensConfigurationError} when the options of the module have no `keycloak` */
  get realm(): KeycloakRealm {
    if (this.configured) return this.configured;
    throw new TokensConfigurationError(
      'The options of TokensModule name no Keycloak realm. Add keycloak: { serverUrl, realm, clientId, clientSecret }.',
    );
  }

  /** The realm's metadata, asked for once; a failure is not kept. @see OpenID Connect Discovery 1.0 section 4 */
  metadata(): Promise<oauth.AuthorizationServer> {
    this.#metadata ??= this.#discover().catch((error: unknown) => {
      this.#metadata = undefined;
      throw error;
    });
    return this.#metadata;
  }

  /**
   * Asks the token endpoint. The tokens are returned as soon as they can be read and nothing else of the answer is
   * checked: a refresh token may have been spent for them.
   *
   * @throws {@link KeycloakSessionExpiredError} when Keycloak does not accept the grant any more
   * @see RFC 6749 section 5
   */
  async token(grantType: string, parameters: Record<string, string>): Promise<IssuedKeycloakTokens> {
    const server = await this.metadata();
    const response = await oauth.genericTokenEndpointRequest(
      server,
      this.#client,
      this.#authentication,
      grantType,
      parameters,
      this.#http,
    );
    const fields = parseFields(await response.text());
    const accessToken = response.ok ? nonEmptyText(fields?.access_token) : undefined;
    if (!accessToken) throw this.#refusal('the token endpoint', response.status, fields);
    const refreshToken = nonEmptyText(fields?.refresh_token);
    const expiresIn = typeof fields?.expires_in === 'number' ? fields.expires_in : undefined;
    return { accessToken, refreshToken, expiresIn };
  }

  /**
   * The claims of the user whose access token this is.
   *
   * @throws {@link KeycloakSessionExpiredError} when the token is expired, revoked or no token of the realm
   * @see OpenID Connect Core 1.0 section 5.3
   */
  async userInfo(accessToken: string): Promise<Fields> {
    assertBearer(accessToken);
    const server = await this.metadata();
    const response = await oauth.userInfoRequest(server, this.#client, accessToken, this.#http);
    if (response.status === 401) throw expired('the access token is expired, revoked or not of this realm');
    const fields = parseFields(await response.text());
    if (response.ok && fields) return fields;
    if (response.status !== 403) throw this.#refusal('the userinfo endpoint', response.status, fields);
    throw new TokensConfigurationError('Keycloak refused the user info: request the access token with scope "openid".');
  }

  /** What Keycloak knows about a refresh token; `active` is false when it would not accept it. @see RFC 7662 */
  async introspect(refreshToken: string): Promise<Fields & { active: boolean }> {
    const server = await this.metadata();
    // Without the hint Keycloak takes the token for an access token, and calls every other inactive.
    const response = await oauth.introspectionRequest(server, this.#client, this.#authentication, refreshToken, {
      ...this.#http,
      additionalParameters: { token_type_hint: 'refresh_token' },
    });
    const fields = parseFields(await response.text());
    if (!response.ok || typeof fields?.active !== 'boolean') {
      throw this.#refusal('the introspection endpoint', response.status, fields);
    }
    return { ...fields, active: fields.active };
  }

  /** Ends the session of a refresh token. */
  async endSession(refreshToken: string): Promise<void> {
    const { end_session_endpoint: endpoint } = await this.metadata();
    if (!endpoint) throw unavailable('metadata without end_session_endpoint');
    const { clientId, clientSecret } = this.realm;
    const form = new URLSearchParams({ client_id: clientId, client_secret: clientSecret, refresh_token: refreshToken });
    const { status, body } = await this.#send(new URL(endpoint), {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: form.toString(),
    });
    if (status >= 400) throw this.#refusal('the logout endpoint', status, parseFields(body));
    if (status !== 204 && body !== '') throw unavailable(UNREADABLE);
  }

  /**
   * Reads something with a bearer token.
   *
   * @throws {@link KeycloakSessionExpiredError} for what cannot be a token
   */
  async get(url: URL, accessToken: string): Promise<KeycloakAnswer> {
    assertBearer(accessToken);
    return this.#send(url, {
      method: 'GET',
      headers: { accept: 'application/json', authorization: `Bearer ${accessToken}` },
    });
  }

  /** Reads something that is public. */
  getPublic(url: URL): Promise<KeycloakAnswer> {
    return this.#send(url, { method: 'GET', headers: { accept: 'application/json' } });
  }

  async #discover(): Promise<oauth.AuthorizationServer> {
    const { url, issuer } = this.realm;
    const response = await oauth.discoveryRequest(new URL(url), { algorithm: 'oidc', ...this.#http });
    if (response.status === 404) {
      throw new TokensConfigurationError(
        `Keycloak has no realm at ${url}. Check keycloak.serverUrl and keycloak.realm.`,
      );
    }
    try {
      return await oauth.processDiscoveryResponse(new URL(issuer), response);
    } catch (error) {
      if (error instanceof oauth.OperationProcessingError && error.code === oauth.JSON_ATTRIBUTE_COMPARISON) {
        throw new TokensConfigurationError(
          `Keycloak at ${url} issues its tokens under another name than ${issuer}. Set keycloak.issuer to it.`,
        );
      }
      throw unavailable(UNREADABLE);
    }
  }

  get #client(): oauth.Client {
    return { client_id: this.realm.clientId };
  }

  get #authentication(): oauth.ClientAuth {
    return oauth.ClientSecretPost(this.realm.clientSecret);
  }

  get #http() {
    return {
      [oauth.customFetch]: async (url: string, { method, headers, body }: FetchInit): Promise<Response> => {
        const answer = await this.#send(new URL(url), { method, headers, body: body?.toString() });
        const hasNoBody = answer.status === 204 || answer.status === 304;
        return new Response(hasNoBody ? null : answer.body, {
          status: answer.status,
          headers: { 'content-type': 'application/json' },
        });
      },
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so as to stand out; it is what admits http
      [oauth.allowInsecureRequests]: new URL(this.realm.url).protocol === 'http:',
    };
  }

  async #send(
    url: URL,
    request: { method: 'GET' | 'POST'; headers: Record<string, string>; body?: string },
  ): Promise<KeycloakAnswer> {
    const deadline = performance.now() + this.realm.timeoutMs;
    for (let isSecondTry = false; ; isSecondTry = true) {
      const outcome = await exchange({ url: url.href, ...request }, Math.max(1, deadline - performance.now()));
      if (outcome.kind === 'not-sent' && !isSecondTry && performance.now() < deadline) continue;
      if (outcome.kind !== 'answered') throw unavailable(outcome.code);
      const { status } = outcome;
      if (status >= 500 || PASSING_STATUSES.has(status)) throw unavailable(`http_${status}`);
      if (status < 300 || status >= 400) return outcome;
      throw new TokensConfigurationError(
        `${url.origin} redirects Keycloak's requests (status ${status}), which are not followed. Check keycloak.serverUrl.`,
      );
    }
  }

  #refusal(place: string, status: number, fields: Fields | undefined): Error {
    const code = oauthErrorCode(fields?.error) ?? `http_${status}`;
    if (status < 400 || code === 'temporarily_unavailable') return unavailable(UNREADABLE);
    const description = nonEmptyText(fields?.error_description) ?? '';
    const [, fault] = CONFIGURATION_GRANTS.find(([pattern]) => pattern.test(description)) ?? [];
    if (code === 'invalid_grant' && !fault) return expired('Keycloak does not accept its token any more');
    const advice = 'Check keycloak.clientId and keycloak.clientSecret, and what the client may do.';
    return new TokensConfigurationError(
      `Keycloak refused client "${this.realm.clientId}" at ${place} with "${code}". ` +
        (fault ? `It says that ${fault}.` : advice),
    );
  }
}

interface FetchInit {
  readonly method: 'GET' | 'POST';
  readonly headers: Record<string, string>;
  readonly body?: URLSearchParams | null;
}

/** Before it stands in a header, where fetch would quote it in its error. @see RFC 6750 section 2.1 */
function assertBearer(accessToken: string): void {
  if (!/^[\x21-\x7e]+$/.test(accessToken)) throw expired('the access token is no token of the realm');
}

function unavailable(cause: string): KeycloakUnavailableError {
  return new KeycloakUnavailableError(
    `Keycloak gave no usable answer (${cause}). Check that it is up; try again shortly.`,
  );
}

function expired(cause: string): KeycloakSessionExpiredError {
  return new KeycloakSessionExpiredError(`The Keycloak session is over: ${cause}. Let the user log in again.`);
}
