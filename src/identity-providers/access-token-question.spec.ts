import { afterEach, describe, expect, it, jest } from '@jest/globals';

import { accessTokenLife, lifeByStatus } from './access-token-question.js';

const QUESTION = {
  request: (accessToken: string) =>
    ({ method: 'POST', url: 'https://idp.example/', headers: {}, body: accessToken }) as const,
  meaning: lifeByStatus(404),
};

afterEach(() => {
  jest.restoreAllMocks();
});

/** Makes `fetch` give one answer to each request: a number is a status, a text is the code of a failure. */
function network(...answers: (number | string)[]) {
  return jest.spyOn(globalThis, 'fetch').mockImplementation(() => {
    const next = answers.shift();
    if (typeof next === 'number') return Promise.resolve(new Response('', { status: next }));
    return Promise.reject(new TypeError('fetch failed', { cause: { code: next } }));
  });
}

describe('A question about an access token', () => {
  it.each([
    [200, 'alive'],
    [404, 'dead'],
    [500, 'unknown'],
  ])('is put a second time when the first was certainly not sent, and %i is its answer', async (status, life) => {
    const fetched = network('ECONNREFUSED', status);
    await expect(accessTokenLife(QUESTION, 'token', 1000)).resolves.toBe(life);
    expect(fetched).toHaveBeenCalledTimes(2);
  });

  it('is put twice at most', async () => {
    const fetched = network('ECONNREFUSED', 'EAI_AGAIN', 200);
    await expect(accessTokenLife(QUESTION, 'token', 1000)).resolves.toBe('unknown');
    expect(fetched).toHaveBeenCalledTimes(2);
  });

  it.each(['ECONNRESET', 'UND_ERR_SOCKET', 'ETIMEDOUT'])('is put once when it may have been sent: %s', async (code) => {
    const fetched = network(code, 200);
    await expect(accessTokenLife(QUESTION, 'token', 1000)).resolves.toBe('unknown');
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it('is not put a second time when its time is over', async () => {
    const clock = [0, 0, 1000];
    jest.spyOn(performance, 'now').mockImplementation(() => clock.shift() ?? 1000);
    const fetched = network('ECONNREFUSED', 200);
    await expect(accessTokenLife(QUESTION, 'token', 1000)).resolves.toBe('unknown');
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it('has one deadline for both requests', async () => {
    let requests = 0;
    jest.spyOn(globalThis, 'fetch').mockImplementation((_, { signal } = {}) => {
      const isFirst = ++requests === 1;
      return new Promise((_resolve, reject) => {
        const fail = () => {
          reject(new TypeError('fetch failed', { cause: { code: 'ECONNREFUSED' } }));
        };
        if (isFirst) setTimeout(fail, 900);
        signal?.addEventListener('abort', fail);
      });
    });
    const before = performance.now();
    await expect(accessTokenLife(QUESTION, 'token', 1000)).resolves.toBe('unknown');
    expect(performance.now() - before).toBeLessThan(1500);
    expect(requests).toBe(2);
  });
});
