import { setImmediate as nextTurn } from 'node:timers/promises';

import { describe, expect, it, jest } from '@jest/globals';

import { RefreshPace } from './refresh-pace.js';

describe('RefreshPace', () => {
  it('lets one refresh start in each turn of the event loop while nobody reads', async () => {
    const pace = new RefreshPace(() => false, 4000);
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

  it('starts the first at once and keeps the others 4 ms apart while fresh tokens are read', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask'] });
    try {
      const pace = new RefreshPace(() => true, 4000);
      const started: number[] = [];
      for (let refresh = 0; refresh < 4; refresh++) void pace.turn().then(() => started.push(performance.now()));
      await jest.advanceTimersByTimeAsync(100);
      expect(started.map((time) => time - (started[0] ?? NaN))).toEqual([0, 4, 8, 12]);
    } finally {
      jest.useRealTimers();
    }
  });

  it('lets them keep less distance, the more of them wait', async () => {
    jest.useFakeTimers({ doNotFake: ['nextTick', 'queueMicrotask'] });
    try {
      const pace = new RefreshPace(() => true, 6);
      const started: number[] = [];
      for (let refresh = 0; refresh < 4; refresh++) void pace.turn().then(() => started.push(performance.now()));
      await jest.advanceTimersByTimeAsync(100);
      expect(started.map((time) => time - (started[0] ?? NaN))).toEqual([0, 2, 5, 9]);
    } finally {
      jest.useRealTimers();
    }
  });

  it('refuses those that wait and those that come when it has ended', async () => {
    const pace = new RefreshPace(() => true, 4000);
    const turns = [pace.turn(), pace.turn()];
    pace.end();
    await expect(Promise.all([...turns, pace.turn()])).resolves.toEqual([false, false, false]);
  });
});
