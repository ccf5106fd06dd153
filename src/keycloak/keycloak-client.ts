import { Injectable } from '@nestjs/common';
import * as oauth from 'oauth4webapi';

import { type Fields, isPage, parseFields } from '../oauth-http/answer-fields.js';
import { exchange, type HttpOutcome, type HttpRequest } from '../oauth-http/http-exchange.js';
import { type BuiltRequest, sentBy } from '../oauth-http/oauth-request.js';
import { KeycloakMisconfiguredError, TokensConfigurationError } from '../tokens.errors.js';
import {
  answerOf,
  errorOf,
  expired,
  type KeycloakAnswer,
  type KeycloakFailure,
  otherHostAdvice,
  refusalOf,
  unavailable,
} from './keycloak-failure.js';
import { type KeycloakMetadata, metadataOf } from './keycloak-metadata.js';
import { KeycloakRealm } from './keycloak-realm.js';
import { type IssuedKeycloakTokens, type KeycloakRefreshAnswer, refreshAnswerOf } from './keycloak-refresh-answer.js';

/**
 * Sends the requests to one Keycloak realm. Each request has one absolute deadline and follows no redirect. The client
 * sends it a second time only if no connection was made. No error contains a token, a secret or a body. A fault of the
 * program is thrown as it is.
 *
 * Every method but {@link redeem} throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer, and
 * {@link KeycloakMisconfiguredError} when it refuses this application.
 */
@Injectable()
export class KeycloakClient {
  #metadata: Promise<KeycloakMetadata> | undefined;
  #tokenEndpoint: string | undefined;

  constructor(private readonly configured: KeycloakRealm | null) {}

  /**
   * The realm of the options.
   *
   * @throws {@link TokensConfigurationError} when the options of the module have no `keycloak`
   */
  get realm(): KeycloakRealm {
    if (this.configured) return this.configured;
    throw new TokensConfigurationError(
      'The options of TokensModule name no Keycloak realm. Add keycloak: { serverUrl, realm, clientId, clientSecret }.',
    );
  }

  /** The client id of the options; null if the options name no realm. */
  get clientId(): string | null {
    return this.configured?.clientId ?? null;
  }

  /** What to set if the token endpoint cannot be reached and is not at the host of the options; otherwise undefined. */
  get tokenEndpointAdvice(): string | undefined {
    return this.#tokenEndpoint && otherHostAdvice(this.#tokenEndpoint, this.realm.url);
  }

  /**
   * Returns the metadata of the realm. The client keeps them after the first success. It does not keep a failure.
   *
   * @see OpenID Connect Discovery 1.0 section 4
   */
  metadata(): Promise<KeycloakMetadata> {
    this.#metadata ??= this.#discover().catch((error: unknown) => {
      this.#metadata = undefined;
      throw error;
    });
    return this.#metadata;
  }

  /**
   * Redeems a refresh token once, within `timeoutMs` of the realm, and returns whether Keycloak may have served the
   * request. It does not reject once the token may have been sent. It rejects only before that, if it cannot get the
   * metadata. If the caller's time is limited, await {@link metadata} first.
   *
   * @throws {@link KeycloakUnavailableError} when Keycloak gives no usable metadata; the token was not sent
   * @throws {@link KeycloakMisconfiguredError} when the metadata are not those of the options; the token was not sent
   * @throws {@link TokensConfigurationError} when the options of the module have no `keycloak`
   * @see RFC 6749 section 6
   */
  async redeem(refreshToken: string): Promise<KeycloakRefreshAnswer> {
    const deadline = this.#newDeadline();
    const server = await this.metadata();
    if (performance.now() >= deadline) return { kind: 'not-redeemed', code: 'TIMEOUT' };
    return this.#grant(server, 'refresh_token', { refresh_token: refreshToken }, deadline);
  }

  /**
   * Asks the token endpoint for tokens.
   *
   * @throws {@link KeycloakSessionExpiredError} when Keycloak no longer accepts the grant
   * @see RFC 6749 section 5
   */
  async token(grantType: string, parameters: Record<string, string>): Promise<IssuedKeycloakTokens> {
    const server = await this.metadata();
    const outcome = await this.#grant(server, grantType, parameters, this.#newDeadline());
    if (outcome.kind === 'success') return outcome.tokens;
    throw errorOf(outcome, server.token_endpoint, this.realm.url);
  }

  /**
   * Returns the claims of the user to whom the access token belongs.
   *
   * @throws {@link KeycloakSessionExpiredError} when the token is expired, revoked or no token of the realm
   * @throws {@link KeycloakMisconfiguredError} when the token was issued without the scope `openid`
   * @see OpenID Connect Core 1.0 section 5.3
   */
  async userInfo(accessToken: string): Promise<Fields> {
    assertBearer(accessToken);
    const server = await this.metadata();
    const outcome = await this.#ask((http) => oauth.userInfoRequest(server, this.#client, accessToken, http));
    const answer = this.#answered(outcome, server.userinfo_endpoint);
    if (answer.status === 401 && isPage(answer.body)) throw unavailable('http_401'); // a proxy answered
    if (answer.status === 401) throw expired('the access token is expired, revoked or not of this realm');
    if (answer.status === 403) {
      throw new KeycloakMisconfiguredError(
        'Keycloak refused the user info. Request the access token with scope "openid".',
      );
    }
    const fields = answer.status < 300 ? parseFields(answer.body) : undefined;
    if (fields) return fields;
    throw this.#refusal(answer, 'the userinfo endpoint');
  }

  /**
   * Returns what Keycloak knows about a refresh token; `active` is false if Keycloak would not accept it. @see RFC 7662
   */
  async introspect(refreshToken: string): Promise<Fields & { active: boolean }> {
    const server = await this.metadata();
    // Without the hint Keycloak takes the token for an access token and answers that it is inactive.
    const additionalParameters = { token_type_hint: 'refresh_token' };
    const outcome = await this.#ask((http) =>
      oauth.introspectionRequest(server, this.#client, this.#authentication, refreshToken, {
        ...http,
        additionalParameters,
      }),
    );
    const answer = this.#answered(outcome, server.introspection_endpoint);
    const fields = answer.status < 300 ? parseFields(answer.body) : undefined;
    if (typeof fields?.active === 'boolean') return { ...fields, active: fields.active };
    throw this.#refusal(answer, 'the introspection endpoint');
  }

  /** Ends the session of a refresh token. */
  async endSession(refreshToken: string): Promise<void> {
    const { end_session_endpoint: endpoint } = await this.metadata();
    const { clientId, clientSecret } = this.realm;
    const form = new URLSearchParams({ client_id: clientId, client_secret: clientSecret, refresh_token: refreshToken });
    const outcome = await this.#send({
      url: endpoint,
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: form.toString(),
    });
    const answer = this.#answered(outcome, endpoint);
    const isDone = answer.status === 204 || (answer.status < 300 && answer.body === '');
    if (!isDone) throw this.#refusal(answer, 'the logout endpoint');
  }

  /**
   * Reads a URL with a bearer token.
   *
   * @param isAnswer whether an answer of the server is also an answer of Keycloak if its status says otherwise
   * @throws {@link KeycloakSessionExpiredError} when the text cannot be a token
   */
  async get(url: URL, accessToken: string, isAnswer?: (answer: KeycloakAnswer) => boolean): Promise<KeycloakAnswer> {
    assertBearer(accessToken);
    const headers = { accept: 'application/json', authorization: `Bearer ${accessToken}` };
    const request = { url: url.href, method: 'GET', headers } as const;
    return this.#answered(await this.#send(request, this.#newDeadline(), isAnswer), url.href);
  }

  /** Reads a URL that needs no token. */
  async getPublic(url: URL): Promise<KeycloakAnswer> {
    const request = { url: url.href, method: 'GET', headers: { accept: 'application/json' } } as const;
    return this.#answered(await this.#send(request), url.href);
  }

  async #discover(): Promise<KeycloakMetadata> {
    const { realm } = this;
    const outcome = await this.#ask((http) =>
      oauth.discoveryRequest(new URL(realm.url), { algorithm: 'oidc', ...http }),
    );
    const server = await metadataOf(this.#answered(outcome, realm.url), realm);
    this.#tokenEndpoint = server.token_endpoint;
    return server;
  }

  async #grant(
    server: KeycloakMetadata,
    grantType: string,
    parameters: Record<string, string>,
    deadline: number,
  ): Promise<KeycloakRefreshAnswer> {
    const answer = await this.#ask(
      (http) =>
        oauth.genericTokenEndpointRequest(server, this.#client, this.#authentication, grantType, parameters, http),
      deadline,
    );
    return refreshAnswerOf(answer, this.realm.clientId);
  }

  get #client(): oauth.Client {
    return { client_id: this.realm.clientId };
  }

  get #authentication(): oauth.ClientAuth {
    return oauth.ClientSecretPost(this.realm.clientSecret);
  }

  #newDeadline(): number {
    return performance.now() + this.realm.timeoutMs;
  }

  /** Sends the request that oauth4webapi builds. */
  async #ask(
    build: (http: object) => Promise<Response>,
    deadline = this.#newDeadline(),
  ): Promise<KeycloakAnswer | KeycloakFailure> {
    let answer: KeycloakAnswer | KeycloakFailure | undefined;
    const send = async (url: string, { method, headers, body }: BuiltRequest): Promise<Response> => {
      answer = await this.#send({ url, method, headers, body: body?.toString() }, deadline);
      return new Response(); // ignored, because it cannot say whether Keycloak served the request
    };
    await build(sentBy(send, new URL(this.realm.url).protocol === 'http:'));
    if (answer) return answer;
    throw new TypeError('oauth4webapi sent no request.');
  }

  async #send(
    request: HttpRequest,
    deadline = this.#newDeadline(),
    isAnswer?: (answer: KeycloakAnswer) => boolean,
  ): Promise<KeycloakAnswer | KeycloakFailure> {
    const attempt = (): Promise<HttpOutcome> => exchange(request, Math.max(1, deadline - performance.now()));
    let outcome = await attempt();
    if (outcome.kind === 'not-sent' && performance.now() < deadline) outcome = await attempt();
    if (outcome.kind === 'answered' && isAnswer?.(outcome)) return outcome;
    return answerOf(outcome, new URL(request.url));
  }

  #answered(answer: KeycloakAnswer | KeycloakFailure, endpoint: string): KeycloakAnswer {
    if (answer.kind === 'answered') return answer;
    throw errorOf(answer, endpoint, this.realm.url);
  }

  #refusal(answer: KeycloakAnswer, place: string): Error {
    const { clientId, url } = this.realm;
    return errorOf(refusalOf(answer, place, clientId), url, url);
  }
}

/**
 * Checks the access token before the client puts it into a header, because fetch quotes a bad header value in its
 * error. @see RFC 6750 section 2.1
 */
function assertBearer(accessToken: string): void {
  if (!/^[\x21-\x7e]+$/.test(accessToken)) throw expired('the access token is no token of the realm');
}
