import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** The answer of a token endpoint, or a function that writes the raw response. */
export type ScriptedAnswer =
  { status?: number; body?: unknown; headers?: Record<string, string> } | ((response: ServerResponse) => void);

/** A token endpoint over real HTTP. A test sets its answers. It records the tokens that it receives. */
export interface TokenEndpoint {
  readonly url: string;
  /** The refresh tokens that the endpoint received, in their order. */
  readonly redeemed: string[];
  /** Returns the answer to each request. By default this is a new pair that expires in an hour. */
  answer: (refreshToken: string, form: URLSearchParams) => ScriptedAnswer | Promise<ScriptedAnswer>;
  /** The tokens that the revocation endpoint received, at `url` + `/revoke`. */
  readonly revoked: string[];
  answerRevocation: () => ScriptedAnswer;
  close(): Promise<void>;
}

let issued = 0;

/** Returns an answer with a pair that no other answer has. */
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
