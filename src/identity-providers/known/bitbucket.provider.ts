import { OAuth2Provider } from '../oauth2.provider.js';
import { endpoint, HostedProviderRules, IsBaseUrl, questionOf, RevocableProviderRules } from '../provider.options.js';
import { providerKind } from '../provider-kind.js';
import { completePolicy } from '../refresh-policy.js';

export class BitbucketRules extends HostedProviderRules {}

/**
 * Bitbucket Cloud. Refresh tokens are beginning to rotate; a redeemed one is accepted again for about ten minutes, and
 * access tokens live out their two hours. There is no endpoint to revoke tokens.
 *
 * @see https://developer.atlassian.com/cloud/bitbucket/oauth-2/
 */
export const bitbucketCloud = providerKind(BitbucketRules, (options) => {
  const { clientId, clientSecret, baseUrl = 'https://bitbucket.org' } = options;
  return new OAuth2Provider({
    clientId,
    clientSecret,
    clientAuthentication: 'client_secret_basic',
    tokenEndpoint: options.tokenEndpoint ?? endpoint(baseUrl, '/site/oauth2/access_token'),
    question: questionOf(options),
    assumedLifetimeSeconds: 7200,
    policy: completePolicy(options.policy, { replayWindowMs: 600_000, oldAccessTokenSurvives: true }),
  });
});

export class BitbucketDataCenterRules extends RevocableProviderRules {
  /** URL of the instance, its context path included. */
  @IsBaseUrl()
  baseUrl!: string;
}

/**
 * Bitbucket Data Center. Renewing the tokens ends every earlier access token of the grant. It has no endpoint that tells
 * whether an access token works; the options may name one.
 *
 * @see https://confluence.atlassian.com/bitbucketserver/bitbucket-oauth-2-0-provider-api-1108483661.html
 */
export const bitbucketDataCenter = providerKind(BitbucketDataCenterRules, (options) => {
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
