import { Injectable, Logger } from '@nestjs/common';

import { randomId } from '../crypto/random.js';
import { LEASE_MARGIN_MS, type RefreshPolicy } from '../identity-providers/refresh-policy.js';
import {
  ProviderMisconfiguredError,
  ReauthenticationRequiredError,
  RefreshUnavailableError,
} from '../tokens.errors.js';
import type { AuthTokensRow, Lease } from '../storage/auth-tokens/auth-tokens.row.js';
import { AuthTokensTable, type RefreshedPair } from '../storage/auth-tokens/auth-tokens.table.js';
import type { AuthTokensKey, RefreshedTokens } from '../storage/auth-tokens/auth-tokens.types.js';
import type { Redeem, Redemption } from './redeemer.js';
import { RefreshOptions } from './refresh.options.js';
import { RefreshedPairCommitter } from './refreshed-pair.committer.js';
import { within } from '../postgres/within.js';

/** How one refresh ended, for everybody who waited for it. */
export type RefreshResult = (
  | { readonly kind: 'refreshed'; readonly row: AuthTokensRow }
  /** The redeemer decided to keep the pair. */
  | { readonly kind: 'unchanged'; readonly row: AuthTokensRow }
  /** Somebody else replaced the row, or deleted it. */
  | { readonly kind: 'moved'; readonly row: AuthTokensRow | null }
  /** A passing failure does not keep a token from being used that still works. */
  | { readonly kind: 'failed'; readonly error: unknown; readonly isPassing: boolean }
  /** The redeemer gave up, for a reason of its own. */
  | { readonly kind: 'abandoned'; readonly error: unknown }
) & {
  /** Settles when the refreshed pair stands in the database, if it does not yet: until then nobody may start again. */
  readonly landing?: Promise<unknown>;
  /** Settles when a redeemer that overran its lease has an answer, and its success is stored. */
  readonly late?: Promise<unknown>;
};

/** Marks in `last_error_code` that the provider refused the application, so that those who come in the backoff are told. */
export const CONFIGURATION_PREFIX = 'configuration:';

/** A failure that keeps nobody from using a token that still works. */
export function passing(error: unknown): RefreshResult {
  return { kind: 'failed', error, isPassing: true };
}

/**
 * A process that was stopped past its lease finds its timer and the provider's answer due at once: what has arrived by
 * then is read before the redeemer counts as overdue.
 */
const READING_GRACE_MS = 100;

/**
 * One exchange with the provider under a lease: redeem, then commit, or give the lease back. Holds no connection,
 * transaction or row lock while the provider is called.
 */
@Injectable()
export class RefreshExchange {
  readonly #logger = new Logger(RefreshExchange.name);

  constructor(
    private readonly table: AuthTokensTable,
    private readonly committer: RefreshedPairCommitter,
    private readonly options: RefreshOptions,
  ) {}

  async run(key: AuthTokensKey, lease: Lease, redeem: Redeem, policy: RefreshPolicy): Promise<RefreshResult> {
    const hasTime = () => lease.leftMs() >= policy.exchangeTimeoutMs + LEASE_MARGIN_MS;
    if (!hasTime()) return this.#giveBack(key, lease, unavailable(key, 'the lease was granted too late'));

    const first = await this.#redeemInTime(key, lease, redeem);
    if ('late' in first) return first;
    if (first.redemption.kind !== 'ambiguous' || !hasTime()) return this.#end(key, lease, first, policy);

    // The only resend there is. The provider may have redeemed the token the first time, but then its answer is lost
    // for good and there is nothing left to lose. What the resend did not settle stays as ambiguous as it was.
    const second = await this.#redeemInTime(key, lease, redeem);
    if ('late' in second) return second;
    const isSettled = second.redemption.kind === 'success' || second.redemption.kind === 'terminal';
    return this.#end(key, lease, isSettled ? second : first, policy);
  }

  /** Redeems within the lease; a redeemer that overruns it still gets its success stored. */
  async #redeemInTime(
    key: AuthTokensKey,
    lease: Lease,
    redeem: Redeem,
  ): Promise<Attempt | (RefreshResult & { late: Promise<unknown> })> {
    const startedAt = lease.now();
    const pending = redeem(lease);
    const redemption =
      (await within(pending, lease.leftMs(), () => undefined)) ??
      (await within(pending, READING_GRACE_MS, () => undefined));
    if (redemption) return { redemption, startedAt };
    const late = pending.then((answer) =>
      answer.kind === 'success' ? this.committer.commit(key, pairOf(answer.tokens, lease, startedAt)) : undefined,
    );
    return { ...unavailable(key, 'the provider did not answer within the lease'), late };
  }

  async #end(
    key: AuthTokensKey,
    lease: Lease,
    { redemption, startedAt }: Attempt,
    policy: RefreshPolicy,
  ): Promise<RefreshResult> {
    switch (redemption.kind) {
      case 'success':
        return this.#commit(key, pairOf(redemption.tokens, lease, startedAt));
      case 'unchanged':
        return this.#giveBack(key, lease, { kind: 'unchanged', row: lease.row });
      case 'abandoned':
        return this.#giveBack(key, lease, { kind: 'abandoned', error: redemption.error });
      case 'terminal':
        return this.#reject(key, lease, redemption.code, policy);
      case 'configuration': {
        const error = new ProviderMisconfiguredError(key, redemption.code);
        await this.#fail(key, lease, CONFIGURATION_PREFIX + redemption.code);
        return passing(error);
      }
      case 'not-redeemed': {
        const backoffMs = await this.#fail(key, lease, redemption.code, redemption.retryAfterMs);
        return unavailable(key, `the provider did not serve the request (${redemption.code})`, backoffMs);
      }
      case 'ambiguous':
        this.#warn(key, redemption.code);
        await this.table.holdOff(key, lease, redemption.code);
        return unavailable(key, `the provider's answer was lost (${redemption.code})`, Math.max(0, lease.leftMs()));
    }
  }

  async #commit(key: AuthTokensKey, pair: RefreshedPair): Promise<RefreshResult> {
    const landing = this.committer.commit(key, pair);
    const outcome = await within(landing, this.options.commitWaitMs, () => undefined);
    if (outcome?.kind === 'replaced') return { kind: 'moved', row: outcome.row };
    if (outcome?.kind === 'deleted') return { kind: 'moved', row: null };
    if (!outcome) {
      this.#logger.warn(`User "${key.keycloakUserId}" gets tokens of "${key.idp}" that are not stored yet.`);
    }
    return { kind: 'refreshed', row: rowOf(pair), landing };
  }

  async #reject(key: AuthTokensKey, lease: Lease, code: string, { leaseMs }: RefreshPolicy): Promise<RefreshResult> {
    const status = await this.table.reject(key, lease, { code, quarantineMs: leaseMs });
    // Not our lease or version any more: the verdict is about a token that somebody else has replaced or holds.
    if (!status) return { kind: 'moved', row: await this.table.loadCommitted(key) };
    this.#warn(key, code);
    if (status === 'active') return unavailable(key, `"${code}" may be due to a race and is being watched`, leaseMs);
    const error = new ReauthenticationRequiredError(key, 'refresh_rejected');
    return { kind: 'failed', error, isPassing: false };
  }

  async #fail(key: AuthTokensKey, lease: Lease, code: string, retryAfterMs = 0): Promise<number> {
    const { backoffBaseMs, backoffMaxMs } = this.options;
    const exponential = Math.min(backoffBaseMs * 2 ** lease.failureCount, backoffMaxMs);
    const backoffMs = Math.max(retryAfterMs, exponential * (0.75 + Math.random() / 4));
    this.#warn(key, code);
    await this.table.release(key, lease, { code, backoffMs });
    return backoffMs;
  }

  async #giveBack(key: AuthTokensKey, lease: Lease, result: RefreshResult): Promise<RefreshResult> {
    // A lease that cannot be given back runs out by itself; the result says more than that failure would.
    await this.table.release(key, lease).catch(() => undefined);
    return result;
  }

  #warn({ keycloakUserId, idp }: AuthTokensKey, code: string): void {
    this.#logger.warn(`Refresh for user "${keycloakUserId}" at identity provider "${idp}" failed: ${code}`);
  }
}

function unavailable(key: AuthTokensKey, cause: string, retryAfterMs?: number): RefreshResult {
  return passing(new RefreshUnavailableError(key, cause, retryAfterMs));
}

/** What one attempt came to, and when it began in epoch seconds of the database. */
interface Attempt {
  readonly redemption: Redemption;
  readonly startedAt: number;
}

function pairOf(tokens: RefreshedTokens, lease: Lease, issuedAt: number): RefreshedPair {
  return { ...tokens, version: randomId(), parentVersion: lease.row.tokens.version, rowId: lease.row.id, issuedAt };
}

/** The row as the commit leaves it. */
function rowOf({ parentVersion, rowId, issuedAt, ...tokens }: RefreshedPair): AuthTokensRow {
  const validFor = (expiresAt: number) => (expiresAt === 0 ? Infinity : expiresAt - issuedAt);
  return {
    tokens,
    parentVersion,
    status: 'active',
    id: rowId,
    accessTokenValidForSeconds: validFor(tokens.accessTokenExpiresAt),
    refreshTokenValidForSeconds: validFor(tokens.refreshTokenExpiresAt),
    accessTokenLifetimeSeconds: validFor(tokens.accessTokenExpiresAt),
    leasedForMs: 0,
    hasDeadLease: false,
    isUnanswered: false,
    backingOffForMs: 0,
    suspectForMs: 0,
    lastErrorCode: null,
  };
}
