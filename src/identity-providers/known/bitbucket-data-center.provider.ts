import { endpoint, IsBaseUrl } from '../../oauth-http/endpoint-url.js';
import { providerKind } from '../provider-kind.js';
import { describedProvider, RevocableProviderSettings } from '../provider.options.js';

export class BitbucketDataCenterSettings extends RevocableProviderSettings {
  declare kind?: 'bitbucket_data_center';

  /** URL of the instance, with its context path. */
  @IsBaseUrl()
  baseUrl!: string;
}

/**
 * Bitbucket Data Center. A refresh ends every earlier access token of the grant. Bitbucket has no endpoint that tells
 * whether an access token works. The options can name one.
 *
 * @see https://confluence.atlassian.com/bitbucketserver/bitbucket-oauth-2-0-provider-api-1108483661.html
 */
export const bitbucketDataCenter = providerKind(BitbucketDataCenterSettings, (options) => {
  const { baseUrl } = options;
  return describedProvider(options, {
    clientAuthentication: 'client_secret_post',
    tokenEndpoint: options.tokenEndpoint ?? endpoint(baseUrl, '/rest/oauth2/latest/token'),
    revocation: options.revocationEndpoint ?? endpoint(baseUrl, '/rest/oauth2/latest/revoke'),
    authorizationEndpoint: endpoint(baseUrl, '/rest/oauth2/latest/authorize'),
    policy: { refreshEndsAccessToken: true },
  });
});
