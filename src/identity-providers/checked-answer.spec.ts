import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import { accessTokenLifeAt } from './checked-answer.js';
import type { IdentityProvider } from './identity-provider.js';
import { completePolicy } from './refresh-policy.js';

beforeEach(() => {
  jest.useFakeTimers();
});

afterEach(() => {
  const left = jest.getTimerCount();
  jest.useRealTimers();
  expect(left).toBe(0);
});

/** A provider of the host that answers the question by this function. */
function provider(isAccessTokenAlive?: (accessToken: string) => unknown): IdentityProvider {
  // The mock of `refresh` has no type of its results, because nothing calls it.
  return { policy: completePolicy(), refresh: jest.fn(), isAccessTokenAlive } as unknown as IdentityProvider;
}

describe('accessTokenLifeAt', () => {
  it.each(['alive', 'dead', 'unknown'] as const)('passes on that a token is %s', async (life) => {
    const asked = jest.fn(() => Promise.resolve(life));
    await expect(accessTokenLifeAt(provider(asked), 'token')).resolves.toBe(life);
    expect(asked.mock.calls).toEqual([['token']]);
  });

  it('takes an answer that is no promise', async () => {
    await expect(
      accessTokenLifeAt(
        provider(() => 'dead'),
        'token',
      ),
    ).resolves.toBe('dead');
  });

  it('asks a provider as its own method', async () => {
    class Own {
      readonly policy = completePolicy();
      readonly refresh = jest.fn<IdentityProvider['refresh']>();
      readonly #life = 'alive' as const;
      isAccessTokenAlive() {
        return Promise.resolve(this.#life);
      }
    }
    await expect(accessTokenLifeAt(new Own(), 'token')).resolves.toBe('alive');
  });

  it.each<[string, (() => unknown) | undefined]>([
    ['cannot be asked', undefined],
    ['rejects', () => Promise.reject(new Error('token'))],
    [
      'throws',
      () => {
        throw new Error('token');
      },
    ],
    ['answers nothing', () => Promise.resolve(undefined)],
    ['answers null', () => Promise.resolve(null)],
    ['answers a yes', () => Promise.resolve(true)],
    ['answers a no', () => Promise.resolve(false)],
    ['answers in its own words', () => Promise.resolve('ALIVE')],
    ['answers an object', () => Promise.resolve({ kind: 'dead' })],
    [
      'answers a promise that breaks',
      () => ({
        then: () => {
          throw new Error('token');
        },
      }),
    ],
    [
      'has an answer that cannot be read',
      () =>
        Object.defineProperty({}, 'then', {
          get: () => {
            throw new Error('token');
          },
        }),
    ],
  ])('knows nothing from a provider that %s', async (_, asked) => {
    await expect(accessTokenLifeAt(provider(asked), 'token')).resolves.toBe('unknown');
  });

  it('knows nothing from a provider whose question cannot be read', async () => {
    const broken = Object.defineProperty(provider(), 'isAccessTokenAlive', {
      get: () => {
        throw new Error('token');
      },
    });
    await expect(accessTokenLifeAt(broken, 'token')).resolves.toBe('unknown');
  });

  it('waits six seconds for an answer, and no longer', async () => {
    let life: string | undefined;
    const asked = accessTokenLifeAt(
      provider(() => new Promise(() => undefined)),
      'token',
    ).then((known) => (life = known));
    await jest.advanceTimersByTimeAsync(5999);
    expect(life).toBeUndefined();
    await jest.advanceTimersByTimeAsync(1);
    expect(life).toBe('unknown');
    await asked;
  });

  it('takes an answer that comes just in time', async () => {
    const late = () => new Promise((resolve) => setTimeout(resolve, 5999, 'dead'));
    const asked = accessTokenLifeAt(provider(late), 'token');
    await jest.advanceTimersByTimeAsync(5999);
    await expect(asked).resolves.toBe('dead');
  });

  it('lets a rejection that comes too late harm nothing', async () => {
    const unhandled = jest.fn();
    process.on('unhandledRejection', unhandled);
    const late = () => new Promise((_, reject) => setTimeout(reject, 7000, new Error('token')));
    const asked = accessTokenLifeAt(provider(late), 'token');
    await jest.advanceTimersByTimeAsync(7000);
    await expect(asked).resolves.toBe('unknown');
    jest.useRealTimers();
    await new Promise((resolve) => setTimeout(resolve, 20));
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
    jest.useFakeTimers();
  });
});
