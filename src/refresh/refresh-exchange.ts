import { Injectable, Logger } from '@nestjs/common';

import type { AccessTokenLife } from '../identity-providers/identity-provider.js';
import { LEASE_MARGIN_MS } from '../identity-providers/refresh-policy.js';
import { randomId } from '../postgres/random-id.js';
import type { Lease } from '../storage/leases/lease.js';
import { within } from '../within.js';
import { LeaseEnding } from './lease-ending.js';
import { RefreshCommitter } from './refresh-committer.js';
import { RefreshDrain } from './refresh-drain.js';
import { RefreshTakeover } from './refresh-takeover.js';
import {
  failed,
  type NewTokens,
  type ExchangeOutcome,
  type RefreshKind,
  type RefreshResult,
  type RefreshTarget,
  shuttingDown,
} from './refresh-target.js';
import { RefreshSettings } from './refresh.options.js';

/**
 * How long the process waits for an answer that has arrived, after the lease expired. The operating system can stop a
 * process until its lease has expired. When the process goes on, its timer is due, and the answer of the provider may
 * be there unread. The process reads this answer before it treats the redeemer as overdue.
 */
const READING_GRACE_MS = 100;

/** The outcome of one attempt, and when the attempt began, in epoch seconds of the database. */
interface Attempt<Kind extends RefreshKind> {
  readonly outcome: ExchangeOutcome<Kind>;
  readonly startedAt: number;
}

/** One lease, and the data of the refresh under it. */
interface Exchange<Kind extends RefreshKind> {
  readonly target: RefreshTarget<Kind>;
  readonly lease: Lease<Kind['row']>;
  readonly isRejected: boolean;
}

/**
 * Runs one exchange with the provider under a lease: redeems the refresh token, and then commits the new tokens or ends
 * the lease. Holds no connection, transaction or row lock while it calls the provider.
 */
@Injectable()
export class RefreshExchange {
  readonly #logger = new Logger(RefreshExchange.name);

  constructor(
    private readonly committer: RefreshCommitter,
    private readonly ending: LeaseEnding,
    private readonly takeover: RefreshTakeover,
    private readonly drain: RefreshDrain,
    private readonly settings: RefreshSettings,
  ) {}

  async run<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    lease: Lease<Kind['row']>,
    isRejected: boolean,
  ): Promise<RefreshResult<Kind>> {
    const exchange = { target, lease, isRejected };
    const { exchangeTimeoutMs } = target.rules.policy;
    const hasTime = () => lease.leftMs() >= exchangeTimeoutMs + LEASE_MARGIN_MS;
    if (!this.drain.mayStart()) return this.ending.giveBack(target, lease, shuttingDown(target));
    if (!hasTime()) {
      return this.ending.giveBack(target, lease, unavailable(target, 'PostgreSQL granted the lease too late'));
    }

    const first = await this.#redeemWithinLease(exchange);
    if (!first) return overdue(target);
    if (first.outcome.kind !== 'ambiguous') return this.#end(exchange, first);

    // The answer is lost. The witness may tell that the refresh token is spent. A second request is then useless.
    const life = await this.#ask(exchange);
    const mayResend = target.mayResend && life !== 'dead' && this.drain.mayStart() && hasTime();
    if (!mayResend) return this.#endOutcomeUnknown(exchange, first.outcome.code, life);

    // The process sends the refresh token a second time, and never a third time. The provider may have redeemed it the
    // first time. Then the answer is lost for good, and there is nothing left to lose. If the second attempt ends
    // neither in new tokens nor in a rejection, the outcome stays unknown.
    const second = await this.#redeemWithinLease(exchange);
    if (!second) return overdue(target);
    const isSettled = second.outcome.kind === 'success' || second.outcome.kind === 'terminal';
    if (isSettled) return this.#end(exchange, second);
    return this.#endOutcomeUnknown(exchange, first.outcome.code, await this.#ask(exchange));
  }

  /**
   * Redeems within the lease. Returns null when the redeemer takes longer. The process then still commits a late
   * success.
   */
  async #redeemWithinLease<Kind extends RefreshKind>(exchange: Exchange<Kind>): Promise<Attempt<Kind> | null> {
    const { target, lease } = exchange;
    const startedAt = lease.now();
    const pending = target.redeem(lease);
    const outcome =
      (await within(pending, lease.leftMs(), () => undefined)) ??
      (await within(pending, READING_GRACE_MS, () => undefined));
    if (outcome) return { outcome, startedAt };
    // The flight does not wait for the redeemer, because a callback that never settles would block every other refresh
    // of the row in this process.
    this.drain.track(
      pending.then((late) =>
        late.kind === 'success'
          ? this.committer.commit(target, redeemed(exchange, late.tokens, startedAt), lease)
          : undefined,
      ),
    );
    return null;
  }

  async #end<Kind extends RefreshKind>(
    exchange: Exchange<Kind>,
    { outcome, startedAt }: Attempt<Kind>,
  ): Promise<RefreshResult<Kind>> {
    const { target, lease } = exchange;
    switch (outcome.kind) {
      case 'success':
        return this.#commit(exchange, redeemed(exchange, outcome.tokens, startedAt), outcome.issued);
      case 'unchanged':
        return this.ending.giveBack(target, lease, { kind: 'unchanged', row: lease.row });
      case 'threw':
        return this.ending.giveBack(target, lease, { kind: 'threw', error: outcome.error });
      case 'terminal':
        return this.ending.reject(target, lease, outcome.code);
      case 'configuration': {
        await this.ending.fail(target, lease, 'configuration', outcome.code);
        return {
          kind: 'failed',
          error: outcome.error ?? target.errorOf({ reason: 'misconfigured', code: outcome.code }),
        };
      }
      case 'not-redeemed': {
        const { code, retryAfterMs } = outcome;
        const backoffMs = await this.ending.fail(target, lease, 'transient', code, retryAfterMs);
        return unavailable(target, `the provider did not serve the request (${code})`, backoffMs);
      }
      case 'ambiguous':
        return this.#endOutcomeUnknown(exchange, outcome.code, 'unknown');
    }
  }

  async #commit<Kind extends RefreshKind>(
    { target, lease }: Exchange<Kind>,
    tokens: NewTokens<Kind>,
    issued: Kind['issued'],
  ): Promise<RefreshResult<Kind>> {
    const commit = this.committer.commit(target, tokens, lease);
    const outcome = await within(commit, this.settings.commitWaitMs, () => undefined);
    if (outcome?.kind === 'replaced') return { kind: 'moved', row: outcome.row, issued };
    if (outcome?.kind === 'deleted') return { kind: 'moved', row: null, issued };
    const row = target.committed(tokens, lease.now());
    if (outcome) return { kind: 'refreshed', row, issued };
    this.#logger.warn(`Callers get ${target.subject} that are not stored yet.`);
    return { kind: 'refreshed', row, issued, pendingCommit: commit };
  }

  /**
   * Ends a lease whose answer is lost. If the old access token is dead, the refresh token is spent. If it is alive, the
   * refresh token is unspent, and a later try can succeed. Otherwise the lease expires.
   */
  async #endOutcomeUnknown<Kind extends RefreshKind>(
    { target, lease }: Exchange<Kind>,
    code: string,
    life: AccessTokenLife,
  ): Promise<RefreshResult<Kind>> {
    if (life === 'dead') return this.ending.declareSpent(target, lease);
    const cause = `the provider's answer was lost (${code})`;
    if (life === 'alive') return unavailable(target, cause, await this.ending.fail(target, lease, 'transient', code));
    await this.ending.giveUp(target, lease, code);
    return unavailable(target, cause, Math.max(1, lease.leftMs()));
  }

  /** Asks the witness if the lease leaves the time to act on its answer. */
  async #ask<Kind extends RefreshKind>({ target, lease }: Exchange<Kind>): Promise<AccessTokenLife> {
    return lease.leftMs() > LEASE_MARGIN_MS ? this.takeover.ask(target, lease.row) : 'unknown';
  }
}

/** The process lets the lease expire, because only the redeemer knows how its exchange ends. */
function overdue<Kind extends RefreshKind>(target: RefreshTarget<Kind>): RefreshResult<Kind> {
  return unavailable(target, 'the provider did not answer within the lease');
}

function unavailable<Kind extends RefreshKind>(target: RefreshTarget<Kind>, cause: string, retryAfterMs?: number) {
  return failed(target, { reason: 'unavailable', cause, retryAfterMs });
}

function redeemed<Kind extends RefreshKind>(
  { target, lease: { row }, isRejected }: Exchange<Kind>,
  tokens: Kind['tokens'],
  issuedAt: number,
): NewTokens<Kind> {
  const successor = {
    version: randomId(),
    redeemedVersion: row.version,
    issuedAt,
    clientId: target.clientIdOf(row),
    rejections: isRejected ? Math.min(row.rejections + 1, 32_767) : 0,
  };
  return { redeemed: row, successor: { ...tokens, ...successor } };
}
