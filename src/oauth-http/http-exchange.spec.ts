import { afterEach, describe, expect, it, jest } from '@jest/globals';

import { exchange, type HttpOutcome } from './http-exchange.js';

const { fetch: nodeFetch } = globalThis;

afterEach(() => {
  globalThis.fetch = nodeFetch;
});

/** Exchanges a request that fetch rejects for this cause, as a dispatcher of the host may let it. */
async function rejectedFor(cause: object): Promise<HttpOutcome> {
  globalThis.fetch = jest.fn<typeof fetch>().mockRejectedValue(new TypeError('fetch failed', { cause }));
  return exchange({ method: 'POST', url: 'http://127.0.0.1/', headers: {}, body: 'a=1' }, 1000);
}

function failure(code: string, syscall?: string): Error {
  return Object.assign(new Error(code), { code, syscall });
}

function several(...errors: Error[]): AggregateError {
  return Object.assign(new AggregateError(errors), { code: 'ETIMEDOUT' });
}

describe('A request', () => {
  it.each<[string, Error, string]>([
    ['a connection attempt that timed out', failure('ETIMEDOUT', 'connect'), 'ETIMEDOUT'],
    ['a connection attempt that was reset', failure('ECONNRESET', 'connect'), 'ECONNRESET'],
    ['a name that cannot be resolved', failure('ETIMEOUT', 'getaddrinfo'), 'ETIMEOUT'],
    [
      'attempts at several addresses that all failed',
      several(failure('ETIMEDOUT', 'connect'), failure('ENETUNREACH', 'connect')),
      'ETIMEDOUT',
    ],
    ['the time limit of a connection attempt', failure('UND_ERR_CONNECT_TIMEOUT'), 'UND_ERR_CONNECT_TIMEOUT'],
  ])('was not sent after %s', async (_, cause, code) => {
    await expect(rejectedFor(cause)).resolves.toEqual({ kind: 'not-sent', code });
  });

  it.each<[string, Error, string]>([
    ['a connection that timed out while it was read', failure('ETIMEDOUT', 'read'), 'ETIMEDOUT'],
    ['a connection that was reset', failure('ECONNRESET', 'read'), 'ECONNRESET'],
    ['a connection that broke', failure('EPIPE', 'write'), 'EPIPE'],
    [
      'attempts of which one may have sent it',
      several(failure('ETIMEDOUT', 'connect'), failure('ETIMEDOUT', 'read')),
      'ETIMEDOUT',
    ],
    ['attempts without their errors', several(), 'ETIMEDOUT'],
    ['an answer that did not begin in time', failure('UND_ERR_HEADERS_TIMEOUT'), 'UND_ERR_HEADERS_TIMEOUT'],
    ['a failure without a code', new Error('x'), 'NETWORK_ERROR'],
  ])('may have been sent before %s', async (_, cause, code) => {
    await expect(rejectedFor(cause)).resolves.toEqual({ kind: 'lost', code });
  });

  it('is not sent after its deadline by a process that was stopped while it connected', async () => {
    const taken: number[] = [];
    globalThis.fetch = async (_, init) => {
      const reader = (init?.body as ReadableStream<Uint8Array>).getReader();
      const take = async () => taken.push((await reader.read()).value?.length ?? 0);
      await take();
      const stoppedUntil = performance.now() + 60;
      while (performance.now() < stoppedUntil); // as a stopped process, in which no timer fires
      await take();
      return new Response();
    };
    const request = { method: 'POST', url: 'http://127.0.0.1/', headers: {}, body: 'a=1' } as const;
    await expect(exchange(request, 50)).resolves.toMatchObject({ kind: 'not-sent' });
    await expect(exchange(request, 5000)).resolves.toMatchObject({ kind: 'answered' });
    expect(taken).toEqual([0, 0, 3]);
  });
});
