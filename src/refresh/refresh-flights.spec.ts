import { beforeEach, describe, expect, it } from '@jest/globals';

import type { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import type { LeasedRefresh } from './leased-refresh.js';
import type { RefreshDrain } from './refresh-drain.js';
import { RefreshFlights } from './refresh-flights.js';
import type { RefreshKind, RefreshRequest, RefreshResult, RefreshTarget } from './refresh-target.js';

/** One refresh that was started, to be ended by the test. */
interface Started {
  readonly version: string;
  readonly request: RefreshRequest;
  end(result: RefreshResult<RefreshKind>): void;
}

const started: Started[] = [];
const leasedRefresh = {
  refresh(_target: RefreshTarget<RefreshKind>, { version }: RefreshKind['row'], request: RefreshRequest) {
    const { promise, resolve: end } = withResolvers<RefreshResult<RefreshKind>>();
    started.push({ version, request, end });
    return promise;
  },
};

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((settle) => (resolve = settle));
  return { promise, resolve };
}

const row = (version: string) => ({ version }) as RefreshKind['row'];
const target = { name: 'auth_tokens:ada', load: () => Promise.resolve(row('2')) } as RefreshTarget<RefreshKind>;

let flights: RefreshFlights;

beforeEach(() => {
  started.length = 0;
  // Stand-ins that have only what a flight uses.
  flights = new RefreshFlights(
    leasedRefresh as unknown as LeasedRefresh,
    { detached: <T>(work: () => T) => work() } as QueryRunnerScope,
    { track: () => undefined } as unknown as RefreshDrain,
  );
});

describe('RefreshFlights', () => {
  it('start one refresh for all callers who find one version stale, until its commit is no longer pending', async () => {
    const first = flights.join(target, row('1'), false, 'provider');
    const second = flights.join(target, row('1'), false, 'callback');
    expect(started).toHaveLength(1);
    expect(second).toMatchObject({ source: 'provider', result: first.result });
    const { promise: pendingCommit, resolve: commit } = withResolvers<undefined>();
    started[0]?.end({ kind: 'refreshed', row: row('2'), issued: undefined, pendingCommit });
    await first.result;
    expect(flights.has(target.name, '1')).toBe(true);
    expect(flights.join(target, row('1'), false, 'provider').result).toBe(first.result);
    commit(undefined);
    await new Promise(setImmediate);
    expect(flights.has(target.name, '1')).toBe(false);
    void flights.join(target, row('1'), false, 'provider');
    expect(started).toHaveLength(2);
  });

  it('end before their callers get a moved row, so that these callers share the next flight', async () => {
    const callers = [1, 2, 3].map(async () => {
      await flights.join(target, row('1'), false, 'provider').result;
      return flights.join(target, row('2'), false, 'provider').result;
    });
    started[0]?.end({ kind: 'moved', row: row('2') });
    await new Promise(setImmediate);
    expect(started.map(({ version }) => version)).toEqual(['1', '2']);
    started[1]?.end({ kind: 'refreshed', row: row('3'), issued: undefined });
    await expect(Promise.all(callers)).resolves.toMatchObject([
      { row: row('3') },
      { row: row('3') },
      { row: row('3') },
    ]);
  });

  it('tell versions apart: a caller with another one waits for the end and gets the row as it is then', async () => {
    void flights.join(target, row('1'), false, 'provider');
    expect(flights.has(target.name, '2')).toBe(false);
    const { result } = flights.join(target, row('2'), true, 'provider');
    let isSettled = false;
    void result.then(() => (isSettled = true));
    const { promise: pendingCommit, resolve: commit } = withResolvers<undefined>();
    started[0]?.end({ kind: 'refreshed', row: row('1a'), issued: undefined, pendingCommit });
    await new Promise(setImmediate);
    expect(isSettled).toBe(false);
    commit(undefined);
    await expect(result).resolves.toEqual({ kind: 'moved', row: row('2') });
    expect(started).toMatchObject([{ version: '1', request: { isRejected: false } }]);
  });

  it('let a caller who joins report that the access token was refused', () => {
    void flights.join(target, row('1'), false, 'provider');
    void flights.join(target, row('1'), true, 'provider');
    void flights.join(target, row('1'), false, 'provider');
    expect(started).toMatchObject([{ request: { isRejected: true } }]);
  });
});
