import { describe, expect, it } from '@jest/globals';

import { retryAfter } from './retry-after.js';

describe('Retry-After', () => {
  it.each<[string, Record<string, string>, number | undefined]>([
    ['seconds', { 'retry-after': '120' }, 120_000],
    ['no seconds', { 'retry-after': '0' }, 0],
    ['seconds beyond an hour', { 'retry-after': '86400' }, 3_600_000],
    ['seconds beyond any number', { 'retry-after': '9'.repeat(400) }, 3_600_000],
    [
      'a date, measured by the clock of the provider',
      { 'retry-after': 'Wed, 21 Oct 2015 07:28:30 GMT', date: 'Wed, 21 Oct 2015 07:28:00 GMT' },
      30_000,
    ],
    [
      'a date that has passed',
      { 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT', date: 'Wed, 21 Oct 2015 07:29:00 GMT' },
      0,
    ],
    [
      'a date of tomorrow',
      { 'retry-after': 'Thu, 22 Oct 2015 07:28:00 GMT', date: 'Wed, 21 Oct 2015 07:28:00 GMT' },
      3_600_000,
    ],
    ['a word', { 'retry-after': 'soon' }, undefined],
    ['a date beside a broken clock', { 'retry-after': 'Wed, 21 Oct 2015 07:28:30 GMT', date: 'x' }, undefined],
    ['nothing', { 'retry-after': '' }, undefined],
    ['no header', {}, undefined],
  ])('is read from %s', (_, headers, milliseconds) => {
    expect(retryAfter(new Headers(headers))).toBe(milliseconds);
  });

  it('is measured by the own clock when the provider does not tell its time', () => {
    const inAMinute = new Date(Date.now() + 60_000).toUTCString();
    const pause = retryAfter(new Headers({ 'retry-after': inAMinute }));
    expect(pause).toBeGreaterThan(50_000);
    expect(pause).toBeLessThanOrEqual(61_000);
  });
});
