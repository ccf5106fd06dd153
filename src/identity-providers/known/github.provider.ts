import { IsOptional } from 'class-validator';

import { basicAuthorization, bearerRequest } from '../../oauth-http/authorization.js';
import { endpoint, IsBaseUrl } from '../../oauth-http/endpoint-url.js';
import type { HttpRequest } from '../../oauth-http/http-exchange.js';
import { lifeByStatus } from '../access-token-question.js';
import type { ReadAccount } from '../code-flow.js';
import { providerKind } from '../provider-kind.js';
import { describedProvider, HostedProviderSettings, unlessMoved } from '../provider.options.js';

export class GitHubSettings extends HostedProviderSettings {
  declare kind?: 'github';

  /**
   * Base URL of the REST API. Default: `https://api.github.com`, or `{baseUrl}/api/v3` if `baseUrl` is given. There is
   * no default if the options have `tokenEndpoint` and no `baseUrl`.
   */
  @IsOptional()
  @IsBaseUrl()
  apiBaseUrl?: string;
}

/** The id stays when the user takes another login. @see https://docs.github.com/en/rest/users/users */
const readAccountOfGitHub: ReadAccount = ({ id, login }) =>
  typeof id === 'number' ? { subject: id, name: typeof login === 'string' ? login : null } : null;

/**
 * The scopes of an OAuth app that contain others. GitHub leaves the contained ones out of its answers. Its page does not
 * name those of organization runners, the audit log and SSH signing keys. Its form for classic personal access tokens
 * has them, each below the one that contains it.
 *
 * @see https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
 */
const IMPLIED_SCOPES = {
  repo: ['repo:status', 'repo_deployment', 'public_repo', 'repo:invite', 'security_events', 'admin:repo_hook'],
  'admin:repo_hook': ['write:repo_hook'],
  'write:repo_hook': ['read:repo_hook'],
  'admin:org': ['write:org', 'manage_runners:org'],
  'write:org': ['read:org'],
  'admin:public_key': ['write:public_key'],
  'write:public_key': ['read:public_key'],
  'admin:gpg_key': ['write:gpg_key'],
  'write:gpg_key': ['read:gpg_key'],
  'admin:ssh_signing_key': ['write:ssh_signing_key'],
  'write:ssh_signing_key': ['read:ssh_signing_key'],
  user: ['read:user', 'user:email', 'user:follow'],
  project: ['read:project'],
  audit_log: ['read:audit_log'],
  'write:packages': ['read:packages'],
  'admin:enterprise': ['manage_runners:enterprise', 'manage_billing:enterprise', 'read:enterprise'],
};

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
    apiBaseUrl && clientSecret
      ? (method: 'POST' | 'DELETE', accessToken: string): HttpRequest => ({
          method,
          url: endpoint(apiBaseUrl, `/applications/${encodeURIComponent(clientId)}/token`),
          headers: {
            accept: 'application/vnd.github+json',
            authorization: basicAuthorization(clientId, clientSecret),
            'content-type': 'application/json',
            'user-agent': 'nestjs-idp-tokens',
          },
          body: JSON.stringify({ access_token: accessToken }),
        })
      : undefined;
  const unknownTokenStatus = 404;
  return describedProvider(options, {
    clientAuthentication: 'client_secret_post',
    tokenEndpoint: options.tokenEndpoint ?? endpoint(baseUrl, '/login/oauth/access_token'),
    revocation: aboutToken && (({ accessToken }) => aboutToken('DELETE', accessToken)),
    unknownTokenStatus,
    authorizationEndpoint: unlessMoved(options, endpoint(baseUrl, '/login/oauth/authorize')),
    accountQuestion: apiBaseUrl
      ? {
          request: (accessToken) => bearerRequest(endpoint(apiBaseUrl, '/user'), accessToken),
          read: readAccountOfGitHub,
        }
      : undefined,
    question: aboutToken && {
      request: (accessToken) => aboutToken('POST', accessToken),
      meaning: lifeByStatus(unknownTokenStatus),
    },
    impliedScopes: IMPLIED_SCOPES,
    policy: { refreshEndsAccessToken: true },
  });
});
