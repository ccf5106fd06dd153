import { endpoint, IsBaseUrl } from '../../oauth-http/endpoint-url.js';
import { OAuth2Provider } from '../oauth2.provider.js';
import { providerKind } from '../provider-kind.js';
import { questionOf, RevocableProviderSettings } from '../provider.options.js';
import { completePolicy } from '../refresh-policy.js';

export class BitbucketDataCenterSettings extends RevocableProviderSettings {
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
  const { clientId, clientSecret, baseUrl } = options;
  return new OAuth2Provider({
    clientId,
    clientSecret,
    clientAuthentication: 'client_secret_post',
    tokenEndpoint: options.tokenEndpoint ?? endpoint(baseUrl, '/rest/oauth2/latest/token'),
    revocation: options.revocationEndpoint ?? endpoint(baseUrl, '/rest/oauth2/latest/revoke'),
    question: questionOf(options),
    policy: completePolicy(options.policy, { refreshEndsAccessToken: true }),
  });
});
