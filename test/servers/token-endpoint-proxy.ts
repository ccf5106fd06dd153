import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request with a refresh token, and the answer of the token endpoint. */
export interface Redemption {
  readonly refreshToken: string;
  readonly status: number;
}

/** A proxy in front of a token endpoint. It counts the refreshes, and can keep their answers to itself. */
export class TokenEndpointProxy {
  /** All refreshes that the token endpoint has answered, in their order. */
  readonly redemptions: Redemption[] = [];
  readonly #withheld = new Set<string>();
  readonly #server = createServer((request, response) => {
    this.#forward(request, response).catch(() => response.destroy());
  });

  private constructor(private readonly target: string) {}

  static async start(target: string): Promise<TokenEndpointProxy> {
    const proxy = new TokenEndpointProxy(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/token`;
  }

  /** The statuses of the answers to a refresh token. */
  answersTo(refreshToken: string): number[] {
    return this.redemptions.filter((each) => each.refreshToken === refreshToken).map(({ status }) => status);
  }

  /** The next answer to this refresh token does not reach the sender. Its connection stays open. */
  withholdNext(refreshToken: string): void {
    this.#withheld.add(refreshToken);
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async #forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    const headers = new Headers();
    for (const name of ['accept', 'authorization', 'content-type'] as const) {
      const value = request.headers[name];
      if (value !== undefined) headers.set(name, value);
    }
    const answer = await fetch(this.target, { method: request.method, headers, body });
    const text = await answer.text();
    const refreshToken = new URLSearchParams(body).get('refresh_token');
    if (refreshToken !== null) {
      this.redemptions.push({ refreshToken, status: answer.status });
      if (this.#withheld.delete(refreshToken)) return;
    }
    response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? 'text/plain' }).end(text);
  }
}
