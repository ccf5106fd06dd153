import { oauthErrorCode, parseFields } from '../oauth-http/answer-fields.js';
import { basicAuthorization } from '../oauth-http/authorization.js';
import { exchange, type HttpRequest } from '../oauth-http/http-exchange.js';
import { retryAfter } from '../oauth-http/retry-after.js';
import { SecretHolder } from '../sealing/secret-holder.js';
import {
  accessTokenLife,
  type AccessTokenQuestion,
  introspectedLife,
  QUESTION_TIMEOUT_MS,
} from './access-token-question.js';
import type {
  AccessTokenLife,
  IdentityProvider,
  RefreshAnswer,
  RevocationAnswer,
  TokenPair,
} from './identity-provider.js';
import type { RefreshPolicy } from './refresh-policy.js';
import { classifyTokenAnswer } from './token-answer.js';

/** How an application authenticates at a token endpoint. @see RFC 6749 section 2.3.1 */
export type ClientAuthentication = 'client_secret_basic' | 'client_secret_post' | 'none';

/** Everything in which OAuth 2.0 providers differ. */
export interface OAuth2ProviderProfile {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly clientAuthentication: ClientAuthentication;
  readonly tokenEndpoint: string;
  /** The endpoint of RFC 7009, or the provider's own request; absent = the provider cannot revoke tokens. */
  readonly revocation?: string | ((tokens: TokenPair) => HttpRequest);
  /** The status by which the provider says that it does not know the token, or no longer knows it. */
  readonly unknownTokenStatus?: number;
  /**
   * The introspection endpoint of RFC 7662, or the provider's own question; absent = the module cannot ask about a
   * token.
   */
  readonly question?: string | AccessTokenQuestion;
  /** Parameters of a refresh in addition to those of RFC 6749 section 6. */
  readonly refreshParameters?: Record<string, string>;
  /** The lifetime of an access token whose answer names none, in seconds; absent = such a token does not expire. */
  readonly assumedLifetimeSeconds?: number;
  readonly policy: RefreshPolicy;
}

/** OAuth errors with status 400 that do not concern the token. @see RFC 7009 section 2.2.1, RFC 6749 section 5.2 */
const RETRYABLE_OAUTH_ERRORS = new Set([
  'invalid_client',
  'unauthorized_client',
  'temporarily_unavailable',
  'server_error',
]);

/**
 * An OAuth 2.0 provider that a profile describes. Each attempt sends one request, with the client authentication of the
 * profile. A failed attempt is not repeated with another client authentication, because the provider could redeem the
 * refresh token twice.
 */
export class OAuth2Provider extends SecretHolder implements IdentityProvider {
  readonly clientId: string;
  readonly policy: RefreshPolicy;
  readonly #profile: OAuth2ProviderProfile;
  readonly revoke?: (tokens: TokenPair) => Promise<RevocationAnswer>;
  readonly isAccessTokenAlive?: (accessToken: string) => Promise<AccessTokenLife>;

  constructor(profile: OAuth2ProviderProfile) {
    super();
    this.#profile = profile;
    this.clientId = profile.clientId;
    this.policy = profile.policy;
    const { revocation, question } = profile;
    if (revocation) {
      this.revoke = (tokens) =>
        this.#revoke(typeof revocation === 'string' ? this.#tokenRevocation(revocation, tokens) : revocation(tokens));
    }
    if (question) {
      const asked = typeof question === 'string' ? this.#introspection(question) : question;
      const timeoutMs = Math.min(QUESTION_TIMEOUT_MS, profile.policy.exchangeTimeoutMs);
      this.isAccessTokenAlive = (accessToken) => accessTokenLife(asked, accessToken, timeoutMs);
    }
  }

  /** @see RFC 6749 section 6 */
  async refresh(refreshToken: string): Promise<RefreshAnswer> {
    const { tokenEndpoint, refreshParameters, assumedLifetimeSeconds, policy } = this.#profile;
    const parameters = { grant_type: 'refresh_token', refresh_token: refreshToken, ...refreshParameters };
    const answer = classifyTokenAnswer(await exchange(this.#form(tokenEndpoint, parameters), policy.exchangeTimeoutMs));
    if (answer.kind !== 'success' || answer.tokens.accessTokenExpiresIn || !assumedLifetimeSeconds) return answer;
    return { kind: 'success', tokens: { ...answer.tokens, accessTokenExpiresIn: assumedLifetimeSeconds } };
  }

  toJSON(): object {
    const { tokenEndpoint, clientId, clientAuthentication } = this.#profile;
    return { tokenEndpoint, clientId, clientAuthentication, policy: this.policy };
  }

  /**
   * Sends the refresh token if there is one, because its revocation also ends the access tokens of the grant. @see RFC
   * 7009 section 2.1
   */
  #tokenRevocation(endpoint: string, { refreshToken, accessToken }: TokenPair): HttpRequest {
    const parameters = refreshToken
      ? { token: refreshToken, token_type_hint: 'refresh_token' }
      : { token: accessToken, token_type_hint: 'access_token' };
    return this.#form(endpoint, parameters);
  }

  /** @see RFC 7662 section 2.1 */
  #introspection(endpoint: string): AccessTokenQuestion {
    return {
      request: (accessToken) => this.#form(endpoint, { token: accessToken, token_type_hint: 'access_token' }),
      meaning: introspectedLife,
    };
  }

  async #revoke(request: HttpRequest): Promise<RevocationAnswer> {
    const outcome = await exchange(request, this.policy.exchangeTimeoutMs);
    if (outcome.kind !== 'answered') return { kind: 'unavailable', code: outcome.code };
    const { status, headers, body } = outcome;
    if (status < 300 || status === this.#profile.unknownTokenStatus) return { kind: 'revoked' };
    const code = oauthErrorCode(parseFields(body)?.error) ?? `http_${status}`;
    // Only a fault of the tokens is final. The operator can correct credentials and URLs, and a rate limit ends.
    const isFinal = (status === 400 || status === 422) && !RETRYABLE_OAUTH_ERRORS.has(code);
    if (isFinal) return { kind: 'refused', code };
    return { kind: 'unavailable', code, retryAfterMs: retryAfter(headers) };
  }

  #form(url: string, parameters: Record<string, string>): HttpRequest {
    const { clientId, clientSecret, clientAuthentication } = this.#profile;
    const form = new URLSearchParams(parameters);
    const headers: Record<string, string> = {
      accept: 'application/json',
      'content-type': 'application/x-www-form-urlencoded',
      'user-agent': 'nestjs-idp-tokens',
    };
    if (clientAuthentication === 'client_secret_basic') {
      headers.authorization = basicAuthorization(formEncode(clientId), formEncode(clientSecret));
    } else {
      form.set('client_id', clientId);
      if (clientAuthentication === 'client_secret_post') form.set('client_secret', clientSecret);
    }
    return { method: 'POST', url, headers, body: form.toString() };
  }
}

/** Form-encodes one half of the credentials, as RFC 6749 section 2.3.1 demands before the halves are joined. */
function formEncode(value: string): string {
  return new URLSearchParams({ '': value }).toString().slice(1);
}
