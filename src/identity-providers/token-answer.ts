import type { HttpOutcome } from '../oauth-http/http-exchange.js';
import type { IssuedTokens, RefreshAnswer } from './identity-provider.js';

/**
 * Codes of failures: lower case is an OAuth error of the provider, `http_NNN` a status without one, upper case what
 * happened on the way.
 */
const TERMINAL = new Set(['invalid_grant', 'bad_refresh_token', 'invalid_token']);
const TRANSIENT_ERRORS = new Set(['temporarily_unavailable', 'slow_down']);
const SERVER_ERROR = 'server_error';
/** 300 years: far beyond any lifetime, far below what a bigint of epoch seconds holds. */
const MAX_LIFETIME_SECONDS = 1e10;
/** An hour: what a provider asks for beyond that is a mistake more often than a wish. */
export const MAX_RETRY_AFTER_MS = 3_600_000;

/**
 * Classifies what a token endpoint answered to a refresh. Errors are recognised at any 2xx and 4xx status, because
 * GitHub sends them with 200; 5xx says nothing reliable about the refresh token, whatever its body claims.
 *
 * @see RFC 6749 section 5.1, 5.2 and 6
 */
export function classifyTokenAnswer(outcome: HttpOutcome): RefreshAnswer {
  if (outcome.kind === 'not-sent') return { kind: 'not-redeemed', code: outcome.code };
  if (outcome.kind === 'lost') return { kind: 'ambiguous', code: outcome.code };

  const { status, headers } = outcome;
  const retryAfterMs = retryAfter(headers);
  if (status === 429 || status === 503) return { kind: 'not-redeemed', code: `http_${status}`, retryAfterMs };
  if (status >= 500 || status === 408) return { kind: 'ambiguous', code: `http_${status}` };
  // GitHub and others limit the rate with 403 and say when to come back.
  if (status === 403 && retryAfterMs !== undefined) return { kind: 'not-redeemed', code: 'RATE_LIMITED', retryAfterMs };
  if (status >= 300 && status < 400) return { kind: 'configuration', code: `http_${status}` };

  const fields = parseFields(outcome.body);
  // Whatever else the answer says: a pair that was issued is kept.
  const tokens = status < 300 ? fields && issuedTokens(fields) : undefined;
  if (tokens) return { kind: 'success', tokens };
  const error = fields && oauthErrorCode(fields.error);
  if (!error) return status < 300 ? { kind: 'ambiguous', code: 'UNREADABLE_ANSWER' } : refusal(`http_${status}`);
  if (TRANSIENT_ERRORS.has(error)) return { kind: 'not-redeemed', code: error, retryAfterMs };
  if (error === SERVER_ERROR) return { kind: 'ambiguous', code: error };
  return TERMINAL.has(error) ? { kind: 'terminal', code: error } : refusal(error);
}

function refusal(code: string): RefreshAnswer {
  return { kind: 'configuration', code };
}

/** `Retry-After` in milliseconds, from seconds or an HTTP date; at most one hour. @see RFC 9110 section 10.2.3 */
export function retryAfter(headers: Headers): number | undefined {
  const value = headers.get('retry-after');
  if (!value) return undefined;
  const delayMs = /^\d+$/.test(value)
    ? Number(value) * 1000
    : Date.parse(value) - Date.parse(headers.get('date') ?? new Date().toUTCString());
  return Number.isNaN(delayMs) ? undefined : Math.min(Math.max(delayMs, 0), MAX_RETRY_AFTER_MS);
}

export type Fields = Record<string, unknown>;

/** Reads JSON or a form by what the body is: labels are wrong at times, and a pair in it would be lost. */
export function parseFields(body: string): Fields | undefined {
  const text = body.replace(/^\uFEFF/, '').trim();
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'object' && parsed !== null ? { ...parsed } : undefined;
  } catch {
    return /(^|&)(access_token|error)=/.test(text) ? Object.fromEntries(new URLSearchParams(text)) : undefined;
  }
}

/** An error code of the provider if it looks like one: anything else could be an echo of what was sent. */
export function oauthErrorCode(value: unknown): string | undefined {
  if (value === undefined || value === null || value === '') return undefined;
  return typeof value === 'string' && /^[a-z][a-z_]{0,63}$/.test(value) ? value : 'unknown_error';
}

function issuedTokens(fields: Fields): IssuedTokens | undefined {
  const accessToken = nonEmptyText(fields.access_token);
  if (!accessToken) return undefined;
  return {
    accessToken,
    refreshToken: nonEmptyText(fields.refresh_token),
    accessTokenExpiresIn: lifetime(fields.expires_in),
    refreshTokenExpiresIn: lifetime(fields.refresh_token_expires_in ?? fields.refresh_expires_in),
  };
}

/** A text with something in it. */
export function nonEmptyText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** Seconds as a number or, in form-encoded answers, as text; 0 means "does not expire" and is left out. */
export function lifetime(value: unknown): number | undefined {
  const seconds = typeof value === 'string' && value !== '' ? Number(value) : value;
  return typeof seconds === 'number' && Number.isFinite(seconds) && seconds >= 1
    ? Math.min(Math.floor(seconds), MAX_LIFETIME_SECONDS)
    : undefined;
}
