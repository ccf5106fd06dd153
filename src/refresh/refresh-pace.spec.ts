import { setImmediate as nextTurn } from 'node:timers/promises';

import { describe, expect, it, jest } from '@jest/globals';

import { RefreshPace } from './refresh-pace.js';

/** Asks for many refreshes at once. Returns when each of them starts, in milliseconds after the first. */
async function startsWhileReading(refreshes: number, longestWaitMs: number): Promise<number[]> {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask'] });
  try {
    const pace = new RefreshPace(() => true, longestWaitMs, new AbortController().signal);
    const started: number[] = [];
    for (let refresh = 0; refresh < refreshes; refresh++) void pace.turn().then(() => started.push(performance.now()));
    await jest.advanceTimersByTimeAsync(2 * longestWaitMs);
    return started.map((time) => time - (started[0] ?? NaN));
  } finally {
    jest.useRealTimers();
  }
}

describe('RefreshPace', () => {
  it('lets one refresh start in each turn of the event loop while nobody reads', async () => {
    const pace = new RefreshPace(() => false, 4000, new AbortController().signal);
    const started: number[] = [];
    const all = Promise.all([1, 2, 3].map((refresh) => pace.turn().then(() => started.push(refresh))));
    const seen: number[][] = [];
    while (started.length < 3) {
      seen.push([...started]);
      await nextTurn();
    }
    await all;
    expect(started).toEqual([1, 2, 3]);
    expect(seen).toContainEqual([1]);
    expect(seen).toContainEqual([1, 2]);
  });

  it('starts groups of 16, 32 ms apart, while fresh tokens are read', async () => {
    expect(await startsWhileReading(40, 4000)).toEqual([
      ...Array<number>(16).fill(0),
      ...Array<number>(16).fill(32),
      ...Array<number>(8).fill(64),
    ]);
  });

  it('starts larger groups, the more wait, so that all have started in time', async () => {
    const starts = await startsWhileReading(4000, 1000);
    expect(starts).toHaveLength(4000);
    expect(Math.max(...starts)).toBeLessThanOrEqual(1000);
    expect(starts.filter((time) => time === 0).length).toBeLessThan(200);
  });

  it('refuses those that wait and those that come when it has ended', async () => {
    const stopping = new AbortController();
    const pace = new RefreshPace(() => true, 4000, stopping.signal);
    const turns = [pace.turn(), pace.turn()];
    stopping.abort();
    await expect(Promise.all([...turns, pace.turn()])).resolves.toEqual([false, false, false]);
  });
});
