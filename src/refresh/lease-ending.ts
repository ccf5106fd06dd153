import { Injectable, Logger } from '@nestjs/common';

import type { Lease } from '../storage/leases/lease.js';
import { ACCESS_TOKEN_DEAD, type FailureKind } from '../storage/leases/leased.entity.js';
import type { RefreshKind, RefreshResult, RefreshTarget } from './refresh-target.js';
import { RefreshSettings } from './refresh.options.js';

/** How long the module does not ask a witness again after an unknown answer. */
const WITNESS_BACKOFF_MS = 60_000;
const UNDECIDED = 'WITNESS_UNKNOWN';

/** Ends leases that led to no tokens. */
@Injectable()
export class LeaseEnding {
  readonly #logger = new Logger(LeaseEnding.name);

  constructor(private readonly settings: RefreshSettings) {}

  /**
   * Gives the lease back, because the process sent nothing, or because only the redeemer knows what it sent. Returns
   * `result` also when the release fails.
   */
  async giveBack<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id: leaseId }: Lease<Kind['row']>,
    result: RefreshResult<Kind>,
  ): Promise<RefreshResult<Kind>> {
    const end = { leaseId, failureKind: null, errorCode: null, backoffMs: null };
    await target.leases.release(target.key, end).catch(() => undefined); // the lease expires by itself
    return result;
  }

  /**
   * Gives the lease back when the refresh token is certainly not redeemed. No process tries again before a pause is
   * over. Returns this pause in milliseconds.
   */
  async fail<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id: leaseId, row }: Lease<Kind['row']>,
    failureKind: FailureKind,
    errorCode: string,
    retryAfterMs = 0,
  ): Promise<number> {
    const { backoffBaseMs, backoffMaxMs } = this.settings;
    const exponential = Math.min(backoffBaseMs * 2 ** row.failureCount, backoffMaxMs);
    const backoffMs = Math.max(retryAfterMs, exponential * (0.75 + Math.random() / 4));
    this.#warn(target, errorCode);
    await target.leases.release(target.key, { leaseId, failureKind, errorCode, backoffMs });
    return backoffMs;
  }

  /**
   * Notes in the row that the outcome is unknown. The row keeps the lease until it expires, and callers do not wait for
   * that.
   */
  async giveUp<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id }: Lease<Kind['row']>,
    errorCode: string,
  ): Promise<void> {
    this.#warn(target, errorCode);
    // Without the note the lease expires as well, but callers wait for its holder in vain.
    await target.leases.giveUp(target.key, id, errorCode).catch(() => undefined);
  }

  /**
   * Gives the lease back when the witness cannot tell whether the refresh token is spent. No process asks the witness
   * again before `WITNESS_BACKOFF_MS` is over. Meanwhile a process takes the row over only if the access token has
   * expired, if the API of the provider rejected it, or if it never expires.
   */
  async postpone<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id: leaseId }: Lease<Kind['row']>,
  ): Promise<RefreshResult<Kind>> {
    const failure = { failureKind: 'undecided', errorCode: UNDECIDED, backoffMs: WITNESS_BACKOFF_MS } as const;
    await target.leases.release(target.key, { leaseId, ...failure });
    return { kind: 'moved', row: await target.load() };
  }

  /**
   * Records that the provider rejected the refresh token. The grant ends, or the row is in quarantine because an
   * earlier lease is still open.
   */
  reject<Kind extends RefreshKind>(target: RefreshTarget<Kind>, lease: Lease<Kind['row']>, errorCode: string) {
    return this.#record(target, lease, errorCode, false);
  }

  /**
   * Records that the refresh token is spent and its successor is lost, because the old access token is dead. A late
   * commit makes the grant active again.
   */
  declareSpent<Kind extends RefreshKind>(target: RefreshTarget<Kind>, lease: Lease<Kind['row']>) {
    return this.#record(target, lease, ACCESS_TOKEN_DEAD, true);
  }

  async #record<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id: leaseId, row }: Lease<Kind['row']>,
    errorCode: string,
    isCertain: boolean,
  ): Promise<RefreshResult<Kind>> {
    const { leaseMs: quarantineMs } = target.rules.policy;
    const rejection = { leaseId, seenVersion: row.version, quarantineMs, errorCode, isCertain };
    const state = await target.leases.reject(target.key, rejection);
    // Without a state the row has another lease or another version by now, so the verdict does not count.
    if (state) this.#warn(target, errorCode);
    return { kind: 'moved', row: await target.load() };
  }

  #warn<Kind extends RefreshKind>({ subject }: RefreshTarget<Kind>, code: string): void {
    this.#logger.warn(`Refresh of the ${subject} failed: ${code}`);
  }
}
