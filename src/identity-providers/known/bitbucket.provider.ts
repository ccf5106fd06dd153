import { endpoint } from '../../oauth-http/endpoint-url.js';
import { OAuth2Provider } from '../oauth2.provider.js';
import { providerKind } from '../provider-kind.js';
import { HostedProviderSettings, questionOf } from '../provider.options.js';
import { completePolicy } from '../refresh-policy.js';

export class BitbucketSettings extends HostedProviderSettings {}

/**
 * Bitbucket Cloud. Its refresh tokens begin to rotate. Bitbucket accepts a redeemed one again for about ten minutes. An
 * access token stays valid for two hours, also after a refresh. There is no endpoint to revoke tokens.
 *
 * @see https://developer.atlassian.com/cloud/bitbucket/oauth-2/
 */
export const bitbucketCloud = providerKind(BitbucketSettings, (options) => {
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
