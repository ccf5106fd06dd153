import { parseFields } from '../oauth-http/answer-fields.js';
import { bearerRequest } from '../oauth-http/authorization.js';
import { exchange, type HttpRequest } from '../oauth-http/http-exchange.js';
import type { AccessTokenLife } from './identity-provider.js';

/** The deadline of a question about an access token, in milliseconds. */
export const QUESTION_TIMEOUT_MS = 5000;

/** The request that asks a provider whether an access token still works, and the meaning of its complete answers. */
export interface AccessTokenQuestion {
  /** Returns the request that asks about an access token. */
  readonly request: (accessToken: string) => HttpRequest | Promise<HttpRequest>;
  /** Returns what the status and the body of the answer say. */
  readonly meaning: (status: number, body: string) => AccessTokenLife;
}

/**
 * Asks a provider whether an access token still works. Returns `unknown` if there is no complete answer, and never
 * rejects. Sends the request once, and a second time only if the first one was certainly not sent. Settles within
 * `timeoutMs`, in milliseconds. After a 421 `fetch` repeats a GET by itself, because a server says by this status that
 * it did not serve the request.
 *
 * @see RFC 9110 section 15.5.20
 */
export async function accessTokenLife(
  { request, meaning }: AccessTokenQuestion,
  accessToken: string,
  timeoutMs: number,
): Promise<AccessTokenLife> {
  const deadlineAt = performance.now() + timeoutMs;
  const asked = await request(accessToken);
  let outcome = await exchange(asked, timeoutMs);
  const leftMs = deadlineAt - performance.now();
  if (outcome.kind === 'not-sent' && leftMs > 0) outcome = await exchange(asked, leftMs);
  return outcome.kind === 'answered' ? meaning(outcome.status, outcome.body) : 'unknown';
}

/** Reads an answer by its status alone: 200 = alive, `deadStatus` = dead, every other status = unknown. */
export function lifeByStatus(deadStatus: number): AccessTokenQuestion['meaning'] {
  return (status) => (status === 200 ? 'alive' : status === deadStatus ? 'dead' : 'unknown');
}

/**
 * Returns the question that sends a GET with the access token: any 2xx = alive, 401 = dead, every other status =
 * unknown. An access token without the scope of the endpoint gets 403, although it works.
 *
 * @see OpenID Connect Core 1.0 section 5.3, RFC 6750 section 3.1
 */
export function userinfoQuestion(userinfoEndpoint: string): AccessTokenQuestion {
  return {
    request: (accessToken) => bearerRequest(userinfoEndpoint, accessToken),
    meaning: (status) => (status >= 200 && status < 300 ? 'alive' : status === 401 ? 'dead' : 'unknown'),
  };
}

/**
 * Reads the boolean `active` in the JSON of an introspection answer. Every answer other than a 200 with this field is
 * `unknown`.
 *
 * @see RFC 7662 section 2.2
 */
export function introspectedLife(status: number, body: string): AccessTokenLife {
  const active = status === 200 ? parseFields(body)?.active : undefined;
  if (typeof active !== 'boolean') return 'unknown';
  return active ? 'alive' : 'dead';
}
