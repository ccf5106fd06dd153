import { Injectable } from '@nestjs/common';

import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { LeasedRefresh } from './leased-refresh.js';
import { RefreshDrain } from './refresh-drain.js';
import type { RefreshInFlight, RefreshKind, RefreshRequest, RefreshResult, RefreshTarget } from './refresh-target.js';

/** A refresh that callers of this process share. */
interface Flight {
  readonly source: string;
  /** The version that is refreshed. */
  readonly version: string;
  readonly request: RefreshRequest;
  readonly result: Promise<unknown>;
  readonly settled: Promise<unknown>;
}

/**
 * The single flight in front of the leases: all callers of this process who find one row stale share one refresh. It
 * belongs to none of them, and ends when its tokens are stored.
 */
@Injectable()
export class RefreshFlights {
  readonly #flights = new Map<string, Flight>();

  constructor(
    private readonly leasedRefresh: LeasedRefresh,
    private readonly scope: QueryRunnerScope,
    private readonly drain: RefreshDrain,
  ) {}

  /** Whether a refresh of this version of a row is under way in this process. */
  has(name: string, version: string): boolean {
    return this.#flights.get(name)?.version === version;
  }

  /**
   * Joins the refresh of a row, or starts it: outside of every transaction, and independent of the caller's wait. The
   * refresh of tokens that a login has replaced meanwhile is only waited for.
   *
   * @param source on whose behalf the token is redeemed
   * @returns the result, and on whose behalf it was redeemed
   */
  join<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    stale: Kind['row'],
    isRejected: boolean,
    source: string,
  ): { readonly source: string; readonly result: Promise<RefreshResult<Kind>> } {
    const underWay = this.#flights.get(target.name);
    if (underWay && underWay.version !== stale.version) {
      const result = underWay.settled
        .then(async (): Promise<RefreshResult<Kind>> => ({ kind: 'moved', row: await target.load() }))
        .catch((error: unknown): RefreshResult<Kind> => ({ kind: 'failed', error }));
      return { source, result };
    }
    if (underWay) underWay.request.isRejected ||= isRejected;
    // The name says the table, and with it the kind.
    if (underWay) return underWay as { source: string; result: Promise<RefreshResult<Kind>> };
    const request = { isRejected };
    const { result, settled }: RefreshInFlight<Kind> = this.scope.detached(() =>
      this.leasedRefresh.start(target, stale, request),
    );
    const over = settled.finally(() => this.#flights.delete(target.name));
    this.#flights.set(target.name, { source, version: stale.version, request, result, settled: over });
    this.drain.track(over);
    return { source, result };
  }
}
