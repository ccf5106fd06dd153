import { describe, expect, it } from '@jest/globals';

import { serverFinding } from './check-server.js';

const seen = { major: 18, version: '18.4', roundTripMs: 0.26, place: 'database "app", role "app"' };

describe('serverFinding', () => {
  it.each([
    [12, 'fault'],
    [13, 'ok'],
    [18, 'ok'],
    [19, 'warning'],
  ])('judges PostgreSQL %i as %s', (major, level) => {
    expect(serverFinding({ ...seen, major }).level).toBe(level);
  });

  it('warns of a server that is far away', () => {
    expect(serverFinding({ ...seen, roundTripMs: 50 }).level).toBe('ok');
    expect(serverFinding({ ...seen, roundTripMs: 51 })).toMatchObject({
      level: 'warning',
      message: 'PostgreSQL 18.4, database "app", role "app", 51.0 ms for a round trip.',
    });
  });
});
