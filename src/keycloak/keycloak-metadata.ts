import * as oauth from 'oauth4webapi';

import { KeycloakMisconfiguredError } from '../tokens.errors.js';
import { type KeycloakAnswer, unavailable, UNREADABLE } from './keycloak-failure.js';
import type { KeycloakRealm } from './keycloak-realm.js';

const ENDPOINTS = [
  'token_endpoint',
  'userinfo_endpoint',
  'introspection_endpoint',
  'end_session_endpoint',
  'jwks_uri',
] as const;

/** The metadata of a realm, with every endpoint that the module calls. */
export type KeycloakMetadata = oauth.AuthorizationServer & Record<(typeof ENDPOINTS)[number], string>;

/**
 * Reads the metadata of a realm. Every endpoint must be a URL. It must be encrypted if the realm's own URL is, because
 * the endpoint gets tokens and the client secret.
 *
 * A Keycloak with a fixed hostname names its endpoints below its issuer, also to a process that cannot reach this host.
 * The function returns such an endpoint with the same path below the realm's own URL, which the process reaches.
 *
 * @throws {@link KeycloakMisconfiguredError} when there is no such realm, when it has another issuer, when it refuses
 * the request, and when an endpoint is missing or not encrypted
 * @throws {@link KeycloakUnavailableError} when the answer cannot be read
 * @see OpenID Connect Discovery 1.0 section 4
 */
export async function metadataOf(
  { status, body }: KeycloakAnswer,
  { url, issuer }: Pick<KeycloakRealm, 'url' | 'issuer'>,
): Promise<KeycloakMetadata> {
  if (status === 404) {
    throw new KeycloakMisconfiguredError(
      `Keycloak has no realm at ${url}. Check keycloak.serverUrl and keycloak.realm.`,
    );
  }
  if (status >= 400) {
    throw new KeycloakMisconfiguredError(
      `Keycloak refused the metadata of the realm at ${url} with status ${status}. Check keycloak.serverUrl.`,
    );
  }
  const server = await read(status === 200 ? body : '', url, issuer);
  const endpoints: Partial<Record<(typeof ENDPOINTS)[number], string>> = {};
  for (const name of ENDPOINTS) {
    const endpoint = reachable(server[name], url, issuer);
    if (isAllowed(endpoint, url)) {
      endpoints[name] = endpoint;
      continue;
    }
    throw new KeycloakMisconfiguredError(
      `Keycloak at ${url} names no usable ${name} in its metadata. Check keycloak.serverUrl, and the hostname and proxy ` +
        'settings of Keycloak.',
    );
  }
  return { ...server, ...endpoints } as KeycloakMetadata;
}

async function read(body: string, url: string, issuer: string): Promise<oauth.AuthorizationServer> {
  const expected = new URL(issuer);
  const response = new Response(body, { headers: { 'content-type': 'application/json' } });
  try {
    return await oauth.processDiscoveryResponse(expected, response);
  } catch (error) {
    const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
    if (code === oauth.JSON_ATTRIBUTE_COMPARISON || code === 'ERR_INVALID_URL') {
      throw new KeycloakMisconfiguredError(
        `Keycloak at ${url} issues its tokens under another issuer than ${issuer}. Set keycloak.issuer to the issuer ` +
          'of Keycloak.',
      );
    }
    if (error instanceof oauth.OperationProcessingError) throw unavailable(UNREADABLE);
    throw error;
  }
}

/** Returns an endpoint below the issuer as the same endpoint below the realm's own URL, and every other one as it is. */
function reachable(endpoint: unknown, realmUrl: string, issuer: string): unknown {
  if (issuer === realmUrl || typeof endpoint !== 'string' || !URL.canParse(endpoint)) return endpoint;
  const named = new URL(endpoint);
  const outside = new URL(issuer);
  const prefix = `${outside.pathname.replace(/\/+$/, '')}/`;
  if (named.origin !== outside.origin || named.username || named.password || named.hash) return endpoint;
  // The URL has no dot segments any more, so the rest of the path cannot leave the realm.
  if (!named.pathname.startsWith(prefix)) return endpoint;
  return `${realmUrl}/${named.pathname.slice(prefix.length)}${named.search}`;
}

function isAllowed(endpoint: unknown, realmUrl: string): endpoint is string {
  if (typeof endpoint !== 'string' || !URL.canParse(endpoint)) return false;
  const { protocol } = new URL(endpoint);
  return protocol === 'https:' || (protocol === 'http:' && new URL(realmUrl).protocol === 'http:');
}
