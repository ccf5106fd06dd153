import { IsIn, IsNotEmpty, IsOptional, IsString } from 'class-validator';

import { IsEndpoint } from '../oauth-http/endpoint-url.js';
import { type ClientAuthentication, OAuth2Provider } from './oauth2.provider.js';
import { providerKind } from './provider-kind.js';
import { ProviderSettings, questionOf } from './provider.options.js';
import { completePolicy } from './refresh-policy.js';

/** Any other OAuth 2.0 provider. */
export class OAuth2Settings extends ProviderSettings {
  @IsEndpoint()
  tokenEndpoint!: string;

  /** @see RFC 7009 */
  @IsOptional()
  @IsEndpoint()
  revocationEndpoint?: string;

  /** Default: `client_secret_basic`. With `none`, give any `clientSecret`: it is not sent. */
  @IsOptional()
  @IsIn(['client_secret_basic', 'client_secret_post', 'none'])
  clientAuthentication?: ClientAuthentication;

  /** Sent with each refresh; must not ask for more than was granted. @see RFC 6749 section 6 */
  @IsOptional()
  @IsString()
  @IsNotEmpty()
  scope?: string;
}

/** A provider that the options describe. Unless its policy says otherwise, refresh tokens are taken for single-use. */
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
