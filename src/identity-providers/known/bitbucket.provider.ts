import { endpoint } from '../../oauth-http/endpoint-url.js';
import { providerKind } from '../provider-kind.js';
import { describedProvider, HostedProviderSettings } from '../provider.options.js';

export class BitbucketSettings extends HostedProviderSettings {
  declare kind?: 'bitbucket';
}

/**
 * The scopes that contain others. `repository:admin` and `account:write` contain none.
 *
 * @see https://developer.atlassian.com/cloud/bitbucket/bitbucket-cloud-rest-api-scopes/
 */
const IMPLIED_SCOPES = {
  'repository:write': ['repository'],
  pullrequest: ['repository'],
  'pullrequest:write': ['pullrequest', 'repository:write'],
  'issue:write': ['issue'],
  'snippet:write': ['snippet'],
};

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
    impliedScopes: IMPLIED_SCOPES,
    policy: { replayWindowMs: 600_000, oldAccessTokenSurvives: true },
  });
});
