import * as oauth from 'oauth4webapi';

import type { CodeFlow } from '../identity-providers/code-flow.js';
import type { ServerMetadata } from '../identity-providers/server-metadata.js';
import { LinkRefusedError, ProviderUnavailableError } from '../link.errors.js';
import { oauthErrorCode } from '../oauth-http/answer-fields.js';

/** The URL to which the provider sent the browser back, or its query as an object. */
export type LinkCallback = string | URL | Readonly<Record<string, unknown>>;

/** The errors by which a provider says that the user declined. */
const DENIALS = new Set(['access_denied', 'user_denied', 'user_cancelled_login', 'user_cancelled_authorize']);
const TRANSIENT_ERRORS = new Set(['temporarily_unavailable', 'server_error']);
/** More parameters, or longer ones, are of no provider. */
const MAX_LENGTH = 16_384;

/** Returns the parameters of a callback. A parameter that is no text is left out. */
export function parametersOf(callback: LinkCallback): URLSearchParams {
  if (callback instanceof URL) return new URLSearchParams(callback.search);
  if (typeof callback === 'string') {
    const isUrl = URL.canParse(callback, 'http://host.invalid');
    return new URLSearchParams(isUrl ? new URL(callback, 'http://host.invalid').search : '');
  }
  const parameters = new URLSearchParams();
  const given: unknown = callback;
  for (const [name, value] of typeof given === 'object' && given !== null ? Object.entries(given) : []) {
    for (const each of Array.isArray(value) ? (value as unknown[]) : [value]) {
      if (typeof each === 'string') parameters.append(name, each);
    }
  }
  return parameters;
}

/** Returns the state; undefined unless there is exactly one. */
export function stateIn(parameters: URLSearchParams): string | undefined {
  const [state, ...others] = parameters.getAll('state');
  return state && others.length === 0 && state.length <= MAX_LENGTH ? state : undefined;
}

/**
 * Checks the answer to an authorization request, and returns it for the exchange.
 *
 * @throws {@link LinkRefusedError} for the answer of another server, an error and an answer without a code
 * @throws {@link ProviderUnavailableError} when the provider says that it is down
 * @see RFC 6749 section 4.1.2, RFC 9207 section 2.4
 */
export function checkedAnswer(
  parameters: URLSearchParams,
  { idp, flow, server, state }: { idp: string; flow: CodeFlow; server: ServerMetadata; state: string },
): URLSearchParams {
  const answer = new URLSearchParams(parameters);
  // Nothing tells whether it is the right one. Redirect URIs of their own keep such providers apart.
  if (!flow.hasIssuer) answer.delete('iss');
  let checked: URLSearchParams;
  try {
    checked = oauth.validateAuthResponse(server, { client_id: flow.clientId }, answer, state);
  } catch (error) {
    if (error instanceof oauth.AuthorizationResponseError) throw refusalOf(error.error, idp);
    const isOther = isOfOtherIssuer(answer, server);
    throw new LinkRefusedError(isOther ? 'issuer_mismatch' : 'provider_error', { idp, providerCode: 'INVALID_ANSWER' });
  }
  if (checked.getAll('code').length === 1 && checked.get('code') !== '') return checked;
  throw new LinkRefusedError('provider_error', { idp, providerCode: 'NO_CODE' });
}

function refusalOf(error: unknown, idp: string): Error {
  const code = oauthErrorCode(error) ?? 'unknown_error';
  if (TRANSIENT_ERRORS.has(code)) return new ProviderUnavailableError(idp, `the provider says "${code}"`);
  return new LinkRefusedError(DENIALS.has(code) ? 'denied' : 'provider_error', { idp, providerCode: code });
}

function isOfOtherIssuer(answer: URLSearchParams, server: ServerMetadata): boolean {
  const issuers = answer.getAll('iss');
  if (issuers.length === 0) return server.authorization_response_iss_parameter_supported === true;
  return issuers.some((issuer) => issuer !== server.issuer);
}
