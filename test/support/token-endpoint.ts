import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** What a token endpoint answers: a status, a body, headers; or whatever it does to the raw response. */
export type ScriptedAnswer =
  { status?: number; body?: unknown; headers?: Record<string, string> } | ((response: ServerResponse) => void);

/** A token endpoint over real HTTP whose answers a test scripts, and which remembers every redemption. */
export interface TokenEndpoint {
  readonly url: string;
  /** Refresh tokens that were sent, in their order. */
  readonly redeemed: string[];
  /** Decides about each request; by default every redemption gives a new pair for an hour. */
  answer: (refreshToken: string, form: URLSearchParams) => ScriptedAnswer | Promise<ScriptedAnswer>;
  /** Tokens that were sent to the revocation endpoint, at `url` + `/revoke`. */
  readonly revoked: string[];
  answerRevocation: () => ScriptedAnswer;
  close(): Promise<void>;
}

let issued = 0;

/** A token answer with a pair that no other answer has. */
export function newPair(overrides: Record<string, unknown> = {}): { status: 200; body: Record<string, unknown> } {
  const number = ++issued;
  const pair = { access_token: `access-secret-${number}`, refresh_token: `refresh-secret-${number}` };
  return { status: 200, body: { ...pair, token_type: 'Bearer', expires_in: 3600, ...overrides } };
}

export async function startTokenEndpoint(): Promise<TokenEndpoint> {
  const server = createServer((request, response) => {
    void serve(endpoint, request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint: TokenEndpoint = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`,
    redeemed: [],
    answer: () => newPair(),
    revoked: [],
    answerRevocation: () => ({ status: 200 }),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return endpoint;
}

async function serve(endpoint: TokenEndpoint, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const form = new URLSearchParams(await text(request));
  if (request.url?.endsWith('/revoke')) {
    endpoint.revoked.push(form.get('token') ?? '');
    send(response, endpoint.answerRevocation());
    return;
  }
  const refreshToken = form.get('refresh_token') ?? '';
  endpoint.redeemed.push(refreshToken);
  send(response, await endpoint.answer(refreshToken, form));
}

function send(response: ServerResponse, answer: ScriptedAnswer): void {
  if (typeof answer === 'function') {
    answer(response);
    return;
  }
  response.writeHead(answer.status ?? 200, { 'content-type': 'application/json', ...answer.headers });
  response.end(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body ?? {}));
}
