import * as oauth from 'oauth4webapi';

import { oauthErrorCode, parseFields } from '../oauth-http/answer-fields.js';
import { isEndpointOf } from '../oauth-http/endpoint-url.js';
import type { HttpOutcome } from '../oauth-http/http-exchange.js';
import { askOnce, responseOf } from '../oauth-http/oauth-request.js';
import { retryAfter } from '../oauth-http/retry-after.js';

/** What the module uses of the metadata of an authorization server. @see RFC 8414 section 2 */
export type ServerMetadata = {
  readonly issuer: string;
  readonly token_endpoint?: string;
  readonly authorization_endpoint?: string;
  readonly jwks_uri?: string;
  readonly userinfo_endpoint?: string;
  readonly pushed_authorization_request_endpoint?: string;
  readonly revocation_endpoint?: string;
  /** Whether the server names itself in its answers to authorization requests. @see RFC 9207 section 3 */
  readonly authorization_response_iss_parameter_supported?: boolean;
  readonly id_token_signing_alg_values_supported?: string[];
};

/** The endpoints that a server can name. */
const ENDPOINTS = [
  'token_endpoint',
  'authorization_endpoint',
  'jwks_uri',
  'userinfo_endpoint',
  'pushed_authorization_request_endpoint',
  'revocation_endpoint',
] as const;

/** The deadline of the requests for the metadata together, in milliseconds. */
export const DISCOVERY_TIMEOUT_MS = 5000;
/** How long metadata are used, and how long old ones are used after a failure to renew them, in milliseconds. */
const USED_FOR_MS = 3_600_000;
const USED_AFTER_FAILURE_MS = 60_000;

/**
 * The metadata of an issuer cannot be used. `unavailable`: a later try can succeed. `configuration`: the issuer of the
 * options is wrong, or the server names an endpoint that the module must not use. `code` is a status, an error or a
 * transport code.
 */
export class DiscoveryError extends Error {
  constructor(
    readonly kind: 'unavailable' | 'configuration',
    readonly code: string,
    readonly retryAfterMs?: number,
  ) {
    super(`The metadata of the issuer cannot be used: ${code}.`);
  }
}

/**
 * The metadata of one issuer. The first call that needs them asks the server, and calls at the same time share the
 * request. They are used for an hour. If they cannot be renewed then, the old ones are used for another minute, again
 * and again.
 *
 * @see OpenID Connect Discovery 1.0 section 4, RFC 8414 section 3
 */
export class DiscoveredServer {
  #metadata: ServerMetadata | undefined;
  #usedUntil = 0;
  #underWay: Promise<ServerMetadata> | undefined;

  constructor(readonly issuer: string) {}

  /** @throws {@link DiscoveryError} */
  metadata(): Promise<ServerMetadata> {
    if (this.#metadata && performance.now() < this.#usedUntil) return Promise.resolve(this.#metadata);
    this.#underWay ??= this.#renew().finally(() => (this.#underWay = undefined));
    return this.#underWay;
  }

  async #renew(): Promise<ServerMetadata> {
    try {
      this.#metadata = await discover(this.issuer);
      this.#usedUntil = performance.now() + USED_FOR_MS;
    } catch (error) {
      if (!this.#metadata) throw error;
      this.#usedUntil = performance.now() + USED_AFTER_FAILURE_MS;
    }
    return this.#metadata;
  }
}

/** Asks for the document of OpenID Connect, and for that of RFC 8414 if the server has no such document. */
async function discover(issuer: string): Promise<ServerMetadata> {
  const deadline = performance.now() + DISCOVERY_TIMEOUT_MS;
  const ask = (algorithm: 'oidc' | 'oauth2') =>
    askOnce(
      (http) => oauth.discoveryRequest(new URL(issuer), { algorithm, ...http }),
      Math.max(1, deadline - performance.now()),
    );
  const openId = await ask('oidc');
  const isRefused = openId.kind === 'answered' && openId.status >= 400 && openId.status < 500;
  const isMissing = isRefused && openId.status !== 429 && openId.status !== 408;
  return read(isMissing ? await ask('oauth2') : openId, issuer);
}

async function read(outcome: HttpOutcome, issuer: string): Promise<ServerMetadata> {
  if (outcome.kind !== 'answered') throw new DiscoveryError('unavailable', outcome.code);
  const { status, headers } = outcome;
  if (status >= 500 || status === 429 || status === 408) {
    throw new DiscoveryError('unavailable', `http_${status}`, retryAfter(headers));
  }
  if (status !== 200) throw new DiscoveryError('configuration', `http_${status}`);
  let server: oauth.AuthorizationServer;
  try {
    server = await oauth.processDiscoveryResponse(new URL(issuer), responseOf(outcome));
  } catch (error) {
    const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
    const isOther = code === oauth.JSON_ATTRIBUTE_COMPARISON || code === 'ERR_INVALID_URL';
    throw isOther
      ? new DiscoveryError('configuration', 'OTHER_ISSUER')
      : new DiscoveryError('unavailable', 'UNREADABLE_ANSWER');
  }
  return usable(server, issuer);
}

/** Returns the known fields. An endpoint that is there must be one that may get tokens. */
function usable(server: oauth.AuthorizationServer, issuer: string): ServerMetadata {
  const endpoints: Partial<Record<(typeof ENDPOINTS)[number], string>> = {};
  for (const name of ENDPOINTS) {
    const endpoint: unknown = server[name];
    if (endpoint === undefined || endpoint === null) continue;
    if (!isEndpointOf(endpoint, issuer)) throw new DiscoveryError('configuration', `UNUSABLE_${name.toUpperCase()}`);
    endpoints[name] = endpoint;
  }
  const algorithms: unknown = server.id_token_signing_alg_values_supported;
  return {
    issuer: server.issuer,
    ...endpoints,
    authorization_response_iss_parameter_supported: server.authorization_response_iss_parameter_supported === true,
    ...(Array.isArray(algorithms) && {
      id_token_signing_alg_values_supported: algorithms.filter((each) => typeof each === 'string'),
    }),
  };
}

/** Returns the error code in the body of a failed answer, or its status. */
export function failureCodeOf({ status, body }: Extract<HttpOutcome, { kind: 'answered' }>): string {
  return oauthErrorCode(parseFields(body)?.error) ?? `http_${status}`;
}
