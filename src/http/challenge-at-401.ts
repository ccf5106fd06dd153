import type { ServerResponse } from 'node:http';

import { property } from './request-of-call.js';

/**
 * Gives the answer of a response the header `WWW-Authenticate` if its status will be 401, and if it has no such header
 * by then. So an error that somebody catches leaves no header behind. It works for the responses of Express and of
 * Fastify, also with HTTP/2. Every other response stays as it is.
 *
 * @see RFC 9110 section 11.6.1
 */
export function challengeAt401(response: object, challenge: string): void {
  const raw = property(response, 'raw') ?? response;
  if (!isNodeResponse(raw)) return;
  const writeHead: unknown = Reflect.get(raw, 'writeHead');
  if (typeof writeHead !== 'function') return;
  // Node.js has no event before the headers. Every way to send them calls this method, with the status in force.
  Reflect.set(raw, 'writeHead', (...args: unknown[]): unknown => {
    if (args[0] === 401 && !raw.hasHeader('WWW-Authenticate')) raw.setHeader('WWW-Authenticate', challenge);
    const head: unknown = Reflect.apply(writeHead, raw, args);
    return head;
  });
}

function isNodeResponse(value: unknown): value is Pick<ServerResponse, 'hasHeader' | 'setHeader'> {
  return ['hasHeader', 'setHeader'].every((name) => typeof property(value, name) === 'function');
}
