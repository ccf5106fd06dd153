const BODY_LIMIT_BYTES = 1024 * 1024;

/** One HTTP request of the module. */
export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly url: string;
  readonly headers: Record<string, string>;
  readonly body?: string;
}

/** What came back: a complete answer, or how far the request certainly got. */
export type HttpOutcome =
  | { readonly kind: 'answered'; readonly status: number; readonly headers: Headers; readonly body: string }
  /** No connection was made: the server saw nothing. */
  | { readonly kind: 'not-sent'; readonly code: string }
  /** The request may have been served, but its answer is lost. */
  | { readonly kind: 'lost'; readonly code: string };

/**
 * Sends a request once, with Node's fetch, and never rejects. The deadline covers everything from the connection to
 * the last byte of the body; redirects are answers, not followed; a body over 1 MiB counts as lost.
 */
export async function exchange({ url, method, headers, body }: HttpRequest, timeoutMs: number): Promise<HttpOutcome> {
  const { signal, clear } = deadline(timeoutMs);
  let isServed = false;
  try {
    const payload = body === undefined ? { headers } : readOnce(headers, body, performance.now() + timeoutMs);
    // Without credentials: with them, fetch of newer Node versions would send a request again whose answer is 401, and
    // fails because its body cannot be read twice.
    const response = await fetch(url, { method, ...payload, redirect: 'manual', credentials: 'omit', signal });
    isServed = true;
    const text = await readBody(response);
    if (text === undefined) return { kind: 'lost', code: 'BODY_TOO_LARGE' };
    return { kind: 'answered', status: response.status, headers: response.headers, body: text };
  } catch (error) {
    if (signal.aborted) return { kind: 'lost', code: 'TIMEOUT' };
    const code = transportCode(error);
    return { kind: !isServed && isBeforeSending(code) ? 'not-sent' : 'lost', code };
  } finally {
    clear();
  }
}

/**
 * Aborts when the time is over, but after what has arrived by then was read: a process that was stopped for longer than
 * the deadline finds its timer and the provider's answer due at once, and the answer may hold the only live token.
 */
function deadline(timeoutMs: number): { signal: AbortSignal; clear: () => void } {
  const controller = new AbortController();
  const timer = setTimeout(() => {
    setImmediate(() => {
      setImmediate(() => {
        controller.abort();
      });
    });
  }, timeoutMs);
  return {
    signal: controller.signal,
    clear: () => {
      clearTimeout(timer);
    },
  };
}

/**
 * A body that cannot be read twice, because after a 421 fetch sends a request again whose body it still has; and not
 * after the deadline, because a process that was stopped while it connected may no longer hold its lease.
 */
function readOnce(headers: Record<string, string>, body: string, deadlineAt: number): RequestInit {
  const bytes = new TextEncoder().encode(body);
  const stream = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        if (performance.now() >= deadlineAt) {
          controller.error(new Error('The deadline passed before the request was sent.'));
          return;
        }
        controller.enqueue(bytes);
        controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  return { headers: { ...headers, 'content-length': String(bytes.length) }, body: stream, duplex: 'half' };
}

async function readBody(response: Response): Promise<string | undefined> {
  if (!response.body) return '';
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > BODY_LIMIT_BYTES) return undefined; // leaving the loop cancels the stream
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function transportCode(error: unknown): string {
  const cause = property(error, 'cause');
  if (property(cause, 'message') === 'bad port') return 'BLOCKED_PORT'; // by fetch itself, for all of its users
  const code = property(cause, 'code');
  return typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? code : 'NETWORK_ERROR';
}

/** Not `instanceof Error`: in a vm context, such as a test runner's, the errors of fetch are of another realm. */
function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

/** Failures of name resolution, of the connection and of the TLS handshake: nothing of the request was sent. */
function isBeforeSending(code: string): boolean {
  return (
    ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'ENETUNREACH', 'EHOSTUNREACH'].includes(code) ||
    code === 'UND_ERR_CONNECT_TIMEOUT' ||
    code === 'BLOCKED_PORT' ||
    /CERT|SELF_SIGNED|UNABLE_TO_|^ERR_(SSL|TLS)_|^EPROTO$|^HOSTNAME_MISMATCH$/.test(code)
  );
}
