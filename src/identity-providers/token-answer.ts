import { type Fields, lifetime, nonEmptyText, oauthErrorCode, parseFields } from '../oauth-http/answer-fields.js';
import type { HttpOutcome } from '../oauth-http/http-exchange.js';
import { retryAfter } from '../oauth-http/retry-after.js';
import type { IssuedTokens, RefreshAnswer } from './identity-provider.js';

/** OAuth errors by which a provider says that it no longer accepts the refresh token. */
const TERMINAL = new Set(['invalid_grant', 'bad_refresh_token', 'invalid_token']);
const TRANSIENT_ERRORS = new Set(['temporarily_unavailable', 'slow_down']);
const SERVER_ERROR = 'server_error';

/**
 * Classifies the answer of a token endpoint to a refresh. Errors are recognised at any 2xx and 4xx status, because
 * GitHub sends them with 200. A 5xx says nothing reliable about the refresh token, whatever its body says. The `code`
 * of a failure is an OAuth error of the provider in lower case, `http_NNN` for a status without such an error, or a
 * failure of the transport or of the body in upper case.
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
  // GitHub and others limit the rate with a 403 that has `Retry-After`.
  if (status === 403 && retryAfterMs !== undefined) return { kind: 'not-redeemed', code: 'RATE_LIMITED', retryAfterMs };
  if (status >= 300 && status < 400) return { kind: 'configuration', code: `http_${status}` };

  const fields = parseFields(outcome.body);
  // A pair is kept whatever else the answer says, because the refresh token may have been spent for it.
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
