import { endpoint } from '../../oauth-http/endpoint-url.js';
import { providerKind } from '../provider-kind.js';
import { describedProvider, HostedProviderSettings } from '../provider.options.js';

export class BitbucketSettings extends HostedProviderSettings {
  declare kind?: 'bitbucket';
}

/**
 * Bitbucket Cloud. Its refresh tokens begin to rotate. Bitbucket accepts a redeemed one again for about ten minutes. An
 * access token stays valid for two hours, also after a refresh. There is no endpoint to revoke tokens.
 *
 * @see https://developer.atlassian.com/cloud/bitbucket/oauth-2/
 */
export const bitbucketCloud = providerKind(BitbucketSettings, (options) => {
  const { baseUrl = 'https://bitbucket.org' } = options;
  return describedProvider(options, {
    clientAuthentication: 'client_secret_basic',
    tokenEndpoint: options.tokenEndpoint ?? endpoint(baseUrl, '/site/oauth2/access_token'),
    assumedLifetimeSeconds: 7200,
    policy: { replayWindowMs: 600_000, oldAccessTokenSurvives: true },
  });
});
