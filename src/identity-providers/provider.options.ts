import { IsNotEmpty, IsObject, IsOptional, IsString } from 'class-validator';

import { IsBaseUrl, IsEndpoint } from '../oauth-http/endpoint-url.js';
import { type AccessTokenQuestion, userinfoQuestion } from './access-token-question.js';
import type { RefreshPolicy } from './refresh-policy.js';

/** The options of every identity provider. */
export class ProviderSettings {
  @IsString()
  @IsNotEmpty()
  clientId!: string;

  @IsString()
  @IsNotEmpty()
  clientSecret!: string;

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

/** Returns the question that the options describe, or else the provider's own question. */
export function questionOf(
  { introspectionEndpoint, userinfoEndpoint }: ProviderSettings,
  own?: AccessTokenQuestion,
): string | AccessTokenQuestion | undefined {
  return introspectionEndpoint ?? (userinfoEndpoint ? userinfoQuestion(userinfoEndpoint) : own);
}
