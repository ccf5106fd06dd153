import type { TokenPair } from '../../src/index.js';

export type ProviderStandInKind =
  'github' | 'gitlab' | 'bitbucket' | 'bitbucket_data_center' | 'azure_devops' | 'oauth2';

/** The registration of the application at the provider, and the path of the provider. */
export interface ProviderStandInSettings {
  kind: ProviderStandInKind;
  clientId?: string;
  clientSecret?: string;
  /** Only for `azure_devops`. Default: `organizations`. */
  tenant?: string;
  /** Path under which the service is installed, such as `/git`. */
  basePath?: string;
  /** Only for `oauth2`. Default: `client_secret_basic`. */
  clientAuthentication?: 'client_secret_basic' | 'client_secret_post' | 'none';
  /** Parameters that a refresh must have beside those of RFC 6749 section 6, with exactly these values. */
  refreshParameters?: Record<string, string>;
}

export interface Answer {
  readonly status: number;
  readonly body?: object;
}

/** The behaviour of one provider, as its documentation describes it. */
export interface Dialect {
  readonly tokenPath: string;
  readonly authentication: 'basic' | 'body' | 'none';
  readonly accessToken: string;
  readonly refreshToken: string;
  /** Whether the provider accepts a redeemed refresh token again. If not, a refresh also ends the old access token. */
  readonly isReplayable: boolean;
  readonly success: (pair: TokenPair) => object;
  readonly unknownRefreshToken: Answer;
  readonly unknownClient: Answer;
  readonly revocation?: { readonly path: string; readonly style: 'rfc7009' | 'github' };
  /** The endpoints that say whether an access token works. */
  readonly questions?: readonly {
    readonly method: 'GET' | 'POST';
    readonly path: string;
    readonly style: 'github' | 'bearer' | 'rfc7662';
  }[];
}

const INVALID_GRANT: Answer = {
  status: 400,
  body: { error: 'invalid_grant', error_description: 'Expired or revoked.' },
};
const INVALID_CLIENT: Answer = { status: 401, body: { error: 'invalid_client' } };

export function dialectOf(settings: ProviderStandInSettings): Dialect {
  const { kind, clientId = '', tenant = 'organizations', clientAuthentication = 'client_secret_basic' } = settings;
  const pairOf = ({ accessToken, refreshToken }: TokenPair) => ({
    access_token: accessToken,
    refresh_token: refreshToken,
  });
  const dialects: Record<ProviderStandInKind, Dialect> = {
    // https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
    // https://docs.github.com/en/rest/apps/oauth-applications#check-a-token and #delete-an-app-token
    github: {
      tokenPath: '/login/oauth/access_token',
      authentication: 'body',
      accessToken: 'ghu_',
      refreshToken: 'ghr_',
      isReplayable: false,
      success: (pair) => ({
        ...pairOf(pair),
        expires_in: 28800,
        refresh_token_expires_in: 15897600,
        scope: '',
        token_type: 'bearer',
      }),
      unknownRefreshToken: {
        status: 200,
        body: {
          error: 'bad_refresh_token',
          error_description: 'The refresh token passed is incorrect or expired.',
          error_uri: 'https://docs.github.com',
        },
      },
      unknownClient: { status: 200, body: { error: 'incorrect_client_credentials' } },
      revocation: { path: `/api/v3/applications/${encodeURIComponent(clientId)}/token`, style: 'github' },
      questions: [
        { method: 'POST', path: `/api/v3/applications/${encodeURIComponent(clientId)}/token`, style: 'github' },
      ],
    },
    // https://docs.gitlab.com/api/oauth2/
    gitlab: {
      tokenPath: '/oauth/token',
      authentication: 'body',
      accessToken: '',
      refreshToken: '',
      isReplayable: false,
      success: (pair) => ({ ...pairOf(pair), token_type: 'bearer', expires_in: 7200, created_at: 1607635748 }),
      unknownRefreshToken: INVALID_GRANT,
      unknownClient: INVALID_CLIENT,
      revocation: { path: '/oauth/revoke', style: 'rfc7009' },
      questions: [{ method: 'GET', path: '/oauth/token/info', style: 'bearer' }],
    },
    // https://developer.atlassian.com/cloud/bitbucket/oauth-2/
    bitbucket: {
      tokenPath: '/site/oauth2/access_token',
      authentication: 'basic',
      accessToken: 'a'.repeat(3000), // tokens of Bitbucket exceed 2,500 characters
      refreshToken: 'r'.repeat(3000),
      isReplayable: true,
      success: (pair) => ({ ...pairOf(pair), scopes: 'repository account', token_type: 'bearer', expires_in: 7200 }),
      unknownRefreshToken: INVALID_GRANT,
      unknownClient: INVALID_CLIENT,
    },
    // https://confluence.atlassian.com/bitbucketserver/bitbucket-oauth-2-0-provider-api-1108483661.html
    bitbucket_data_center: {
      tokenPath: '/rest/oauth2/latest/token',
      authentication: 'body',
      accessToken: '',
      refreshToken: '',
      isReplayable: false,
      success: (pair) => ({ ...pairOf(pair), scope: 'REPO_READ', token_type: 'bearer', expires_in: 7200 }),
      unknownRefreshToken: INVALID_GRANT,
      unknownClient: INVALID_CLIENT,
      revocation: { path: '/rest/oauth2/latest/revoke', style: 'rfc7009' },
    },
    // https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow#refresh-the-access-token
    azure_devops: {
      tokenPath: `/${tenant}/oauth2/v2.0/token`,
      authentication: 'body',
      accessToken: 'eyJ0eXAiOiJKV1QifQ.e30.',
      refreshToken: '1.AXoA',
      isReplayable: true,
      success: (pair) => ({ ...pairOf(pair), token_type: 'Bearer', scope: 'vso.code', expires_in: 3599 }),
      unknownRefreshToken: {
        status: 400,
        body: { error: 'invalid_grant', error_description: 'AADSTS700082: …', error_codes: [700082], suberror: 'x' },
      },
      unknownClient: { status: 401, body: { error: 'invalid_client', error_codes: [7000215] } },
    },
    // RFC 6749 section 6, RFC 7009, RFC 7662 and RFC 6750, without extensions
    oauth2: {
      tokenPath: '/token',
      authentication: ({ client_secret_basic: 'basic', client_secret_post: 'body', none: 'none' } as const)[
        clientAuthentication
      ],
      accessToken: 'at~',
      refreshToken: 'rt~',
      isReplayable: false,
      success: (pair) => ({ ...pairOf(pair), token_type: 'Bearer', expires_in: 300 }),
      unknownRefreshToken: INVALID_GRANT,
      unknownClient: INVALID_CLIENT,
      revocation: { path: '/revoke', style: 'rfc7009' },
      questions: [
        { method: 'POST', path: '/introspect', style: 'rfc7662' },
        { method: 'GET', path: '/userinfo', style: 'bearer' },
      ],
    },
  };
  return dialects[kind];
}
