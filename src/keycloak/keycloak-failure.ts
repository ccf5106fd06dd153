import { nonEmptyText, oauthErrorCode, parseFields } from '../oauth-http/answer-fields.js';
import type { HttpOutcome } from '../oauth-http/http-exchange.js';
import { retryAfter } from '../oauth-http/retry-after.js';
import { KeycloakMisconfiguredError, KeycloakSessionExpiredError, KeycloakUnavailableError } from '../tokens.errors.js';

/** An answer of Keycloak that says something about the request: 2xx, or 4xx but for the statuses that say "later". */
export type KeycloakAnswer = Extract<HttpOutcome, { kind: 'answered' }>;

/**
 * Why a request came to nothing, and whether Keycloak may have served it all the same. `code` is an OAuth error, a
 * status as `http_NNN`, or a transport code in upper case; it is never a message or a body.
 */
export type KeycloakFailure =
  /** Keycloak says that the grant is over. */
  | { readonly kind: 'terminal'; readonly code: string }
  /** Keycloak refuses this application or its request. The grant is untouched. */
  | { readonly kind: 'configuration'; readonly code: string; readonly error: KeycloakMisconfiguredError }
  /** Keycloak certainly did not serve the request. A later attempt can succeed. */
  | { readonly kind: 'not-redeemed'; readonly code: string; readonly retryAfterMs?: number }
  /** Keycloak may or may not have served the request. */
  | { readonly kind: 'ambiguous'; readonly code: string };

/** Too Early, Too Many Requests, Service Unavailable: the server puts the request off and does not serve it. */
const PUT_OFF = new Set([425, 429, 503]);
/** What Keycloak also calls `invalid_grant`, and no login of the user puts right. */
const CONFIGURATION_GRANTS: readonly [RegExp, string][] = [
  [/redirect_uri/i, 'the redirect URI is not the one that the login was started with'],
  [/issuer/i, 'the token was issued under another URL of the server'],
  [/client.*match/i, 'the token was issued to another client'],
];

/**
 * The answer of Keycloak, or why there is none.
 *
 * @see RFC 9110 section 15, RFC 8470 section 5.2
 */
export function answerOf(outcome: HttpOutcome, url: URL): KeycloakAnswer | KeycloakFailure {
  if (outcome.kind === 'not-sent') return { kind: 'not-redeemed', code: outcome.code };
  if (outcome.kind === 'lost') return { kind: 'ambiguous', code: outcome.code };
  const { status, headers } = outcome;
  const code = `http_${status}`;
  if (PUT_OFF.has(status)) return { kind: 'not-redeemed', code, retryAfterMs: retryAfter(headers) };
  // 408 too: a proxy that waited in vain for Keycloak's answer sends it at times.
  if (status >= 500 || status === 408) return { kind: 'ambiguous', code };
  if (status < 300 || status >= 400) return outcome;
  const error = new KeycloakMisconfiguredError(
    `${url.origin} redirects Keycloak's requests (status ${status}), which are not followed. Check keycloak.serverUrl.`,
  );
  return { kind: 'configuration', code, error };
}

/**
 * What an answer without the expected content means.
 *
 * @param place the endpoint, as it is named in the message
 * @see RFC 6749 section 5.2
 */
export function refusalOf({ status, headers, body }: KeycloakAnswer, place: string, clientId: string): KeycloakFailure {
  if (status < 400) return { kind: 'ambiguous', code: 'UNREADABLE_ANSWER' };
  const fields = parseFields(body);
  const code = oauthErrorCode(fields?.error) ?? `http_${status}`;
  if (code === 'temporarily_unavailable') return { kind: 'not-redeemed', code, retryAfterMs: retryAfter(headers) };
  if (code === 'server_error') return { kind: 'ambiguous', code };
  const description = nonEmptyText(fields?.error_description) ?? '';
  const [, fault] = CONFIGURATION_GRANTS.find(([pattern]) => pattern.test(description)) ?? [];
  if (code === 'invalid_grant' && !fault) return { kind: 'terminal', code };
  const advice = 'Check keycloak.clientId and keycloak.clientSecret, and what the client may do.';
  const error = new KeycloakMisconfiguredError(
    `Keycloak refused client "${clientId}" at ${place} with "${code}". ` + (fault ? `It says that ${fault}.` : advice),
  );
  return { kind: 'configuration', code, error };
}

/** The error that tells a caller of a failure. */
export function errorOf(
  failure: KeycloakFailure,
): KeycloakSessionExpiredError | KeycloakMisconfiguredError | KeycloakUnavailableError {
  switch (failure.kind) {
    case 'terminal':
      return expired('Keycloak does not accept its token any more');
    case 'configuration':
      return failure.error;
    case 'not-redeemed':
      return unavailable(failure.code, failure.retryAfterMs);
    case 'ambiguous':
      return unavailable(failure.code);
  }
}

/** Keycloak gave no usable answer, for a cause that its message names. */
export function unavailable(cause: string, retryAfterMs?: number): KeycloakUnavailableError {
  return new KeycloakUnavailableError(
    `Keycloak gave no usable answer (${cause}). Check that it is up; try again shortly.`,
    retryAfterMs,
  );
}

/** The session is over, for a cause that its message names. */
export function expired(cause: string): KeycloakSessionExpiredError {
  return new KeycloakSessionExpiredError(`The Keycloak session is over: ${cause}. Let the user log in again.`);
}
