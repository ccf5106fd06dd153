import { startScript } from './child-process.js';
import { COUNTS_PATH, isRequestCounts, type RequestCounts } from './request-counts.js';

/** The one client that an authorization server knows, and how the server is run. */
export interface AuthorizationServerOptions {
  clientId: string;
  clientSecret: string;
  redirectUris: string[];
  /** How long access tokens live, in seconds. Default: 5. */
  accessTokenTtlSeconds?: number;
  /** Default: any free one. */
  port?: number;
}

/** A running authorization server. */
export interface AuthorizationServer {
  readonly issuer: string;
  readonly tokenEndpoint: string;
  readonly revocationEndpoint: string;
  readonly userinfoEndpoint: string;
  /** What it has answered since it started; every request answered before the call is in it. */
  countRequests(): Promise<RequestCounts>;
  stop(): Promise<void>;
}

/**
 * Starts a certified OpenID Connect server (`oidc-provider`) on the loopback interface. Refresh tokens are single-use,
 * and using one twice revokes the grant; the client authenticates by `client_secret_basic`; the code flow needs PKCE
 * and, for a refresh token, the scope `offline_access` with `prompt=consent`. Gone with everything it knows when
 * stopped, or when this process ends in any way.
 */
export async function startAuthorizationServer(options: AuthorizationServerOptions): Promise<AuthorizationServer> {
  const { clientId, clientSecret, redirectUris, accessTokenTtlSeconds, port } = options;
  const script = await startScript<{ issuer: string }>(new URL('./authorization-server.process', import.meta.url), [
    `--client-id=${clientId}`,
    `--client-secret=${clientSecret}`,
    ...redirectUris.map((uri) => `--redirect-uri=${uri}`),
    ...(accessTokenTtlSeconds === undefined ? [] : [`--access-token-ttl=${accessTokenTtlSeconds}`]),
    ...(port === undefined ? [] : [`--port=${port}`]),
  ]);
  const { issuer } = script.ready;
  return {
    issuer,
    tokenEndpoint: `${issuer}/token`,
    revocationEndpoint: `${issuer}/token/revocation`,
    userinfoEndpoint: `${issuer}/me`,
    countRequests: () => countRequests(issuer),
    stop: () => script.stop(),
  };
}

async function countRequests(issuer: string): Promise<RequestCounts> {
  const answer = await fetch(`${issuer}${COUNTS_PATH}`);
  const counts: unknown = await answer.json();
  if (!isRequestCounts(counts)) throw new Error(`${issuer}${COUNTS_PATH} answered ${answer.status} without counts.`);
  return counts;
}
