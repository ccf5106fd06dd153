import { describe, expect, it } from '@jest/globals';

import { clockFinding } from './check-clock.js';

describe('clockFinding', () => {
  it.each([
    [900, 1, 'ok'],
    [-900, 1, 'ok'],
    [1500, 1, 'warning'],
    [-1500, 1, 'warning'],
    // The answer took three seconds, so the clocks may agree.
    [1500, 1500, 'ok'],
    [29_000, 1, 'warning'],
    [31_000, 1, 'fault'],
    [-31_000, 1, 'fault'],
  ])('judges a clock that is %i ms ahead, give or take %i ms, as %s', (aheadMs, uncertainMs, level) => {
    expect(clockFinding({ aheadMs, uncertainMs }, 900).level).toBe(level);
  });

  it('says which clock is ahead', () => {
    const message = (aheadMs: number) => clockFinding({ aheadMs, uncertainMs: 0 }, 900).message;
    expect(message(3_600_000)).toBe('The clock of this machine is 3,600 s ahead of that of the database.');
    expect(message(-5000)).toBe('The clock of this machine is 5 s behind that of the database.');
  });

  it('is stricter than 30 s where the leeway is shorter', () => {
    expect(clockFinding({ aheadMs: 6000, uncertainMs: 0 }, 5).level).toBe('fault');
    expect(clockFinding({ aheadMs: 6000, uncertainMs: 0 }, 900).level).toBe('warning');
  });
});
