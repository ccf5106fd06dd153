import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';

/** An HTTP proxy that can reach one server, under any name. It records what it is asked for. */
export interface ForwardProxy {
  readonly url: string;
  /** `CONNECT host:port` or `POST http://host:port/path` of every request, in their order. */
  readonly asked: string[];
  /** The HTTP status with which the proxy refuses every tunnel; undefined if it opens them. */
  refusal: number | undefined;
  close(): Promise<void>;
}

/**
 * Starts a proxy that opens tunnels (CONNECT) and forwards requests with an absolute URL. Both lead to a port of the
 * loopback interface, because the names that the tests ask for exist nowhere else.
 */
export async function startForwardProxy(targetPort: number): Promise<ForwardProxy> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((incoming, response) => {
    asked.push(`${incoming.method ?? ''} ${incoming.url ?? ''}`);
    forward(incoming, response, targetPort);
  });
  server.on('connection', (socket) => sockets.add(socket));
  server.on('connect', (incoming, client: Socket, head: Buffer) => {
    asked.push(`CONNECT ${incoming.url ?? ''}`);
    if (proxy.refusal !== undefined) {
      client.end(`HTTP/1.1 ${proxy.refusal} Refused\r\n\r\n`);
      return;
    }
    const upstream = connect(targetPort, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      upstream.write(head);
      upstream.pipe(client).pipe(upstream);
    });
    sockets.add(upstream);
    for (const socket of [client, upstream]) socket.on('error', () => socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy: ForwardProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    refusal: undefined,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
  return proxy;
}

function forward(incoming: IncomingMessage, response: ServerResponse, port: number): void {
  const { method, headers } = incoming;
  const path = new URL(incoming.url ?? '/', 'http://proxy.invalid').pathname;
  const outgoing = request({ host: '127.0.0.1', port, method, path, headers }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
  outgoing.on('error', () => response.destroy());
  incoming.pipe(outgoing);
}
