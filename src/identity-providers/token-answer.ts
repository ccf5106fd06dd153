import {
  type Fields,
  lifetime,
  nonEmptyText,
  oauthErrorCode,
  parseFields,
  scopesIn,
} from '../oauth-http/answer-fields.js';
import type { HttpOutcome } from '../oauth-http/http-exchange.js';
import { retryAfter } from '../oauth-http/retry-after.js';
import type { IssuedTokens, RefreshAnswer } from './identity-provider.js';

/**
 * Puts the fields of a token answer into the form of RFC 6749: `access_token`, `refresh_token`, `expires_in`,
 * `refresh_token_expires_in`, `scope`, or `error`. It gets the fields of every answer that has some, failures too.
 */
export type ReadAnswer = (fields: Record<string, unknown>) => Record<string, unknown>;

/** What a provider does otherwise in its answers. */
export interface AnswerRules {
  /**
   * Further codes that end the grant: the `error` of an answer, or `http_NNN` for an answer of this status that has
   * fields without `error`, or no body.
   */
  readonly terminalErrorCodes?: readonly string[];
  readonly readAnswer?: ReadAnswer;
}

/** Errors by which a provider says that it no longer accepts the refresh token, or that only the user can help. */
const TERMINAL = new Set([
  'invalid_grant',
  'invalid_token',
  'bad_refresh_token', // GitHub
  'invalid_refresh_token', // Slack
  // Entra: the user must log in again, for example after a change of the password or of a policy.
  'interaction_required',
  'login_required',
  'consent_required',
]);
const TRANSIENT_ERRORS = new Set(['temporarily_unavailable', 'slow_down']);
const SERVER_ERROR = 'server_error';

/**
 * Classifies the answer of a token endpoint to a refresh. Errors are recognised at any 2xx and 4xx status, because
 * GitHub and Slack send them with 200. A 5xx says nothing reliable about the refresh token, unless its code is one of
 * `terminalErrorCodes`. A page, of HTML or of text, never ends a grant. The `code` of a failure is an OAuth error of the provider,
 * `http_NNN` for a status without such an error, or a failure of the transport or of the body in upper case. An answer
 * that `readAnswer` cannot read is ambiguous, because it may have a pair.
 *
 * @see RFC 6749 section 5.1, 5.2 and 6
 */
export function classifyTokenAnswer(outcome: HttpOutcome, rules: AnswerRules = {}): RefreshAnswer {
  if (outcome.kind === 'not-sent') return { kind: 'not-redeemed', code: outcome.code };
  if (outcome.kind === 'lost') return { kind: 'ambiguous', code: outcome.code };

  const { status, headers, body } = outcome;
  const { terminalErrorCodes = [] } = rules;
  const retryAfterMs = retryAfter(headers);
  if (status === 429 || status === 503) return { kind: 'not-redeemed', code: `http_${status}`, retryAfterMs };
  if (status === 408) return { kind: 'ambiguous', code: `http_${status}` };
  // GitHub and others limit the rate with a 403 that has `Retry-After`.
  if (status === 403 && retryAfterMs !== undefined) return { kind: 'not-redeemed', code: 'RATE_LIMITED', retryAfterMs };
  if (status >= 300 && status < 400) return { kind: 'configuration', code: `http_${status}` };

  const fields = fieldsOf(body, rules.readAnswer);
  if (fields === UNREAD) return { kind: 'ambiguous', code: 'READ_ANSWER_FAILED' };
  // A pair is kept whatever else the answer says, because the refresh token may have been spent for it.
  const tokens = status < 300 ? fields && issuedTokens(fields) : undefined;
  if (tokens) return { kind: 'success', tokens };

  const error = fields && errorCode(fields.error, terminalErrorCodes);
  const code = error ?? `http_${status}`;
  // A body without fields is a page of a server in between, which knows nothing of the refresh token.
  const isOfProvider = fields !== undefined || body.trim() === '';
  if (isOfProvider && terminalErrorCodes.includes(code)) return { kind: 'terminal', code };
  if (status >= 500) return { kind: 'ambiguous', code: `http_${status}` };
  if (!error) return status < 300 ? { kind: 'ambiguous', code: 'UNREADABLE_ANSWER' } : refusal(code);
  if (TRANSIENT_ERRORS.has(error)) return { kind: 'not-redeemed', code: error, retryAfterMs };
  if (error === SERVER_ERROR) return { kind: 'ambiguous', code: error };
  return TERMINAL.has(error) ? { kind: 'terminal', code: error } : refusal(error);
}

/** Returns the fields of an answer in the form of RFC 6749; undefined if it has none, or if they cannot be read. */
export function answerFields(body: string, { readAnswer }: AnswerRules): Fields | undefined {
  const fields = fieldsOf(body, readAnswer);
  return fields === UNREAD ? undefined : fields;
}

const UNREAD = Symbol('UNREAD');

/** Returns the fields as `readAnswer` returns them; undefined for a body without fields. */
function fieldsOf(body: string, readAnswer?: ReadAnswer): Fields | undefined | typeof UNREAD {
  const fields = parseFields(body);
  if (!fields || !readAnswer) return fields;
  try {
    const read: unknown = readAnswer(fields);
    if (isRecord(read)) return { ...read };
    void Promise.resolve(read).catch(() => undefined); // the rejection of an async function must not end the process
  } catch {
    // Its error may contain a token.
  }
  return UNREAD;
}

function isRecord(value: unknown): value is Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return typeof Reflect.get(value, 'then') !== 'function';
}

/** Returns the error code of an answer. A code that the options name may be a number, or have capitals and digits. */
function errorCode(value: unknown, named: readonly string[]): string | undefined {
  const text = typeof value === 'number' ? String(value) : value;
  return typeof text === 'string' && named.includes(text) ? text : oauthErrorCode(value);
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
    ...scopesIn(fields),
  };
}
