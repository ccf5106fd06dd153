import { IsNotEmpty, IsObject, IsOptional, IsString } from 'class-validator';

import { IsBaseUrl, IsEndpoint } from '../oauth-http/endpoint-url.js';
import { type AccessTokenQuestion, userinfoQuestion } from './access-token-question.js';
import type { RefreshPolicy } from './refresh-policy.js';

/** What every identity provider's options hold. */
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
   * Where the provider tells whether an access token is active. It is asked, with the client authentication of the entry,
   * what became of a refresh whose answer was lost, where `policy.refreshEndsAccessToken` is true. Goes before
   * `userinfoEndpoint` and before a question that the module knows for the provider. @see RFC 7662 section 2
   */
  @IsOptional()
  @IsEndpoint()
  introspectionEndpoint?: string;

  /**
   * Where the provider serves a GET with a working access token, and answers 401 to one that does not work. It is asked
   * for the same purpose as `introspectionEndpoint`, which goes before it, and goes before a question that the module
   * knows for the provider. @see OpenID Connect Core 1.0 section 5.3, RFC 6750 section 3.1
   */
  @IsOptional()
  @IsEndpoint()
  userinfoEndpoint?: string;
}

/** A provider whose endpoints the module knows. */
export class KnownProviderSettings extends ProviderSettings {
  /** Only where the token endpoint is not where the provider has it by default. */
  @IsOptional()
  @IsEndpoint()
  tokenEndpoint?: string;
}

/** A known provider that has an endpoint to revoke tokens (RFC 7009). */
export class RevocableProviderSettings extends KnownProviderSettings {
  /**
   * Where tokens are revoked. Default: beside the token endpoint of the instance; nowhere, when only `tokenEndpoint`
   * says where that is.
   */
  @IsOptional()
  @IsEndpoint()
  revocationEndpoint?: string;
}

/** A provider with a public service; `baseUrl` names an instance of one's own and may carry a path. */
export class HostedProviderSettings extends KnownProviderSettings {
  /** Default: the public service. */
  @IsOptional()
  @IsBaseUrl()
  baseUrl?: string;
}

/**
 * An endpoint below the base URL, unless the options name the token endpoint and no base URL: then nobody knows where the
 * instance has its other endpoints, and users' tokens and the client secret are not for the public service.
 */
export function unlessMoved<T>(
  { tokenEndpoint, baseUrl }: { tokenEndpoint?: string; baseUrl?: string },
  other: T,
): T | undefined {
  return tokenEndpoint && !baseUrl ? undefined : other;
}

/** The question that the options describe, before the one that the provider has of its own. */
export function questionOf(
  { introspectionEndpoint, userinfoEndpoint }: ProviderSettings,
  own?: AccessTokenQuestion,
): string | AccessTokenQuestion | undefined {
  return introspectionEndpoint ?? (userinfoEndpoint ? userinfoQuestion(userinfoEndpoint) : own);
}
