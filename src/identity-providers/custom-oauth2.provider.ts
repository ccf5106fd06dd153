import { IsNotEmpty, IsOptional, IsString, ValidateIf } from 'class-validator';

import { IsEndpoint } from '../oauth-http/endpoint-url.js';
import { providerKind } from './provider-kind.js';
import { describedProvider, ProviderSettings } from './provider.options.js';

/** The options of a provider that the module does not know. */
export class OAuth2Settings extends ProviderSettings {
  declare kind?: never;

  /**
   * The URL to which the module sends refresh tokens. An entry with an `issuer` needs none, because the issuer names it.
   * @see RFC 6749 section 3.2
   */
  @ValidateIf(({ tokenEndpoint, issuer }: OAuth2Settings) => tokenEndpoint !== undefined || issuer === undefined)
  @IsEndpoint()
  tokenEndpoint?: string;

  /** Default: the one that the `issuer` names. @see RFC 7009 */
  @IsOptional()
  @IsEndpoint()
  revocationEndpoint?: string;

  /**
   * The scope that the module sends with each refresh. It must not exceed the granted scope. @see RFC 6749 section 6
   */
  @IsOptional()
  @IsString()
  @IsNotEmpty()
  scope?: string;
}

/** A provider that the options describe. Its refresh tokens count as single-use if its policy has no replay window. */
export const customOAuth2 = providerKind(
  OAuth2Settings,
  (options) =>
    describedProvider(options, {
      clientAuthentication: 'client_secret_basic',
      tokenEndpoint: options.tokenEndpoint,
      revocation: options.revocationEndpoint,
      refreshParameters: options.scope ? { scope: options.scope } : undefined,
    }),
  ({ redirectUri, authorizationEndpoint, issuer }) =>
    redirectUri !== undefined && authorizationEndpoint === undefined && issuer === undefined
      ? ['authorizationEndpoint is missing: name it or the issuer, because the entry has a redirectUri']
      : [],
);
