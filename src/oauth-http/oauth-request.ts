import * as oauth from 'oauth4webapi';

import { exchange, type HttpOutcome } from './http-exchange.js';

/** A request as oauth4webapi builds it. */
export interface BuiltRequest {
  readonly method: 'GET' | 'POST';
  readonly headers: Record<string, string>;
  readonly body?: URLSearchParams | null;
}

/**
 * Returns the options by which oauth4webapi sends its request through this function. Their type names no type of
 * oauth4webapi, because the declarations of the package name only types of its peers.
 *
 * @param isUnencrypted whether the options name the server by http
 */
export function sentBy(
  send: (url: string, request: BuiltRequest) => Promise<Response>,
  isUnencrypted: boolean,
): object {
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- deprecated only as a warning; oauth4webapi refuses http without it
  return { [oauth.customFetch]: send, [oauth.allowInsecureRequests]: isUnencrypted };
}

/**
 * Lets oauth4webapi build a request, and sends it once by {@link exchange}. Returns what became of it, so that the
 * caller learns whether the server may have served the request.
 *
 * @param isJson whether the body is sent as JSON with the same parameters. Default: as a form
 * @throws what the client authentication throws; nothing was sent then
 */
export async function askOnce(
  build: (http: object) => Promise<Response>,
  timeoutMs: number,
  { isJson = false }: { readonly isJson?: boolean } = {},
): Promise<HttpOutcome> {
  let outcome: HttpOutcome | undefined;
  const send = async (url: string, { method, headers, body }: BuiltRequest): Promise<Response> => {
    const isJsonBody = isJson && body instanceof URLSearchParams;
    outcome = await exchange(
      {
        url,
        method,
        headers: {
          ...headers,
          'user-agent': 'nestjs-idp-tokens',
          ...(isJsonBody && { 'content-type': 'application/json' }),
        },
        body: isJsonBody ? JSON.stringify(Object.fromEntries(body)) : body?.toString(),
      },
      timeoutMs,
    );
    return new Response(); // ignored, because it cannot say whether the server served the request
  };
  await build(sentBy(send, true));
  if (outcome) return outcome;
  throw new TypeError('oauth4webapi sent no request.');
}

/** Makes a response of a complete answer, for the functions of oauth4webapi that read one. */
export function responseOf({ status, body }: Extract<HttpOutcome, { kind: 'answered' }>): Response {
  return new Response(body === '' ? null : body, { status, headers: { 'content-type': 'application/json' } });
}
