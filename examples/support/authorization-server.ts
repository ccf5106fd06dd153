import { startScript } from './child-process.js';
import { COUNTS_PATH, isRequestCounts, type RequestCounts } from './request-counts.js';

/** The only client that an authorization server knows, and the settings of the server. */
export interface AuthorizationServerOptions {
  clientId: string;
  clientSecret: string;
  redirectUris: string[];
  /** How the client authenticates. Default: `client_secret_basic`. */
  clientAuthentication?: string;
  /** The public key of a client that authenticates by `private_key_jwt`. */
  clientKey?: object;
  /** The lifetime of access tokens, in seconds. Default: 5. */
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
  /** Returns the counts of its answers since its start. Every request that was answered before the call is included. */
  countRequests(): Promise<RequestCounts>;
  stop(): Promise<void>;
}

/**
 * Starts a certified OpenID Connect server (`oidc-provider`) on the loopback interface. Refresh tokens are single-use,
 * and a second use revokes the grant. The code flow needs PKCE. For
 * a refresh token it also needs the scope `offline_access` with `prompt=consent`. The server and its data are gone when
 * it is stopped, or when this process ends in any way.
 */
export async function startAuthorizationServer(options: AuthorizationServerOptions): Promise<AuthorizationServer> {
  const { clientId, clientSecret, redirectUris, clientAuthentication, clientKey, accessTokenTtlSeconds, port } =
    options;
  const script = await startScript<{ issuer: string }>(new URL('./authorization-server.process', import.meta.url), [
    `--client-id=${clientId}`,
    `--client-secret=${clientSecret}`,
    ...redirectUris.map((uri) => `--redirect-uri=${uri}`),
    ...(clientAuthentication === undefined ? [] : [`--client-authentication=${clientAuthentication}`]),
    ...(clientKey === undefined ? [] : [`--client-key=${JSON.stringify(clientKey)}`]),
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
