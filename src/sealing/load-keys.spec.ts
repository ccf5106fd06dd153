import { describe, expect, it } from '@jest/globals';

import { loadKeys } from './load-keys.js';

const keys = [{ id: 'k', secret: 'a secret' }];

function failing(error: unknown): () => never {
  return () => {
    throw error;
  };
}

describe('loadKeys', () => {
  it('returns what a function returns, at once or later', async () => {
    await expect(loadKeys(() => keys)).resolves.toEqual({ keys });
    await expect(loadKeys(() => Promise.resolve(keys))).resolves.toEqual({ keys });
  });

  it.each([
    ['an error', new Error('the secret'), 'Error'],
    ['an error with a code', Object.assign(new TypeError('the secret'), { code: 'ENOENT' }), 'TypeError (ENOENT)'],
    [
      'an error whose name and code may be secrets',
      Object.assign(new Error('the secret'), { name: 'the secret', code: 'the secret/1' }),
      'something that is no error',
    ],
    ['a text', 'the secret', 'something that is no error'],
    ['nothing', undefined, 'something that is no error'],
  ])('says that it failed, without the message, when it throws or rejects with %s', async (_, error, described) => {
    const fault = `encryption.keys could not get the keys, because it threw ${described}`;
    await expect(loadKeys(failing(error))).resolves.toEqual({ fault });
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- a host may reject with anything
    await expect(loadKeys(() => Promise.reject(error))).resolves.toEqual({ fault });
  });

  it('gives up after the deadline', async () => {
    const never = new Promise<never>(() => undefined);
    await expect(loadKeys(() => never, 20)).resolves.toEqual({
      fault: 'encryption.keys did not return the keys within 0.02 s',
    });
  });
});
