import { IsOptional } from 'class-validator';

import { basicAuthorization } from '../../oauth-http/authorization.js';
import { endpoint, IsBaseUrl } from '../../oauth-http/endpoint-url.js';
import type { HttpRequest } from '../../oauth-http/http-exchange.js';
import { lifeByStatus } from '../access-token-question.js';
import { OAuth2Provider } from '../oauth2.provider.js';
import { providerKind } from '../provider-kind.js';
import { HostedProviderSettings, questionOf, unlessMoved } from '../provider.options.js';
import { completePolicy } from '../refresh-policy.js';

export class GitHubSettings extends HostedProviderSettings {
  /**
   * Base URL of the REST API. Default: `https://api.github.com`, or `{baseUrl}/api/v3` if `baseUrl` is given. There is
   * no default if the options have `tokenEndpoint` and no `baseUrl`.
   */
  @IsOptional()
  @IsBaseUrl()
  apiBaseUrl?: string;
}

/**
 * User access tokens of a GitHub App or an OAuth app. Refresh tokens are single-use, and a refresh ends the old access
 * token at once. If an app has token expiry switched off, its tokens have neither an expiry nor a refresh token.
 *
 * @see
 * https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
 * @see https://docs.github.com/en/rest/apps/oauth-applications#check-a-token
 */
export const gitHub = providerKind(GitHubSettings, (options) => {
  const { clientId, clientSecret, baseUrl = 'https://github.com' } = options;
  const defaultApi = options.baseUrl ? endpoint(baseUrl, '/api/v3') : 'https://api.github.com';
  const apiBaseUrl = options.apiBaseUrl ?? unlessMoved(options, defaultApi);
  const aboutToken =
    apiBaseUrl &&
    ((method: 'POST' | 'DELETE', accessToken: string): HttpRequest => ({
      method,
      url: endpoint(apiBaseUrl, `/applications/${encodeURIComponent(clientId)}/token`),
      headers: {
        accept: 'application/vnd.github+json',
        authorization: basicAuthorization(clientId, clientSecret),
        'content-type': 'application/json',
        'user-agent': 'nestjs-idp-tokens',
      },
      body: JSON.stringify({ access_token: accessToken }),
    }));
  const unknownTokenStatus = 404;
  return new OAuth2Provider({
    clientId,
    clientSecret,
    clientAuthentication: 'client_secret_post',
    tokenEndpoint: options.tokenEndpoint ?? endpoint(baseUrl, '/login/oauth/access_token'),
    revocation: aboutToken && (({ accessToken }) => aboutToken('DELETE', accessToken)),
    unknownTokenStatus,
    question: questionOf(
      options,
      aboutToken
        ? { request: (accessToken) => aboutToken('POST', accessToken), meaning: lifeByStatus(unknownTokenStatus) }
        : undefined,
    ),
    policy: completePolicy(options.policy, { refreshEndsAccessToken: true }),
  });
});
