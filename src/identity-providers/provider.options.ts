import { IsNotEmpty, IsObject, IsOptional, IsString, IsUrl } from 'class-validator';

import type { RefreshPolicy } from './refresh-policy.js';

/** An absolute http or https URL without credentials, query and fragment; hosts without a dot and IP addresses are fine. */
export function IsEndpoint(): PropertyDecorator {
  return IsUrl(
    {
      require_protocol: true,
      protocols: ['http', 'https'],
      require_tld: false,
      allow_underscores: true,
      allow_fragments: false,
      allow_query_components: false,
      disallow_auth: true, // fetch refuses to send to such a URL
    },
    { message: '$property must be an absolute http or https URL without credentials, query and fragment' },
  );
}

/** What every identity provider's options hold. */
export class ProviderRules {
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
}

/** A provider whose endpoints the module knows. */
export class KnownProviderRules extends ProviderRules {
  /** Only where the token endpoint is not where the provider has it by default. */
  @IsOptional()
  @IsEndpoint()
  tokenEndpoint?: string;
}

/** A provider with a public service; `baseUrl` names an instance of one's own and may carry a path. */
export class HostedProviderRules extends KnownProviderRules {
  /** Default: the public service. */
  @IsOptional()
  @IsEndpoint()
  baseUrl?: string;
}

/** Appends a path to a base URL that may carry a path of its own, with or without a slash at its end. */
export function endpoint(baseUrl: string, path: string): string {
  return baseUrl.replace(/\/+$/, '') + path;
}
