import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

interface SocketPair {
  readonly client: Socket;
  readonly upstream: Socket;
  losesAnswers: boolean;
}

/** A TCP way to the database that a test can block, cut, close and lead elsewhere. */
export class DatabaseProxy {
  #target: URL;
  readonly #pairs = new Set<SocketPair>();
  #server: Server | undefined;
  #port = 0;
  #isBlocked = false;

  constructor(databaseUrl: string) {
    this.#target = new URL(databaseUrl);
  }

  /** Opens the way, on the same port as before, and resolves to the URL of the database by it. */
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

  /** Leads new connections to another server and resets the open ones, as an address that moves does. */
  redirect(databaseUrl: string): void {
    this.#target = new URL(databaseUrl);
    this.reset();
  }

  /** Holds back what clients send; the server does not see it before {@link unblock}. */
  block(): void {
    this.#isBlocked = true;
    for (const { client } of this.#pairs) client.pause();
  }

  unblock(): void {
    this.#isBlocked = false;
    for (const { client } of this.#pairs) client.resume();
  }

  /** Resets the open connections; new ones are let through. */
  reset(): void {
    for (const pair of this.#pairs) this.#end(pair);
  }

  /** Lets the next request of each open connection through, and resets the connection instead of bringing its answer. */
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
