import { Injectable, Logger } from '@nestjs/common';

import { randomId } from '../crypto/random.js';
import type { AccessTokenLife } from '../identity-providers/identity-provider.js';
import { LEASE_MARGIN_MS } from '../identity-providers/refresh-policy.js';
import { within } from '../postgres/within.js';
import type { Lease } from '../storage/leases/lease.js';
import type { FailureKind } from '../storage/leases/leased.entity.js';
import { RefreshCommitter } from './refresh-committer.js';
import { RefreshDrain } from './refresh-drain.js';
import { RefreshTakeover } from './refresh-takeover.js';
import type { RedeemedTokens, Redemption, RefreshKind, RefreshResult, RefreshTarget } from './refresh-target.js';
import { RefreshOptions } from './refresh.options.js';

/**
 * A process that was stopped past its lease finds its timer and the provider's answer due at once: what has arrived by
 * then is read before the redeemer counts as overdue.
 */
const READING_GRACE_MS = 100;

/** What one attempt came to, and when it began in epoch seconds of the database. */
interface Attempt<Kind extends RefreshKind> {
  readonly redemption: Redemption<Kind>;
  readonly startedAt: number;
}

/** One lease, and what a refresh under it needs to know. */
interface Exchange<Kind extends RefreshKind> {
  readonly target: RefreshTarget<Kind>;
  readonly lease: Lease<Kind['row']>;
  readonly isRejected: boolean;
  /** Has the flight last until some tokens are stored. */
  readonly land: (storing: Promise<unknown>) => void;
}

/**
 * One exchange with the provider under a lease: redeem, then commit, or give the lease back. Holds no connection,
 * transaction or row lock while the provider is called.
 */
@Injectable()
export class RefreshExchange {
  readonly #logger = new Logger(RefreshExchange.name);

  constructor(
    private readonly committer: RefreshCommitter,
    private readonly takeover: RefreshTakeover,
    private readonly drain: RefreshDrain,
    private readonly options: RefreshOptions,
  ) {}

  /** @param land takes the work that goes on after the result: a second exchange must not start before it is done */
  async run<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    lease: Lease<Kind['row']>,
    isRejected: boolean,
    land: (storing: Promise<unknown>) => void,
  ): Promise<RefreshResult<Kind>> {
    const exchange = { target, lease, isRejected, land };
    const { exchangeTimeoutMs } = target.rules.policy;
    const mayStart = () => !this.drain.stopping.aborted && lease.leftMs() >= exchangeTimeoutMs + LEASE_MARGIN_MS;
    if (!mayStart()) {
      const cause = this.drain.stopping.aborted ? 'the application is shutting down' : 'the lease was granted too late';
      return this.#giveBack(exchange, unavailable(target, cause));
    }

    const first = await this.#redeemInTime(exchange);
    if (!first) return overdue(target);
    if (first.redemption.kind !== 'ambiguous') return this.#end(exchange, first);

    // With the answer lost, the old access token may tell whether there is anything left to send.
    if ((await this.#ask(exchange)) === 'dead') return this.takeover.end(target, lease);
    if (!target.mayResend || !mayStart()) return this.#end(exchange, first);

    // The only resend there is. The provider may have redeemed the token the first time, but then its answer is lost
    // for good and there is nothing left to lose. What the resend did not settle stays as ambiguous as it was.
    const second = await this.#redeemInTime(exchange);
    if (!second) return overdue(target);
    const isSettled = second.redemption.kind === 'success' || second.redemption.kind === 'terminal';
    return this.#end(exchange, isSettled ? second : first);
  }

  /** Redeems within the lease; a redeemer that overruns it still gets its success stored. */
  async #redeemInTime<Kind extends RefreshKind>(exchange: Exchange<Kind>): Promise<Attempt<Kind> | null> {
    const { target, lease } = exchange;
    const startedAt = lease.now();
    const pending = target.redeem(lease);
    const redemption =
      (await within(pending, lease.leftMs(), () => undefined)) ??
      (await within(pending, READING_GRACE_MS, () => undefined));
    if (redemption) return { redemption, startedAt };
    // The flight does not wait for it: a callback that never settles would keep the row from every other refresh.
    this.drain.track(
      pending.then((late) =>
        late.kind === 'success' ? this.committer.commit(target, redeemed(exchange, late.tokens, startedAt)) : undefined,
      ),
    );
    return null;
  }

  async #end<Kind extends RefreshKind>(
    exchange: Exchange<Kind>,
    { redemption, startedAt }: Attempt<Kind>,
  ): Promise<RefreshResult<Kind>> {
    const { target, lease } = exchange;
    switch (redemption.kind) {
      case 'success':
        return this.#commit(exchange, redeemed(exchange, redemption.tokens, startedAt), redemption.issued);
      case 'unchanged':
        return this.#giveBack(exchange, { kind: 'unchanged', row: lease.row });
      case 'abandoned':
        return this.#giveBack(exchange, { kind: 'abandoned', error: redemption.error });
      case 'terminal':
        return this.#reject(exchange, redemption.code);
      case 'configuration': {
        await this.#fail(exchange, 'configuration', redemption.code);
        const error = redemption.error ?? target.errorOf({ reason: 'misconfigured', code: redemption.code });
        return { kind: 'failed', error, mayServe: true };
      }
      case 'not-redeemed': {
        const backoffMs = await this.#fail(exchange, 'passing', redemption.code, redemption.retryAfterMs);
        return unavailable(target, `the provider did not serve the request (${redemption.code})`, true, backoffMs);
      }
      case 'ambiguous':
        return this.#endUnanswered(exchange, redemption.code);
    }
  }

  async #commit<Kind extends RefreshKind>(
    { target, lease, land }: Exchange<Kind>,
    tokens: RedeemedTokens<Kind>,
    issued: Kind['issued'],
  ): Promise<RefreshResult<Kind>> {
    const storing = this.committer.commit(target, tokens);
    land(storing);
    const outcome = await within(storing, this.options.commitWaitMs, () => undefined);
    if (outcome?.kind === 'replaced') return { kind: 'moved', row: outcome.row, issued };
    if (outcome?.kind === 'deleted') return { kind: 'moved', row: null, issued };
    if (!outcome) this.#logger.warn(`Callers get ${target.subject} that are not stored yet.`);
    // The lifetimes count from the sending of the request.
    const readAt = performance.now() - (lease.now() - tokens.successor.issuedAt) * 1000;
    return { kind: 'refreshed', row: { ...target.committed(tokens), readAt }, issued };
  }

  async #reject<Kind extends RefreshKind>({ target, lease }: Exchange<Kind>, errorCode: string) {
    const { leaseMs: quarantineMs } = target.rules.policy;
    const rejection = { leaseId: lease.id, seenVersion: lease.row.version, quarantineMs, errorCode, isCertain: false };
    const state = await target.leases.reject(target.key, rejection);
    // Without a state the lease or the version is another by now: the verdict is about tokens that were replaced.
    if (state) this.#warn(target, errorCode);
    return { kind: 'moved', row: await target.load() } as const;
  }

  /** The answer is lost. If the old access token is alive the refresh token is unspent; else the lease runs out. */
  async #endUnanswered<Kind extends RefreshKind>(exchange: Exchange<Kind>, code: string): Promise<RefreshResult<Kind>> {
    const { target, lease } = exchange;
    const life = await this.#ask(exchange);
    if (life === 'dead') return this.takeover.end(target, lease);
    const cause = `the provider's answer was lost (${code})`;
    if (life === 'alive') return unavailable(target, cause, true, await this.#fail(exchange, 'passing', code));
    this.#warn(target, code);
    // Without the note the lease runs out all the same, and its holder is waited for in vain.
    await target.leases.giveUp(target.key, lease.id, code).catch(() => undefined);
    return unavailable(target, cause, !target.rules.policy.refreshEndsAccessToken, Math.max(1, lease.leftMs()));
  }

  /** Asks the witness while the lease leaves the time to act on its answer. */
  async #ask<Kind extends RefreshKind>({ target, lease, isRejected }: Exchange<Kind>): Promise<AccessTokenLife> {
    if (lease.leftMs() <= LEASE_MARGIN_MS) return 'unknown';
    const life = await this.takeover.ask(target, lease.row);
    // An access token that was refused before the exchange may have been dead before it.
    return life === 'dead' && isRejected ? 'unknown' : life;
  }

  async #fail<Kind extends RefreshKind>(
    { target, lease }: Exchange<Kind>,
    failureKind: FailureKind,
    errorCode: string,
    retryAfterMs = 0,
  ): Promise<number> {
    const { backoffBaseMs, backoffMaxMs } = this.options;
    const exponential = Math.min(backoffBaseMs * 2 ** lease.row.failureCount, backoffMaxMs);
    const backoffMs = Math.max(retryAfterMs, exponential * (0.75 + Math.random() / 4));
    this.#warn(target, errorCode);
    await target.leases.release(target.key, { leaseId: lease.id, failureKind, errorCode, backoffMs });
    return backoffMs;
  }

  async #giveBack<Kind extends RefreshKind>(
    { target, lease }: Exchange<Kind>,
    result: RefreshResult<Kind>,
  ): Promise<RefreshResult<Kind>> {
    const end = { leaseId: lease.id, failureKind: null, errorCode: null, backoffMs: null };
    // A lease that cannot be given back runs out by itself; the result says more than that failure would.
    await target.leases.release(target.key, end).catch(() => undefined);
    return result;
  }

  #warn<Kind extends RefreshKind>({ subject }: RefreshTarget<Kind>, code: string): void {
    this.#logger.warn(`Refresh of the ${subject} failed: ${code}`);
  }
}

/** Only the redeemer knows how its exchange ends; its lease runs out. */
function overdue<Kind extends RefreshKind>(target: RefreshTarget<Kind>): RefreshResult<Kind> {
  const mayServe = !target.rules.policy.refreshEndsAccessToken;
  return unavailable(target, 'the provider did not answer within the lease', mayServe);
}

function unavailable<Kind extends RefreshKind>(
  target: RefreshTarget<Kind>,
  cause: string,
  mayServe = true,
  retryAfterMs?: number,
): RefreshResult<Kind> {
  return { kind: 'failed', error: target.errorOf({ reason: 'unavailable', cause, retryAfterMs }), mayServe };
}

function redeemed<Kind extends RefreshKind>(
  { target, lease: { row }, isRejected }: Exchange<Kind>,
  tokens: Kind['tokens'],
  issuedAt: number,
): RedeemedTokens<Kind> {
  const successor = {
    version: randomId(),
    redeemedVersion: row.version,
    issuedAt,
    clientId: target.clientIdOf(row),
    rejections: isRejected ? Math.min(row.rejections + 1, 32_767) : 0,
  };
  return { rowId: row.id, successor: { ...tokens, ...successor } };
}
