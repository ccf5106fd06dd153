import { AsyncLocalStorage } from 'node:async_hooks';
import { subscribe } from 'node:diagnostics_channel';

/** What Node's fetch has done with a request so far. */
export interface SendingTrace {
  /** Whether the request has a place in a connection or in the queue for one. */
  isQueued: boolean;
  /** Whether a connection took a part of the request. The connection has its TLS session by then. */
  isSent: boolean;
}

const current = new AsyncLocalStorage<SendingTrace>();
const traces = new WeakMap<object, SendingTrace>();
let isListening = false;

/**
 * Listens to what undici, on which fetch is built, publishes about each request of the process. `bodySent` is the only
 * one of the two that early versions publish over HTTP/2.
 *
 * @see https://undici.nodejs.org/#/docs/api/DiagnosticsChannel
 */
function listen(): void {
  if (isListening) return;
  isListening = true;
  subscribe('undici:request:create', (message) => {
    const request = requestIn(message);
    const trace = current.getStore();
    // The tunnel to a proxy has a request of its own. It contains nothing of the traced one.
    if (!trace || !request || Reflect.get(request, 'method') === 'CONNECT') return;
    trace.isQueued = true;
    traces.set(request, trace);
  });
  for (const event of ['undici:client:sendHeaders', 'undici:request:bodySent']) {
    subscribe(event, (message) => {
      const request = requestIn(message);
      const trace = request && traces.get(request);
      if (trace) trace.isSent = true;
    });
  }
}

/** Runs `send`, and traces the request that it makes. */
export function traced<T>(trace: SendingTrace, send: () => Promise<T>): Promise<T> {
  listen();
  return current.run(trace, send);
}

function requestIn(message: unknown): object | undefined {
  const request: unknown =
    typeof message === 'object' && message !== null ? Reflect.get(message, 'request') : undefined;
  return typeof request === 'object' && request !== null ? request : undefined;
}
