import { IsOptional } from 'class-validator';

import { bearerRequest } from '../../oauth-http/authorization.js';
import { endpoint, IsBaseUrl } from '../../oauth-http/endpoint-url.js';
import { lifeByStatus } from '../access-token-question.js';
import { readUsualAccount } from '../code-flow.js';
import { providerKind } from '../provider-kind.js';
import { describedProvider, RevocableProviderSettings, unlessMoved } from '../provider.options.js';

export class GitLabSettings extends RevocableProviderSettings {
  declare kind?: 'gitlab';

  /** URL of a self-managed GitLab, with its path if it has one. Default: gitlab.com. */
  @IsOptional()
  @IsBaseUrl()
  baseUrl?: string;
}

/**
 * The scopes that contain others.
 *
 * @see https://docs.gitlab.com/security/tokens/access_token_scopes/
 */
const IMPLIED_SCOPES = {
  api: ['read_api', 'write_repository', 'write_registry'],
  read_api: ['read_user', 'read_registry'],
  write_repository: ['read_repository'],
};

/**
 * GitLab.com or a self-managed GitLab, also below a path. A refresh ends the old pair at once. GitLab versions that
 * leave `expires_in` out issue access tokens of two hours too. GitLab answers 200 about an access token that works, and
 * 401 about every other. The module also sends the redirect URI with each refresh, because some versions require it.
 *
 * @see https://docs.gitlab.com/api/oauth2/
 */
export const gitLab = providerKind(GitLabSettings, (options) => {
  const { baseUrl = 'https://gitlab.com', redirectUri } = options;
  const tokenInfo = unlessMoved(options, endpoint(baseUrl, '/oauth/token/info'));
  return describedProvider(options, {
    clientAuthentication: 'client_secret_post',
    tokenEndpoint: options.tokenEndpoint ?? endpoint(baseUrl, '/oauth/token'),
    revocation: options.revocationEndpoint ?? unlessMoved(options, endpoint(baseUrl, '/oauth/revoke')),
    question: tokenInfo
      ? { request: (accessToken) => bearerRequest(tokenInfo, accessToken), meaning: lifeByStatus(401) }
      : undefined,
    authorizationEndpoint: unlessMoved(options, endpoint(baseUrl, '/oauth/authorize')),
    accountQuestion: unlessMoved(options, {
      request: (accessToken: string) => bearerRequest(endpoint(baseUrl, '/api/v4/user'), accessToken),
      read: readUsualAccount, // `id` and `username`
    }),
    refreshParameters: redirectUri ? { redirect_uri: redirectUri } : undefined,
    assumedLifetimeSeconds: 7200,
    impliedScopes: IMPLIED_SCOPES,
    policy: { refreshEndsAccessToken: true },
  });
});
