import { describe, expect, it } from '@jest/globals';

import { replicationFinding } from './check-durability.js';

const on = { synchronousCommit: 'on', synchronousNames: 'standby' };

describe('replicationFinding', () => {
  it.each([
    ['no standby', { ...on, synchronousNames: '', standbys: [] }, 'ok'],
    ['an asynchronous standby', { ...on, synchronousNames: '', standbys: ['async'] }, 'warning'],
    ['a standby whose state is hidden, and no name', { ...on, synchronousNames: '', standbys: [null] }, 'warning'],
    ['a synchronous standby', { ...on, standbys: ['async', 'sync'] }, 'ok'],
    ['a quorum', { ...on, standbys: ['quorum', 'quorum'] }, 'ok'],
    ['standbys whose state is hidden', { ...on, standbys: [null] }, 'ok'],
    [
      'a synchronous standby for which commits do not wait',
      { ...on, synchronousCommit: 'local', standbys: ['sync'] },
      'warning',
    ],
    ['a name that no standby has', { ...on, standbys: ['async'] }, 'fault'],
    ['a name, and no standby', { ...on, standbys: [] }, 'fault'],
  ])('judges %s', (_, seen, level) => {
    expect(replicationFinding(seen).level).toBe(level);
  });
});
