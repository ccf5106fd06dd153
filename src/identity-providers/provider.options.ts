import {
  Allow,
  IsBoolean,
  IsIn,
  IsInt,
  IsNotEmpty,
  IsObject,
  IsOptional,
  IsString,
  Max,
  Min,
  ValidateBy,
  ValidateIf,
} from 'class-validator';

import { bearerRequest } from '../oauth-http/authorization.js';
import { IsBaseUrl, IsEndpoint } from '../oauth-http/endpoint-url.js';
import { IsFunction, isPlainObject } from '../options-validation.js';
import type { ImpliedScopes } from '../scopes.js';
import { type AccessTokenQuestion, userinfoQuestion } from './access-token-question.js';
import {
  CLIENT_AUTHENTICATIONS,
  type ClientAssertionOptions,
  type ClientAuthentication,
  needsClientSecret,
} from './client-authentication.js';
import { readUsualAccount } from './code-flow.js';
import { CodeFlowSettings } from './code-flow.options.js';
import { IsImpliedScopes, mergedImpliedScopes } from './implied-scopes.js';
import { OAuth2Provider, type OAuth2ProviderProfile, type RequestFormat } from './oauth2.provider.js';
import { completePolicy, type RefreshPolicy } from './refresh-policy.js';
import type { ReadAnswer } from './token-answer.js';

/** Parameters that the module sets itself in a refresh. */
const OWN_PARAMETERS = new Set([
  'grant_type',
  'refresh_token',
  'client_id',
  'client_secret',
  'client_assertion',
  'client_assertion_type',
]);

/** The longest lifetime that the options can assume: ten years, in seconds. */
const MAX_ASSUMED_LIFETIME_SECONDS = 315_360_000;

/** The codes by which a server says that it did not serve the request, or that it refuses the application. */
const NOT_ABOUT_THE_GRANT =
  /^(http_(408|429|502|503|504)|server_error|temporarily_unavailable|slow_down|invalid_client)$/;

/** The options of every identity provider. */
export class ProviderSettings extends CodeFlowSettings {
  /** The kind of provider. Default: the name of the entry if it is a known name, otherwise any OAuth 2.0 provider. */
  @IsOptional()
  @IsString()
  kind?: string;

  /** The id of the OAuth client at the provider. */
  @IsString()
  @IsNotEmpty()
  clientId!: string;

  /** The secret of the client. Only `clientAuthentication` `none` and `private_key_jwt` do without it. */
  @ValidateIf(({ clientAuthentication }: ProviderSettings) => needsClientSecret(clientAuthentication))
  @IsString()
  @IsNotEmpty()
  clientSecret?: string;

  /**
   * How the application authenticates at the endpoints of the provider. Default: what the provider documents; for a
   * provider that the module does not know `client_secret_basic`. A failed attempt is never repeated with another
   * client authentication, because the provider could redeem the refresh token twice.
   */
  @IsOptional()
  @IsIn(CLIENT_AUTHENTICATIONS)
  clientAuthentication?: ClientAuthentication;

  /** The key and the claims of the JWT of `private_key_jwt` and `client_secret_jwt`. */
  @Allow()
  clientAssertion?: ClientAssertionOptions;

  /** The format of the requests to the token, revocation and introspection endpoints. Default: `form`. */
  @IsOptional()
  @IsIn(['form', 'json'])
  requestFormat?: RequestFormat;

  /**
   * Parameters that the module sends with each refresh in addition to those of RFC 6749 section 6, such as `audience`
   * or `resource`.
   */
  @IsOptional()
  @ValidateBy({
    name: 'refreshParameters',
    validator: {
      validate: isParameters,
      defaultMessage: () =>
        `$property must be an object of texts, without ${[...OWN_PARAMETERS].join(', ')}, which the module sets`,
    },
  })
  refreshParameters?: Readonly<Record<string, string>>;

  /**
   * Codes that end the grant in addition to those that end it at every provider: `error` codes, or `http_NNN` for an
   * answer with this status that has fields without `error`, or no body. Some providers also answer so to a wrong
   * client, and then a mistake in the options ends every grant. Prefer `readAnswer` where the answer has a code of its
   * own. A page never ends a grant.
   */
  @IsOptional()
  @ValidateBy({
    name: 'terminalErrorCodes',
    validator: {
      validate: isCodes,
      defaultMessage: () =>
        "$property must be a list of error codes such as 'invalid_request', and of statuses from http_400 on. " +
        'http_408, http_429, http_502, http_503, http_504, server_error, temporarily_unavailable, slow_down and ' +
        'invalid_client are not allowed, because they say nothing about the grant',
    },
  })
  terminalErrorCodes?: readonly string[];

  /**
   * The lifetime in seconds of an access token without an expiry, of a stored one too. The module then refreshes the
   * token, if there is a refresh token. Without this option such a token counts as one that never expires. Default:
   * 7,200 for GitLab and Bitbucket Cloud, otherwise none.
   */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(MAX_ASSUMED_LIFETIME_SECONDS)
  assumedLifetimeSeconds?: number;

  /**
   * Puts the fields of an odd answer to a refresh into the form of RFC 6749, for example a pair below `data`. It must
   * return an object, not a promise. If it throws or returns something else, the answer counts as lost.
   */
  @IsOptional()
  @IsFunction({ isAsyncAllowed: false })
  readAnswer?: ReadAnswer;

  /**
   * The scopes that a scope contains, such as `{ 'user:write': ['user:read'] }`. Those that they contain count too. They
   * count beside what the module knows of the provider.
   */
  @IsOptional()
  @IsImpliedScopes()
  impliedScopes?: ImpliedScopes;

  /** Whether scopes that are not known count as missing where a call or a handler requires some. Default: false. */
  @IsOptional()
  @IsBoolean()
  requireKnownScopes?: boolean;

  /** Overrides the provider's refresh policy, field by field. */
  @IsOptional()
  @IsObject()
  policy?: Partial<RefreshPolicy>;

  /**
   * The endpoint that tells whether an access token is active. If `policy.refreshEndsAccessToken` is true, the module
   * asks it what became of a refresh whose answer is lost. The request has the client authentication of the entry. The
   * endpoint takes precedence over `userinfoEndpoint` and over the question that the module knows for the provider.
   *
   * @see RFC 7662 section 2
   */
  @IsOptional()
  @IsEndpoint()
  introspectionEndpoint?: string;

  /**
   * An endpoint that serves a GET with a working access token, and answers 401 to a token that does not work. The
   * module asks it for the same purpose as `introspectionEndpoint`, which takes precedence over it. It takes precedence
   * over the question that the module knows for the provider.
   *
   * @see OpenID Connect Core 1.0 section 5.3, RFC 6750 section 3.1
   */
  @IsOptional()
  @IsEndpoint()
  userinfoEndpoint?: string;
}

/** The options of a provider whose endpoints the module knows. */
export class KnownProviderSettings extends ProviderSettings {
  /** The token endpoint, if the provider has it at another URL than the default one. */
  @IsOptional()
  @IsEndpoint()
  tokenEndpoint?: string;
}

/** The options of a known provider that has an endpoint to revoke tokens. @see RFC 7009 */
export class RevocableProviderSettings extends KnownProviderSettings {
  /**
   * The endpoint that revokes tokens. Default: the known path below the base URL of the instance. There is no default
   * if the options have `tokenEndpoint` and no `baseUrl`.
   */
  @IsOptional()
  @IsEndpoint()
  revocationEndpoint?: string;
}

/** The options of a provider with a public service and with instances that customers run. */
export class HostedProviderSettings extends KnownProviderSettings {
  /** The URL of an instance, with its path if it has one. Default: the public service. */
  @IsOptional()
  @IsBaseUrl()
  baseUrl?: string;
}

/**
 * Returns an endpoint below the base URL. Returns `undefined` if the options have the token endpoint and no base URL,
 * because the module does not know the other endpoints of this instance. It must not send the tokens of users and the
 * client secret to the public service instead.
 */
export function unlessMoved<T>(
  { tokenEndpoint, baseUrl }: { tokenEndpoint?: string; baseUrl?: string },
  other: T,
): T | undefined {
  return tokenEndpoint && !baseUrl ? undefined : other;
}

/** What the module knows of a provider. The options of its entry take precedence. */
export interface KnownFacts extends Pick<
  OAuth2ProviderProfile,
  | 'tokenEndpoint'
  | 'clientAuthentication'
  | 'revocation'
  | 'unknownTokenStatus'
  | 'refreshParameters'
  | 'authorizationEndpoint'
  | 'scopes'
  | 'accountQuestion'
  | 'impliedScopes'
> {
  /** The provider's own question about an access token. */
  readonly question?: AccessTokenQuestion;
  readonly assumedLifetimeSeconds?: number;
  readonly policy?: Parameters<typeof completePolicy>[1];
}

/** Makes a provider from the options of its entry and from what the module knows of it. */
export function describedProvider(options: ProviderSettings, known: KnownFacts): OAuth2Provider {
  const { introspectionEndpoint, userinfoEndpoint, refreshParameters, accountEndpoint, readAccount } = options;
  const { redirectUri, issuer, authorizationParameters } = options;
  const { clientId, clientSecret, clientAssertion, requestFormat, terminalErrorCodes, readAnswer } = options;
  return new OAuth2Provider({
    ...known,
    clientId,
    clientSecret,
    clientAuthentication: options.clientAuthentication ?? known.clientAuthentication,
    clientAssertion,
    requestFormat,
    terminalErrorCodes,
    readAnswer,
    question: introspectionEndpoint ?? (userinfoEndpoint ? userinfoQuestion(userinfoEndpoint) : known.question),
    refreshParameters: { ...known.refreshParameters, ...refreshParameters },
    ...{ redirectUri, issuer, authorizationParameters, readAccount },
    scopes: options.scopes ?? known.scopes,
    authorizationEndpoint: options.authorizationEndpoint ?? known.authorizationEndpoint,
    accountQuestion: accountEndpoint
      ? { request: (token) => bearerRequest(accountEndpoint, token), read: readAccount ?? readUsualAccount }
      : known.accountQuestion && { ...known.accountQuestion, ...(readAccount && { read: readAccount }) },
    impliedScopes: mergedImpliedScopes(known.impliedScopes, options.impliedScopes),
    requireKnownScopes: options.requireKnownScopes,
    assumedLifetimeSeconds: options.assumedLifetimeSeconds ?? known.assumedLifetimeSeconds,
    policy: completePolicy(options.policy, known.policy),
  });
}

function isParameters(value: unknown): boolean {
  if (!isPlainObject(value)) return false;
  return Object.entries(value).every(([name, text]) => typeof text === 'string' && !OWN_PARAMETERS.has(name));
}

function isCodes(value: unknown): boolean {
  return Array.isArray(value) && value.every((code) => isCode(code));
}

function isCode(code: unknown): boolean {
  if (typeof code !== 'string' || !/^\w{1,64}$/.test(code) || NOT_ABOUT_THE_GRANT.test(code)) return false;
  return !code.startsWith('http_') || /^http_[45]\d\d$/.test(code);
}
