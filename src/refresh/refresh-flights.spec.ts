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
  settle(): void;
}

const started: Started[] = [];
const leasedRefresh = {
  start(_target: RefreshTarget<RefreshKind>, stale: RefreshKind['row'], request: RefreshRequest) {
    const { promise: result, resolve: end } = withResolvers<RefreshResult<RefreshKind>>();
    const { promise: settled, resolve } = withResolvers<undefined>();
    started.push({
      version: stale.version,
      request,
      end,
      settle: () => {
        resolve(undefined);
      },
    });
    return { result, settled };
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
    started[0]?.end({ kind: 'refreshed', row: row('2'), issued: undefined });
    await first.result;
    expect(flights.has(target.name, '1')).toBe(true);
    expect(flights.join(target, row('1'), false, 'provider').result).toBe(first.result);
    started[0]?.settle();
    await Promise.resolve().then(() => Promise.resolve());
    expect(flights.has(target.name, '1')).toBe(false);
    void flights.join(target, row('1'), false, 'provider');
    expect(started).toHaveLength(2);
  });

  it('tell versions apart: a caller with another one waits for the end and gets the row as it is then', async () => {
    void flights.join(target, row('1'), false, 'provider');
    expect(flights.has(target.name, '2')).toBe(false);
    const { result } = flights.join(target, row('2'), true, 'provider');
    let isSettled = false;
    void result.then(() => (isSettled = true));
    started[0]?.end({ kind: 'failed', error: new Error('of version 1') });
    await new Promise(setImmediate);
    expect(isSettled).toBe(false);
    started[0]?.settle();
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
