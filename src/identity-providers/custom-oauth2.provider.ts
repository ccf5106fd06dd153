import { IsIn, IsNotEmpty, IsOptional, IsString } from 'class-validator';

import { IsEndpoint } from '../oauth-http/endpoint-url.js';
import { type ClientAuthentication, OAuth2Provider } from './oauth2.provider.js';
import { providerKind } from './provider-kind.js';
import { ProviderSettings, questionOf } from './provider.options.js';
import { completePolicy } from './refresh-policy.js';

/** The options of a provider that the module does not know. */
export class OAuth2Settings extends ProviderSettings {
  @IsEndpoint()
  tokenEndpoint!: string;

  /** @see RFC 7009 */
  @IsOptional()
  @IsEndpoint()
  revocationEndpoint?: string;

  /**
   * Default: `client_secret_basic`. With `none` the module sends no client secret. `clientSecret` can then be any text.
   */
  @IsOptional()
  @IsIn(['client_secret_basic', 'client_secret_post', 'none'])
  clientAuthentication?: ClientAuthentication;

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
    new OAuth2Provider({
      clientId: options.clientId,
      clientSecret: options.clientSecret,
      clientAuthentication: options.clientAuthentication ?? 'client_secret_basic',
      tokenEndpoint: options.tokenEndpoint,
      revocation: options.revocationEndpoint,
      question: questionOf(options),
      refreshParameters: options.scope ? { scope: options.scope } : undefined,
      policy: completePolicy(options.policy),
    }),
);
