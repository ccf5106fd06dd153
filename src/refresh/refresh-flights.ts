import { Injectable } from '@nestjs/common';

import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { LeasedRefresh } from './leased-refresh.js';
import { RefreshDrain } from './refresh-drain.js';
import type { RefreshKind, RefreshRequest, RefreshResult, RefreshTarget } from './refresh-target.js';

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
 * Runs the single flight of each row: all callers of this process that find the row stale share one refresh. The flight
 * belongs to none of them. It ends when it has no pending commit.
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
   * Joins the refresh of a row, or starts one. The refresh runs outside of every transaction, and goes on when a caller
   * no longer waits for it. If a flight refreshes another version of the row, the caller waits for its end and gets the
   * row that is stored then.
   *
   * @param source names what redeems for this caller, for example the provider or a callback
   * @returns the result, and the source that redeemed for it
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
    // The name of the row contains its table, so the flight has the kind of this target.
    if (underWay) return underWay as { source: string; result: Promise<RefreshResult<Kind>> };
    const request = { isRejected };
    const refresh = this.scope.detached(() => this.leasedRefresh.refresh(target, stale, request));
    const end = () => this.#flights.delete(target.name);
    // Callers that get a moved row start the next flight at once, so this one must have ended before they get it.
    const result = refresh.then((outcome) => {
      if (!pendingCommitOf(outcome)) end();
      return outcome;
    });
    const settled = result.then((outcome) => pendingCommitOf(outcome)?.then(end, end));
    this.#flights.set(target.name, { source, version: stale.version, request, result, settled });
    this.drain.track(settled);
    return { source, result };
  }
}

function pendingCommitOf(outcome: RefreshResult<RefreshKind>): Promise<unknown> | undefined {
  return outcome.kind === 'refreshed' ? outcome.pendingCommit : undefined;
}
