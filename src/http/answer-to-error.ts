import { STATUS_CODES } from 'node:http';

import type { TokensError, TokensErrorCode } from '../tokens-error.js';
import { property } from './request-of-call.js';

/** What a caller may learn of an error. */
interface Answer {
  readonly status: number;
  /** What the client may do. The client cannot see the message of the error. */
  readonly detail: string;
  /** The value of `WWW-Authenticate`. */
  readonly challenge?: string;
  /** The answer that replaces this one if trying again does not help. */
  readonly ifLasting?: Answer;
  /** The answer that replaces this one for a `reason` of the error. */
  readonly ofReason?: Readonly<Record<string, Answer>>;
}

/** The answer to each error. */
const ANSWERS: Record<TokensErrorCode, Answer> = {
  ERR_TOKENS_CONFIGURATION: { status: 500, detail: 'The server is not configured for this request.' },
  ERR_TOKENS_USAGE: { status: 500, detail: 'The server uses its token store wrongly.' },
  ERR_TOKENS_AUTHENTICATION_REQUIRED: { status: 401, detail: 'Log in first.', challenge: 'Bearer' },
  ERR_TOKENS_INVALID_INPUT: { status: 400, detail: 'The user or the tokens of this request cannot be used.' },
  ERR_TOKENS_NOT_FOUND: { status: 403, detail: 'Connect the account at the identity provider first.' },
  ERR_TOKENS_AMBIGUOUS_ACCOUNT: { status: 409, detail: 'Name one of your accounts at the identity provider.' },
  ERR_TOKENS_INSUFFICIENT_SCOPE: {
    status: 403,
    detail: 'Connect the account at the identity provider again, with more scopes.',
  },
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
  ERR_TOKENS_LINK_REFUSED: {
    status: 400,
    detail: 'The account was not linked. Begin again.',
    ofReason: { other_user: { status: 403, detail: 'Another user began to link this account.' } },
  },
  ERR_TOKENS_PROVIDER_UNAVAILABLE: {
    status: 503,
    detail: 'The identity provider cannot be reached. Begin again later.',
  },
};

/** What a client may learn of an error beside its detail. A member that the error does not have is undefined. */
export interface ErrorMembers {
  readonly code: TokensErrorCode;
  readonly idp: unknown;
  /** Undefined for the default account. */
  readonly account: unknown;
  readonly reason: unknown;
  /** The accounts of which the client names one. */
  readonly accounts: unknown;
  readonly missing_scopes: unknown;
}

/** What a client gets of an error: a status, headers and problem details, which contain no message of the error. */
export interface AnswerToError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly members: ErrorMembers;
  /** @see RFC 9457 section 3.1 */
  readonly problem: ErrorMembers & {
    readonly type: 'about:blank';
    readonly title: string | undefined;
    readonly status: number;
    readonly detail: string;
  };
}

/** Returns the answer to an error. `Retry-After` is in seconds. */
export function answerToError(error: TokensError): AnswerToError {
  const reason = property(error, 'reason');
  const { ifLasting, ofReason, ...transient } = ANSWERS[error.code];
  const special =
    (typeof reason === 'string' ? ofReason?.[reason] : undefined) ?? (error.retryable ? undefined : ifLasting);
  const { status, detail, challenge } = special ?? transient;
  const members: ErrorMembers = {
    code: error.code,
    idp: ofSubject(error, 'idp'),
    account: ofSubject(error, 'account') || undefined,
    reason,
    accounts: property(error, 'accounts'),
    missing_scopes: property(error, 'missingScopes'),
  };
  return {
    status,
    headers: {
      ...(error.retryable && { 'Retry-After': retryAfterSeconds(error) }),
      ...(challenge !== undefined && { 'WWW-Authenticate': challenge }),
    },
    members,
    problem: { type: 'about:blank', title: STATUS_CODES[status], status, detail, ...members },
  };
}

function retryAfterSeconds(error: TokensError): string {
  const retryAfterMs = 'retryAfterMs' in error && typeof error.retryAfterMs === 'number' ? error.retryAfterMs : 1000;
  return String(Math.max(1, Math.ceil(retryAfterMs / 1000)));
}

/** Returns a part of the key that an error is about. */
function ofSubject(error: TokensError, part: 'idp' | 'account'): unknown {
  const own = property(error, part);
  return own === undefined ? property(property(error, 'subject'), part) : own;
}
