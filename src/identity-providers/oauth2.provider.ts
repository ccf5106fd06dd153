import { oauthErrorCode, parseFields } from '../oauth-http/answer-fields.js';
import { exchange, type HttpRequest } from '../oauth-http/http-exchange.js';
import { retryAfter } from '../oauth-http/retry-after.js';
import type { ImpliedScopes } from '../scopes.js';
import { SecretHolder } from '../sealing/secret-holder.js';
import { TokensConfigurationError } from '../tokens.errors.js';
import {
  accessTokenLife,
  type AccessTokenQuestion,
  introspectedLife,
  QUESTION_TIMEOUT_MS,
} from './access-token-question.js';
import {
  type AuthenticateClient,
  authenticatorOf,
  clientAssertionFaults,
  type ClientCredentials,
  needsClientSecret,
} from './client-authentication.js';
import type { AccountQuestion, CodeFlow, ReadAccount } from './code-flow.js';
import type {
  AccessTokenLife,
  IdentityProvider,
  RefreshAnswer,
  RevocationAnswer,
  TokenPair,
} from './identity-provider.js';
import { completePolicy, type RefreshPolicy } from './refresh-policy.js';
import { DiscoveredServer, DiscoveryError, type ServerMetadata } from './server-metadata.js';
import { type AnswerRules, classifyTokenAnswer } from './token-answer.js';

/** The format of the requests to a provider: the form of RFC 6749, or JSON with the same parameters. */
export type RequestFormat = 'form' | 'json';

/** Everything in which OAuth 2.0 providers differ. */
export interface OAuth2ProviderProfile extends ClientCredentials, AnswerRules {
  /** Absent = the `issuer` names it. */
  readonly tokenEndpoint?: string;
  /** The issuer, which names the endpoints that are absent. @see RFC 8414 */
  readonly issuer?: string;
  /** The URL to which the provider sends the browser back; absent = the module connects no accounts there. */
  readonly redirectUri?: string;
  /** The endpoint to which the module sends the browser. */
  readonly authorizationEndpoint?: string;
  /** The scopes of every authorization request. Default: none. */
  readonly scopes?: readonly string[];
  /** Parameters of every authorization request in addition to those of the protocol. */
  readonly authorizationParameters?: Readonly<Record<string, string>>;
  /** The question whose an access token is; absent = the ID token or `readAccount` tells it, or nothing does. */
  readonly accountQuestion?: AccountQuestion;
  /** Reads the account from the claims of the ID token, or from the token answer if there is none. */
  readonly readAccount?: ReadAccount;
  /** The endpoint of RFC 7009, or the provider's own request; absent = the provider cannot revoke tokens. */
  readonly revocation?: string | ((tokens: TokenPair) => HttpRequest);
  /** The status by which the provider says that it does not know the token, or no longer knows it. */
  readonly unknownTokenStatus?: number;
  /**
   * The introspection endpoint of RFC 7662, or the provider's own question; absent = the module cannot ask about a
   * token.
   */
  readonly question?: string | AccessTokenQuestion;
  /** Default: `form`. */
  readonly requestFormat?: RequestFormat;
  /** Parameters of a refresh in addition to those of RFC 6749 section 6. */
  readonly refreshParameters?: Readonly<Record<string, string>>;
  /** The lifetime of an access token without an expiry, in seconds; absent = such a token does not expire. */
  readonly assumedLifetimeSeconds?: number;
  /** The scopes that a scope contains; absent = none contains another one. */
  readonly impliedScopes?: ImpliedScopes;
  /** Whether scopes that are not known count as missing. Default: false. */
  readonly requireKnownScopes?: boolean;
  /** Default: {@link completePolicy} without overrides. */
  readonly policy?: RefreshPolicy;
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
 * refresh token twice. A host can put an instance, or one of a subclass, into `identityProviders`. A subclass gives
 * `revocation` and `question` to the constructor, because `revoke` and `isAccessTokenAlive` are made of them.
 */
export class OAuth2Provider extends SecretHolder implements IdentityProvider {
  readonly clientId: string;
  readonly policy: RefreshPolicy;
  readonly assumedLifetimeSeconds?: number;
  readonly impliedScopes?: ImpliedScopes;
  readonly requireKnownScopes?: boolean;
  readonly #profile: OAuth2ProviderProfile;
  readonly #authenticate: AuthenticateClient;
  readonly #discovered: DiscoveredServer | undefined;
  /** @internal */
  declare readonly codeFlow?: CodeFlow;
  declare readonly revoke?: (tokens: TokenPair) => Promise<RevocationAnswer>;
  declare readonly isAccessTokenAlive?: (accessToken: string) => Promise<AccessTokenLife>;

  /** @throws {@link TokensConfigurationError} when the client secret or the key of the client assertion is missing */
  constructor(profile: OAuth2ProviderProfile) {
    super();
    const faults = clientAssertionFaults(profile);
    if (needsClientSecret(profile.clientAuthentication) && !profile.clientSecret)
      faults.push('clientSecret is missing');
    if (!profile.tokenEndpoint && !profile.issuer) faults.push('tokenEndpoint is missing');
    if (faults.length > 0)
      throw new TokensConfigurationError(`The profile of a provider is wrong: ${faults.join('; ')}.`);
    this.#profile = profile;
    this.#authenticate = authenticatorOf(profile);
    this.clientId = profile.clientId;
    this.assumedLifetimeSeconds = profile.assumedLifetimeSeconds;
    this.impliedScopes = profile.impliedScopes;
    this.requireKnownScopes = profile.requireKnownScopes;
    this.policy = profile.policy ?? completePolicy();
    this.#discovered = profile.issuer ? new DiscoveredServer(profile.issuer) : undefined;
    const { revocation, question, redirectUri } = profile;
    if (redirectUri) this.codeFlow = this.#codeFlow(redirectUri);
    if (revocation || this.#discovered) {
      this.revoke = async (tokens) => {
        if (typeof revocation === 'function') return this.#revoke(revocation(tokens));
        const endpoint = revocation ?? (await this.#discoveredEndpoint('revocation_endpoint'));
        if (endpoint === undefined) return { kind: 'refused', code: 'NO_REVOCATION_ENDPOINT' };
        if (typeof endpoint !== 'string') return { ...endpoint, kind: 'unavailable' };
        return this.#revoke(await this.#tokenRevocation(endpoint, tokens));
      };
    }
    if (question) {
      const asked = typeof question === 'string' ? this.#introspection(question) : question;
      const timeoutMs = Math.min(QUESTION_TIMEOUT_MS, this.policy.exchangeTimeoutMs);
      this.isAccessTokenAlive = (accessToken) => accessTokenLife(asked, accessToken, timeoutMs);
    }
  }

  /** @see RFC 6749 section 6 */
  async refresh(refreshToken: string): Promise<RefreshAnswer> {
    const { refreshParameters, assumedLifetimeSeconds } = this.#profile;
    const startedAt = performance.now();
    const tokenEndpoint = this.#profile.tokenEndpoint ?? (await this.#discoveredEndpoint('token_endpoint'));
    if (tokenEndpoint === undefined) return { kind: 'configuration', code: 'NO_TOKEN_ENDPOINT' };
    if (typeof tokenEndpoint !== 'string') return tokenEndpoint;
    const parameters = { ...refreshParameters, grant_type: 'refresh_token', refresh_token: refreshToken };
    let request: HttpRequest;
    try {
      request = await this.#request(tokenEndpoint, parameters);
    } catch {
      return { kind: 'configuration', code: 'CLIENT_ASSERTION_FAILED' }; // nothing was sent
    }
    const timeoutMs = Math.max(1, startedAt + this.policy.exchangeTimeoutMs - performance.now());
    const answer = classifyTokenAnswer(await exchange(request, timeoutMs), this.#profile);
    if (answer.kind !== 'success' || answer.tokens.accessTokenExpiresIn || !assumedLifetimeSeconds) return answer;
    return { kind: 'success', tokens: { ...answer.tokens, accessTokenExpiresIn: assumedLifetimeSeconds } };
  }

  toJSON(): object {
    const { tokenEndpoint, issuer, clientId, clientAuthentication } = this.#profile;
    return { tokenEndpoint, issuer, clientId, clientAuthentication, policy: this.policy };
  }

  #codeFlow(redirectUri: string): CodeFlow {
    const { clientId, scopes = [], authorizationParameters = {}, accountQuestion, readAccount } = this.#profile;
    const { requestFormat } = this.#profile;
    let known: { readonly from: ServerMetadata | undefined; readonly server: ServerMetadata } | undefined;
    return {
      ...{ clientId, redirectUri, scopes, accountQuestion, readAccount, requestFormat },
      parameters: authorizationParameters,
      hasIssuer: this.#discovered !== undefined,
      answerRules: this.#profile,
      authenticate: this.#authenticate,
      timeoutMs: this.policy.exchangeTimeoutMs,
      server: async () => {
        const { tokenEndpoint, authorizationEndpoint } = this.#profile;
        const from = await this.#discovered?.metadata();
        // The same object each time, because oauth4webapi remembers the keys of a server by its metadata.
        if (known && known.from === from) return known.server;
        const server = {
          ...(from ?? { issuer: new URL(tokenEndpoint ?? redirectUri).origin }),
          ...(tokenEndpoint && { token_endpoint: tokenEndpoint }),
          ...(authorizationEndpoint && { authorization_endpoint: authorizationEndpoint }),
        };
        known = { from, server };
        return server;
      },
    };
  }

  /** Returns an endpoint that the issuer names; undefined if it names none, or the failure of the question. */
  async #discoveredEndpoint(
    name: 'token_endpoint' | 'revocation_endpoint',
  ): Promise<string | undefined | { kind: 'configuration' | 'not-redeemed'; code: string; retryAfterMs?: number }> {
    try {
      return (await this.#discovered?.metadata())?.[name];
    } catch (error) {
      if (!(error instanceof DiscoveryError)) throw error;
      const { kind, code, retryAfterMs } = error;
      return kind === 'configuration' ? { kind, code } : { kind: 'not-redeemed', code, retryAfterMs };
    }
  }

  /**
   * Sends the refresh token if there is one, because its revocation also ends the access tokens of the grant. @see RFC
   * 7009 section 2.1
   */
  #tokenRevocation(endpoint: string, { refreshToken, accessToken }: TokenPair): Promise<HttpRequest> {
    const parameters = refreshToken
      ? { token: refreshToken, token_type_hint: 'refresh_token' }
      : { token: accessToken, token_type_hint: 'access_token' };
    return this.#request(endpoint, parameters);
  }

  /** @see RFC 7662 section 2.1 */
  #introspection(endpoint: string): AccessTokenQuestion {
    return {
      request: (accessToken) => this.#request(endpoint, { token: accessToken, token_type_hint: 'access_token' }),
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

  async #request(url: string, parameters: Record<string, string>): Promise<HttpRequest> {
    const form = new URLSearchParams(parameters);
    const isJson = this.#profile.requestFormat === 'json';
    const headers = new Headers({
      accept: 'application/json',
      'content-type': isJson ? 'application/json' : 'application/x-www-form-urlencoded',
      'user-agent': 'nestjs-idp-tokens',
    });
    await this.#authenticate(url, form, headers);
    const body = isJson ? JSON.stringify(Object.fromEntries(form)) : form.toString();
    return { method: 'POST', url, headers: Object.fromEntries(headers), body };
  }
}
