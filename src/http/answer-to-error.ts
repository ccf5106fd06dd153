import { STATUS_CODES } from 'node:http';

import type { TokensError, TokensErrorCode } from '../tokens.errors.js';

/** What a caller may learn of an error. */
interface Answer {
  readonly status: number;
  /** What the client may do. The client cannot see the message of the error. */
  readonly detail: string;
  /** The value of `WWW-Authenticate`. */
  readonly challenge?: string;
  /** The answer that replaces this one if trying again does not help. */
  readonly ifLasting?: Answer;
}

/** The answer to each error. */
const ANSWERS: Record<TokensErrorCode, Answer> = {
  ERR_TOKENS_CONFIGURATION: { status: 500, detail: 'The server is not configured for this request.' },
  ERR_TOKENS_USAGE: { status: 500, detail: 'The server uses its token store wrongly.' },
  ERR_TOKENS_AUTHENTICATION_REQUIRED: { status: 401, detail: 'Log in first.', challenge: 'Bearer' },
  ERR_TOKENS_INVALID_INPUT: { status: 400, detail: 'The user or the tokens of this request cannot be used.' },
  ERR_TOKENS_NOT_FOUND: { status: 403, detail: 'Connect the account at the identity provider first.' },
  ERR_TOKENS_REAUTHENTICATION_REQUIRED: { status: 403, detail: 'Connect the account at the identity provider again.' },
  ERR_TOKENS_REFRESH_IN_PROGRESS: { status: 503, detail: 'The tokens are being refreshed. Try again shortly.' },
  ERR_TOKENS_REFRESH_UNAVAILABLE: { status: 503, detail: 'The identity provider cannot be reached. Try again later.' },
  ERR_TOKENS_PROVIDER_MISCONFIGURED: { status: 500, detail: 'The identity provider refuses this server.' },
  ERR_TOKENS_UNSUPPORTED_PROVIDER: { status: 400, detail: 'This identity provider is not supported.' },
  ERR_TOKENS_DECRYPTION: { status: 500, detail: 'The stored tokens cannot be read.' },
  ERR_TOKENS_KEY_IN_USE: { status: 409, detail: 'The encryption key is still in use.' },
  ERR_TOKENS_STORE_UNAVAILABLE: {
    status: 503,
    detail: 'The token store cannot be reached. Try again shortly.',
    ifLasting: { status: 500, detail: 'The token store refuses this server.' },
  },
  ERR_TOKENS_KEYCLOAK_UNAVAILABLE: { status: 503, detail: 'Keycloak cannot be reached. Try again shortly.' },
  ERR_TOKENS_KEYCLOAK_MISCONFIGURED: { status: 500, detail: 'Keycloak refuses this server.' },
  ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED: {
    status: 401,
    detail: 'The session has ended. Log in again.',
    challenge: 'Bearer error="invalid_token"',
  },
};

/** What a client gets of an error: a status, headers and problem details, which contain no message of the error. */
export interface AnswerToError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** @see RFC 9457 section 3.1 */
  readonly problem: {
    readonly type: 'about:blank';
    readonly title: string | undefined;
    readonly status: number;
    readonly detail: string;
    readonly code: TokensErrorCode;
    readonly idp: unknown;
    readonly reason: unknown;
  };
}

/** Returns the answer to an error. `Retry-After` is in seconds. */
export function answerToError(error: TokensError): AnswerToError {
  const { ifLasting, ...transient } = ANSWERS[error.code];
  const { status, detail, challenge } = error.retryable ? transient : (ifLasting ?? transient);
  return {
    status,
    headers: {
      ...(error.retryable && { 'Retry-After': retryAfterSeconds(error) }),
      ...(challenge !== undefined && { 'WWW-Authenticate': challenge }),
    },
    problem: {
      type: 'about:blank',
      title: STATUS_CODES[status],
      status,
      detail,
      code: error.code,
      idp: idpOf(error),
      reason: 'reason' in error ? error.reason : undefined,
    },
  };
}

function retryAfterSeconds(error: TokensError): string {
  const retryAfterMs = 'retryAfterMs' in error && typeof error.retryAfterMs === 'number' ? error.retryAfterMs : 1000;
  return String(Math.max(1, Math.ceil(retryAfterMs / 1000)));
}

function idpOf(error: TokensError): unknown {
  if ('idp' in error) return error.idp;
  const subject: unknown = 'subject' in error ? error.subject : undefined;
  return typeof subject === 'object' && subject !== null && 'idp' in subject ? subject.idp : undefined;
}
