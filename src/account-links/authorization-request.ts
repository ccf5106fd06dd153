import * as oauth from 'oauth4webapi';

import type { CodeFlow } from '../identity-providers/code-flow.js';
import { failureCodeOf, type ServerMetadata } from '../identity-providers/server-metadata.js';
import { LinkRefusedError, ProviderUnavailableError } from '../link.errors.js';
import { askOnce, responseOf } from '../oauth-http/oauth-request.js';
import { retryAfter } from '../oauth-http/retry-after.js';
import type { TokenKey } from '../token-key.js';
import { ProviderMisconfiguredError, TokensConfigurationError } from '../tokens.errors.js';
import { codeChallengeOf, nonceOf } from './link-secrets.js';

/** What one authorization request has of its own. */
export interface AuthorizationDemand {
  readonly subject: TokenKey;
  readonly state: string;
  readonly codeVerifier: string;
  readonly scopes: readonly string[];
}

/**
 * Returns the URL to which the host sends the browser. If the server takes pushed authorization requests, the URL names
 * only the request that the module has pushed.
 *
 * @throws {@link TokensConfigurationError} when neither the options nor the issuer name the endpoint
 * @throws {@link ProviderUnavailableError} | {@link ProviderMisconfiguredError} when the server does not take the pushed
 * request
 * @throws {@link LinkRefusedError} when it does not take the scopes of the pushed request
 * @see RFC 6749 section 4.1.1, RFC 7636 section 4.3, RFC 9126
 */
export async function authorizationUrl(
  flow: CodeFlow,
  server: ServerMetadata,
  demand: AuthorizationDemand,
): Promise<URL> {
  const { idp } = demand.subject;
  if (server.authorization_endpoint === undefined) throw endpointMissing(idp, 'authorizationEndpoint');
  const url = new URL(server.authorization_endpoint);
  const parameters = parametersOf(flow, demand);
  const isPushed = server.pushed_authorization_request_endpoint !== undefined;
  const sent = isPushed
    ? { client_id: flow.clientId, request_uri: await pushed(flow, server, parameters, demand.subject) }
    : parameters;
  for (const [name, value] of Object.entries(sent)) url.searchParams.set(name, value);
  return url;
}

/** Whether an ID token answers the request: the server is known, and the request asks for one. */
export function isOpenId(flow: CodeFlow, scopes: readonly string[]): boolean {
  return flow.hasIssuer && scopes.includes('openid');
}

export function endpointMissing(idp: string, option: string): TokensConfigurationError {
  return new TokensConfigurationError(
    `The module cannot link an account at identity provider "${idp}", because it does not know the endpoint. ` +
      `Set identityProviders.${idp}.${option} or identityProviders.${idp}.issuer.`,
  );
}

function parametersOf(flow: CodeFlow, { state, codeVerifier, scopes }: AuthorizationDemand): Record<string, string> {
  return {
    ...flow.parameters,
    response_type: 'code',
    client_id: flow.clientId,
    redirect_uri: flow.redirectUri,
    ...(scopes.length > 0 && { scope: scopes.join(' ') }),
    state,
    code_challenge: codeChallengeOf(codeVerifier),
    code_challenge_method: 'S256',
    ...(isOpenId(flow, scopes) && { nonce: nonceOf(codeVerifier) }),
  };
}

async function pushed(
  flow: CodeFlow,
  server: ServerMetadata,
  parameters: Record<string, string>,
  subject: TokenKey,
): Promise<string> {
  const client = { client_id: flow.clientId };
  const endpoint = server.pushed_authorization_request_endpoint ?? '';
  const outcome = await askOnce(
    (http) =>
      oauth.pushedAuthorizationRequest(
        server,
        client,
        (_server, _client, body, headers) => flow.authenticate(endpoint, body, headers),
        parameters,
        http,
      ),
    flow.timeoutMs,
  ).catch(() => {
    throw new ProviderMisconfiguredError(subject, 'CLIENT_ASSERTION_FAILED'); // nothing was sent
  });
  if (outcome.kind !== 'answered') throw unavailable(subject.idp, outcome.code);
  const { status, headers } = outcome;
  if (status >= 500 || status === 429 || status === 408) {
    throw unavailable(subject.idp, `http_${status}`, retryAfter(headers));
  }
  if (status >= 300) throw refusalOf(failureCodeOf(outcome), subject);
  try {
    const { request_uri: uri } = await oauth.processPushedAuthorizationResponse(server, client, responseOf(outcome));
    return uri;
  } catch {
    throw unavailable(subject.idp, 'UNREADABLE_ANSWER');
  }
}

/** The caller chooses scopes. Everything else that a server can refuse comes from the options. */
function refusalOf(code: string, subject: TokenKey): Error {
  if (code !== 'invalid_scope') return new ProviderMisconfiguredError(subject, code);
  return new LinkRefusedError('provider_error', { idp: subject.idp, providerCode: code });
}

function unavailable(idp: string, code: string, retryAfterMs?: number): ProviderUnavailableError {
  return new ProviderUnavailableError(
    idp,
    `the provider gave no usable answer to the authorization request (${code})`,
    retryAfterMs,
  );
}
