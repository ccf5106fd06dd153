import { Injectable, Logger } from '@nestjs/common';

import type { Lease } from '../storage/leases/lease.js';
import type { FailureKind } from '../storage/leases/leased.entity.js';
import type { RefreshKind, RefreshResult, RefreshTarget } from './refresh-target.js';
import { RefreshSettings } from './refresh.options.js';

/** How long a witness that does not know is not asked again. */
const WITNESS_BACKOFF_MS = 60_000;
/** Stored when the old access token is dead before its time. */
const SPENT = 'ACCESS_TOKEN_DEAD';
const UNDECIDED = 'WITNESS_UNKNOWN';

/** The ways in which a lease ends that brought no tokens. */
@Injectable()
export class LeaseEnding {
  readonly #logger = new Logger(LeaseEnding.name);

  constructor(private readonly settings: RefreshSettings) {}

  /** Nothing was sent, or only the redeemer knows: the lease goes back, and `result` says more than its failing would. */
  async giveBack<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id: leaseId }: Lease<Kind['row']>,
    result: RefreshResult<Kind>,
  ): Promise<RefreshResult<Kind>> {
    const end = { leaseId, failureKind: null, errorCode: null, backoffMs: null };
    await target.leases.release(target.key, end).catch(() => undefined); // it runs out by itself
    return result;
  }

  /** The token was certainly not redeemed: no process tries again before a pause, whose milliseconds are returned. */
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

  /** The answer is lost: the lease runs out, and callers do not wait for its end. */
  async giveUp<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id }: Lease<Kind['row']>,
    errorCode: string,
  ): Promise<void> {
    this.#warn(target, errorCode);
    // Without the note the lease runs out all the same, and its holder is waited for in vain.
    await target.leases.giveUp(target.key, id, errorCode).catch(() => undefined);
  }

  /**
   * Nothing tells what became of an exchange: the row stays as it is until its witness may be asked again, or its access token
   * expires; one that never expires is decided on by the refresh token at once.
   */
  async postpone<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id: leaseId }: Lease<Kind['row']>,
  ): Promise<RefreshResult<Kind>> {
    const failure = { failureKind: 'undecided', errorCode: UNDECIDED, backoffMs: WITNESS_BACKOFF_MS } as const;
    await target.leases.release(target.key, { leaseId, ...failure });
    return { kind: 'moved', row: await target.load() };
  }

  /** The provider rejected the token: the grant has ended, unless leases before make the verdict doubtful. */
  reject<Kind extends RefreshKind>(target: RefreshTarget<Kind>, lease: Lease<Kind['row']>, errorCode: string) {
    return this.#record(target, lease, errorCode, false);
  }

  /** The old access token is dead, so the refresh token is spent and its successor lost. A late commit brings it back. */
  declareSpent<Kind extends RefreshKind>(target: RefreshTarget<Kind>, lease: Lease<Kind['row']>) {
    return this.#record(target, lease, SPENT, true);
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
    // Without a state the lease or the version is another by now: the verdict is about tokens that were replaced.
    if (state) this.#warn(target, errorCode);
    return { kind: 'moved', row: await target.load() };
  }

  #warn<Kind extends RefreshKind>({ subject }: RefreshTarget<Kind>, code: string): void {
    this.#logger.warn(`Refresh of the ${subject} failed: ${code}`);
  }
}
