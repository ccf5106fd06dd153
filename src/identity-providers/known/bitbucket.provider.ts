import { bearerRequest } from '../../oauth-http/authorization.js';
import { endpoint } from '../../oauth-http/endpoint-url.js';
import type { ReadAccount } from '../code-flow.js';
import { providerKind } from '../provider-kind.js';
import { describedProvider, HostedProviderSettings, unlessMoved } from '../provider.options.js';

export class BitbucketSettings extends HostedProviderSettings {
  declare kind?: 'bitbucket';
}

/** The host of the API. Another base URL than that of the public service has the API below it. */
function apiOf(baseUrl: string): string {
  return baseUrl.replace(/\/+$/, '') === 'https://bitbucket.org' ? 'https://api.bitbucket.org' : baseUrl;
}

/** The uuid stays when the user takes another name. @see https://developer.atlassian.com/cloud/bitbucket/rest/ */
const readAccountOfBitbucket: ReadAccount = ({ uuid, nickname, display_name: displayName }) => {
  const name = [nickname, displayName].find((each) => typeof each === 'string');
  return typeof uuid === 'string' ? { subject: uuid, name: typeof name === 'string' ? name : null } : null;
};

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
    authorizationEndpoint: unlessMoved(options, endpoint(baseUrl, '/site/oauth2/authorize')),
    accountQuestion: unlessMoved(options, {
      request: (accessToken: string) => bearerRequest(endpoint(apiOf(baseUrl), '/2.0/user'), accessToken),
      read: readAccountOfBitbucket,
    }),
    assumedLifetimeSeconds: 7200,
    impliedScopes: IMPLIED_SCOPES,
    policy: { replayWindowMs: 600_000, oldAccessTokenSurvives: true },
  });
});
