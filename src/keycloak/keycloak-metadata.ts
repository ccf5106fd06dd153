import * as oauth from 'oauth4webapi';

import { parseFields } from '../oauth-http/answer-fields.js';
import { hasCredentials, isEndpointOf } from '../oauth-http/endpoint-url.js';
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
export type KeycloakMetadata = { readonly issuer: string } & Record<(typeof ENDPOINTS)[number], string>;

/**
 * Reads the metadata of a realm. Every endpoint must be a URL without credentials. It must be encrypted, because it gets
 * tokens and the client secret. Only the server of an unencrypted `keycloak.serverUrl` may get them unencrypted.
 *
 * A Keycloak with a fixed hostname names its endpoints below its issuer, also to a process that cannot reach this host.
 * The function returns such an endpoint with the same path below the realm's own URL, which the process reaches. The
 * scheme, the port and the encoding of the path need not be those of the issuer.
 *
 * The issuer may have another spelling than in the options: the case of the host, a default port, a slash at its end.
 * The tokens of the realm have the spelling of the metadata.
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
    if (isEndpointOf(endpoint, url)) {
      endpoints[name] = endpoint;
      continue;
    }
    throw new KeycloakMisconfiguredError(
      `Keycloak at ${url} names no usable ${name} in its metadata. It must be an https URL without credentials, or be ` +
        'below keycloak.serverUrl or keycloak.issuer. Check these options, and the hostname and proxy ' +
        'settings of Keycloak.',
    );
  }
  return { ...server, ...endpoints } as KeycloakMetadata;
}

async function read(body: string, url: string, issuer: string): Promise<oauth.AuthorizationServer> {
  const { issuer: named } = parseFields(body) ?? {};
  const expected = new URL(typeof named === 'string' && isSameIssuer(named, issuer) ? named : issuer);
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

function isSameIssuer(named: string, issuer: string): boolean {
  const spelling = (url: string) => new URL(url).href.replace(/\/+$/, '');
  return URL.canParse(named) && spelling(named) === spelling(issuer);
}

/** Returns an endpoint below the issuer as the same endpoint below the realm's own URL, and every other one as it is. */
function reachable(endpoint: unknown, realmUrl: string, issuer: string): unknown {
  if (issuer === realmUrl || typeof endpoint !== 'string' || !URL.canParse(endpoint)) return endpoint;
  const named = new URL(endpoint);
  const outside = new URL(issuer);
  const isOfIssuer = named.hostname === outside.hostname && /^https?:$/.test(named.protocol) && !hasCredentials(named);
  if (!isOfIssuer) return endpoint;
  // The URL has no dot segments any more, so the rest of the path cannot leave the realm.
  const realm = outside.pathname.replace(/\/+$/, '').split('/');
  const segments = named.pathname.split('/');
  const isBelow =
    segments.length > realm.length && realm.every((segment, index) => isSameSegment(segment, segments[index]));
  return isBelow ? `${realmUrl}/${segments.slice(realm.length).join('/')}${named.search}` : endpoint;
}

function isSameSegment(one: string, other = ''): boolean {
  try {
    return decodeURIComponent(one) === decodeURIComponent(other);
  } catch {
    return one === other;
  }
}
