const BODY_LIMIT_BYTES = 1024 * 1024;
/** The message of undici for a proxy that opens no tunnel. Neither undici nor Node.js has a code for it. */
const PROXY_REFUSAL = /^Proxy response \((\d{3})\)/;

/** One HTTP request of the module. */
export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly url: string;
  readonly headers: Record<string, string>;
  readonly body?: string;
}

/** The result of a request: a complete answer, or whether the server may have served the request. */
export type HttpOutcome =
  | { readonly kind: 'answered'; readonly status: number; readonly headers: Headers; readonly body: string }
  /** The server received nothing of the request, because no connection with it was ready. */
  | { readonly kind: 'not-sent'; readonly code: string }
  /** The outcome is unknown: the server may have served the request, but its answer is lost. */
  | { readonly kind: 'lost'; readonly code: string };

/**
 * Sends a request once, with Node's fetch, and never rejects. The deadline of `timeoutMs` covers everything from the
 * connection to the last byte of the body. The function returns a redirect as an answer and does not follow it.
 * An answer whose body is larger than 1 MiB counts as lost.
 */
export async function exchange({ url, method, headers, body }: HttpRequest, timeoutMs: number): Promise<HttpOutcome> {
  const { signal, clear } = deadline(timeoutMs);
  const payload = body === undefined ? undefined : new ReadOnceBody(body, performance.now() + timeoutMs);
  let isServed = false;
  try {
    // Without `credentials: 'omit'`, the fetch of newer Node versions sends a request again after a 401. It would then
    // fail, because it cannot read the body twice.
    const init = { method, headers, redirect: 'manual', credentials: 'omit', signal } as const;
    const response = await fetch(url, payload ? payload.addTo(init) : init);
    isServed = true;
    const text = await readBody(response);
    if (text === undefined) return { kind: 'lost', code: 'BODY_TOO_LARGE' };
    return { kind: 'answered', status: response.status, headers: response.headers, body: text };
  } catch (error) {
    const code = signal.aborted ? 'TIMEOUT' : transportCode(error);
    // If fetch did not look at the body, or there is none, only the error tells how far the request came.
    const isUnsent = payload?.isSeen ? !payload.isTaken : !signal.aborted && isBeforeSending(property(error, 'cause'));
    return { kind: isUnsent && !isServed ? 'not-sent' : 'lost', code };
  } finally {
    clear();
  }
}

/**
 * Returns a signal that aborts after `timeoutMs`, but not before the process has read the bytes that arrived by then.
 * An operating system can stop a process for longer than the deadline. When the process continues, its timer is due and
 * the provider's answer has arrived. The timer alone would abort before the answer is read, and the answer may contain
 * the only live token. So the signal waits for two more turns of the event loop, in which the process reads the answer.
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
 * A body that fetch can read only once and not after the deadline. Only once, because after a 421 fetch sends a request
 * again if it still has the body. Not after the deadline, because a process that was stopped while it connected may not
 * hold its lease any more.
 *
 * The first chunk is empty, because fetch reads one chunk ahead. It reads the second chunk when a connection is ready,
 * with its TLS session, and writes the request to it. So the server has nothing that it can serve before that.
 */
class ReadOnceBody {
  /** Whether fetch has looked at the body. A fetch of the host that fails by itself may not do so. */
  isSeen = false;
  /** Whether fetch has taken the content, so that a connection may have sent it. */
  isTaken = false;
  readonly #bytes: Uint8Array;
  readonly #stream: ReadableStream<Uint8Array>;

  constructor(text: string, deadlineAt: number) {
    this.#bytes = new TextEncoder().encode(text);
    let isAhead = true;
    this.#stream = new ReadableStream<Uint8Array>(
      {
        pull: (controller) => {
          if (isAhead) {
            isAhead = false;
            controller.enqueue(new Uint8Array(0));
          } else if (performance.now() >= deadlineAt) {
            controller.error(new Error('The deadline passed before the request was sent.'));
          } else {
            this.isTaken = true;
            controller.enqueue(this.#bytes);
            controller.close();
          }
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** Returns the settings of a request with this body. */
  addTo({ headers, ...init }: Omit<RequestInit, 'headers'> & Pick<HttpRequest, 'headers'>): RequestInit {
    const see = (): ReadableStream<Uint8Array> => {
      this.isSeen = true;
      return this.#stream;
    };
    return {
      ...init,
      headers: { ...headers, 'content-length': String(this.#bytes.length) },
      duplex: 'half',
      get body() {
        return see();
      },
    };
  }
}

async function readBody(response: Response): Promise<string | undefined> {
  if (!response.body) return '';
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > BODY_LIMIT_BYTES) return undefined; // the end of the loop cancels the stream
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function transportCode(error: unknown): string {
  const cause = property(error, 'cause');
  if (property(cause, 'message') === 'bad port') return 'BLOCKED_PORT'; // fetch itself refuses this port
  const refusal = PROXY_REFUSAL.exec(String(property(property(cause, 'cause'), 'message')));
  if (refusal) return `PROXY_${refusal[1] ?? ''}`;
  const code = property(cause, 'code');
  return typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? code : 'NETWORK_ERROR';
}

/**
 * Returns a property of any value. `instanceof Error` is no alternative, because in a vm context, such as a test
 * runner's, the errors of fetch are of another realm.
 */
function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

/**
 * Returns whether a request failed in the name resolution, the connection, the tunnel of a proxy or the TLS handshake.
 * Nothing of the request was sent then. An attempt at several addresses fails with the errors of all of them.
 */
function isBeforeSending(cause: unknown): boolean {
  const errors = property(cause, 'errors');
  if (Array.isArray(errors) && errors.length > 0) return errors.every((error) => isBeforeSending(error));
  const code = property(cause, 'code');
  const text = typeof code === 'string' ? code : '';
  return (
    ['connect', 'getaddrinfo'].includes(property(cause, 'syscall') as string) ||
    property(cause, 'message') === 'bad port' ||
    ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'ENETUNREACH', 'EHOSTUNREACH'].includes(text) ||
    ['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_PRX_TLS'].includes(text) ||
    PROXY_REFUSAL.test(String(property(property(cause, 'cause'), 'message'))) ||
    /CERT|SELF_SIGNED|UNABLE_TO_|^ERR_(SSL|TLS)_|^EPROTO$|^HOSTNAME_MISMATCH$/.test(text)
  );
}
