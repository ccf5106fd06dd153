import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

import { urlUnderTest } from './test-database.js';

interface SocketPair {
  readonly client: Socket;
  readonly upstream: Socket;
  losesAnswers: boolean;
}

/** A TCP proxy to the database. A test can block, reset, close and redirect its connections. */
export class DatabaseProxy {
  #target: URL;
  readonly #pairs = new Set<SocketPair>();
  #server: Server | undefined;
  #port = 0;
  #isBlocked = false;

  constructor(databaseUrl: string) {
    this.#target = new URL(urlUnderTest(databaseUrl));
  }

  /** Listens, on the same port as before if there was one. Returns the URL of the database through the proxy. */
  async open(): Promise<string> {
    this.#server = createServer((client) => {
      this.#connect(client);
    }).listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    const address = this.#server.address();
    if (address && typeof address === 'object') this.#port = address.port;
    const url = new URL(this.#target);
    url.host = `127.0.0.1:${this.#port}`;
    return url.href;
  }

  /** Refuses new connections and resets the open ones. */
  async close(): Promise<void> {
    this.reset();
    this.#server?.close();
    if (this.#server) await once(this.#server, 'close');
  }

  /** Redirects new connections to another server and resets the open ones, as an address that moves does. */
  redirect(databaseUrl: string): void {
    this.#target = new URL(urlUnderTest(databaseUrl));
    this.reset();
  }

  /** Stops forwarding what clients send. The server gets it after {@link unblock}. */
  block(): void {
    this.#isBlocked = true;
    for (const { client } of this.#pairs) client.pause();
  }

  unblock(): void {
    this.#isBlocked = false;
    for (const { client } of this.#pairs) client.resume();
  }

  /** Resets the open connections. New connections still work. */
  reset(): void {
    for (const pair of this.#pairs) this.#end(pair);
  }

  /**
   * Loses the next answer on each open connection: the proxy forwards the request, and resets the connection when the
   * server answers.
   */
  loseAnswers(): void {
    for (const pair of this.#pairs) pair.losesAnswers = true;
  }

  #connect(client: Socket): void {
    const upstream = connect(Number(this.#target.port || 5432), this.#target.hostname);
    const pair: SocketPair = { client, upstream, losesAnswers: false };
    this.#pairs.add(pair);
    client.on('data', (chunk) => upstream.write(chunk));
    upstream.on('data', (chunk) => {
      if (pair.losesAnswers) this.#end(pair);
      else client.write(chunk);
    });
    for (const socket of [client, upstream]) {
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#end(pair);
      });
    }
    if (this.#isBlocked) client.pause();
  }

  #end(pair: SocketPair): void {
    pair.client.destroy();
    pair.upstream.destroy();
    this.#pairs.delete(pair);
  }
}
