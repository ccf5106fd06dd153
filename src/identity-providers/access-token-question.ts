import { parseFields } from '../oauth-http/answer-fields.js';
import { bearerRequest } from '../oauth-http/authorization.js';
import { exchange, type HttpRequest } from '../oauth-http/http-exchange.js';
import type { AccessTokenLife } from './identity-provider.js';

/** Within this time every question about an access token has its answer, in milliseconds. */
export const QUESTION_TIMEOUT_MS = 5000;

/** How a provider is asked whether an access token still works, and what its complete answers mean. */
export interface AccessTokenQuestion {
  readonly request: (accessToken: string) => HttpRequest;
  readonly meaning: (status: number, body: string) => AccessTokenLife;
}

/**
 * Asks a provider whether an access token still works, and never rejects: an answer that does not come, or not whole, is
 * `unknown`. Sends the request once, and a second time only when the first was certainly not sent. After a 421, by which a
 * server says that it did not serve the request, fetch repeats a GET by itself. Settles within `timeoutMs`, in
 * milliseconds.
 *
 * @see RFC 9110 section 15.5.20
 */
export async function accessTokenLife(
  { request, meaning }: AccessTokenQuestion,
  accessToken: string,
  timeoutMs: number,
): Promise<AccessTokenLife> {
  const deadlineAt = performance.now() + timeoutMs;
  const asked = request(accessToken);
  let outcome = await exchange(asked, timeoutMs);
  const leftMs = deadlineAt - performance.now();
  if (outcome.kind === 'not-sent' && leftMs > 0) outcome = await exchange(asked, leftMs);
  return outcome.kind === 'answered' ? meaning(outcome.status, outcome.body) : 'unknown';
}

/** Reads a provider's answer by its status alone: 200 = alive, one other = dead, every other status says nothing. */
export function lifeByStatus(deadStatus: number): AccessTokenQuestion['meaning'] {
  return (status) => (status === 200 ? 'alive' : status === deadStatus ? 'dead' : 'unknown');
}

/**
 * Asks by a request of the token's owner: any 2xx = alive, 401 = dead. A token without the scope for it gets 403, which
 * says nothing.
 *
 * @see OpenID Connect Core 1.0 section 5.3, RFC 6750 section 3.1
 */
export function userinfoQuestion(userinfoEndpoint: string): AccessTokenQuestion {
  return {
    request: (accessToken) => bearerRequest(userinfoEndpoint, accessToken),
    meaning: (status) => (status >= 200 && status < 300 ? 'alive' : status === 401 ? 'dead' : 'unknown'),
  };
}

/** Reads the answer of an introspection endpoint: a 200 whose JSON has a boolean `active`. @see RFC 7662 section 2.2 */
export function introspectedLife(status: number, body: string): AccessTokenLife {
  const active = status === 200 ? parseFields(body)?.active : undefined;
  if (typeof active !== 'boolean') return 'unknown';
  return active ? 'alive' : 'dead';
}
