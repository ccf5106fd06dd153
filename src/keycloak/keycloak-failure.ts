import { nonEmptyText, oauthErrorCode, parseFields } from '../oauth-http/answer-fields.js';
import type { HttpOutcome } from '../oauth-http/http-exchange.js';
import { retryAfter } from '../oauth-http/retry-after.js';
import { KeycloakMisconfiguredError, KeycloakSessionExpiredError, KeycloakUnavailableError } from '../tokens.errors.js';

/** An answer that says what Keycloak did with the request: 2xx, or 4xx except 408, 425 and 429. */
export type KeycloakAnswer = Extract<HttpOutcome, { kind: 'answered' }>;

/**
 * Why a request failed, and whether Keycloak may have served it. `code` is an OAuth error, a status as `http_NNN`, or a
 * transport code in upper case. It is never a message or a body.
 */
export type KeycloakFailure =
  /** Keycloak says that the grant has ended. */
  | { readonly kind: 'terminal'; readonly code: string }
  /** Keycloak refuses this application or its request. The grant is untouched. */
  | { readonly kind: 'configuration'; readonly code: string; readonly error: KeycloakMisconfiguredError }
  /** Keycloak certainly did not serve the request. A later attempt can succeed. */
  | { readonly kind: 'not-redeemed'; readonly code: string; readonly retryAfterMs?: number }
  /** Keycloak may or may not have served the request. */
  | { readonly kind: 'ambiguous'; readonly code: string };

/**
 * Too Early, Too Many Requests, Service Unavailable: the server did not serve the request, and a later one can succeed.
 */
const PUT_OFF = new Set([425, 429, 503]);
/** The code of an answer that has not the expected content. */
export const UNREADABLE = 'UNREADABLE_ANSWER';
/** Faults that Keycloak also calls `invalid_grant`, although a new login of the user does not correct them. */
const CONFIGURATION_GRANTS: readonly [RegExp, string][] = [
  [/redirect_uri/i, 'the redirect URI is not the one that the login was started with'],
  [/issuer/i, 'the token was issued under another URL of the server'],
  [/client.*match/i, 'the token was issued to another client'],
];

/**
 * Returns the answer of Keycloak, or the failure if there is none.
 *
 * @see RFC 9110 section 15, RFC 8470 section 5.2
 */
export function answerOf(outcome: HttpOutcome, url: URL): KeycloakAnswer | KeycloakFailure {
  if (outcome.kind === 'not-sent') return { kind: 'not-redeemed', code: outcome.code };
  if (outcome.kind === 'lost') return { kind: 'ambiguous', code: outcome.code };
  const { status, headers } = outcome;
  const code = `http_${status}`;
  if (PUT_OFF.has(status)) return { kind: 'not-redeemed', code, retryAfterMs: retryAfter(headers) };
  // A 408 is ambiguous too, because some proxies send it when they have waited in vain for the answer of Keycloak.
  if (status >= 500 || status === 408) return { kind: 'ambiguous', code };
  if (status < 300 || status >= 400) return outcome;
  const error = new KeycloakMisconfiguredError(
    `${url.origin} redirects the requests to Keycloak (status ${status}). The module follows no redirect. ` +
      'Check keycloak.serverUrl.',
  );
  return { kind: 'configuration', code, error };
}

/**
 * Returns the failure that an answer without the expected content means.
 *
 * @param place the endpoint, as the message names it
 * @see RFC 6749 section 5.2
 */
export function refusalOf({ status, headers, body }: KeycloakAnswer, place: string, clientId: string): KeycloakFailure {
  if (status < 400) return { kind: 'ambiguous', code: UNREADABLE };
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

/**
 * Returns the error that a caller gets for a failure.
 *
 * @param endpoint the URL to which the request was sent
 * @param realmUrl the URL of the realm below `keycloak.serverUrl`
 */
export function errorOf(
  failure: KeycloakFailure,
  endpoint: string,
  realmUrl: string,
): KeycloakSessionExpiredError | KeycloakMisconfiguredError | KeycloakUnavailableError {
  switch (failure.kind) {
    case 'terminal':
      return expired('Keycloak does not accept its token any more');
    case 'configuration':
      return failure.error;
    case 'not-redeemed':
      return unavailable(failure.code, failure.retryAfterMs, adviceFor(failure.code, endpoint, realmUrl));
    case 'ambiguous':
      return unavailable(failure.code, undefined, adviceFor(failure.code, endpoint, realmUrl));
  }
}

/**
 * Makes the error for a request without a usable answer. Its message names the cause.
 *
 * @param advice what to check, in whole sentences
 */
export function unavailable(
  cause: string,
  retryAfterMs?: number,
  advice = 'Check that it is up; try again shortly.',
): KeycloakUnavailableError {
  return new KeycloakUnavailableError(`Keycloak gave no usable answer (${cause}). ${advice}`, retryAfterMs);
}

/** Says what to check if no answer came from an endpoint; undefined if an answer came. */
function adviceFor(code: string, endpoint: string, realmUrl: string): string | undefined {
  const isUnanswered = /^[A-Z]/.test(code) && code !== UNREADABLE;
  if (!isUnanswered) return undefined;
  const { origin } = new URL(endpoint);
  const advice = [
    `Check that ${origin} is up and that this process reaches it; try again shortly.`,
    otherHostAdvice(endpoint, realmUrl),
  ];
  return advice.filter((each) => each !== undefined).join(' ');
}

/** Says what to set if an endpoint is not at the host of the options; undefined if it is. */
export function otherHostAdvice(endpoint: string, realmUrl: string): string | undefined {
  const { origin } = new URL(endpoint);
  if (origin === new URL(realmUrl).origin) return undefined;
  return (
    `The metadata of the realm name the host ${origin}, not that of keycloak.serverUrl. Set ` +
    'hostname-backchannel-dynamic to true in Keycloak, or set keycloak.issuer to the issuer of the realm.'
  );
}

/** Makes the error for a session that has ended. Its message names the cause. */
export function expired(cause: string): KeycloakSessionExpiredError {
  return new KeycloakSessionExpiredError(
    `The Keycloak session has ended, because ${cause}. Let the user log in again.`,
  );
}
