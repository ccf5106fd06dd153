import { setTimeout as delay } from 'node:timers/promises';

import { Injectable } from '@nestjs/common';

import { randomId } from '../crypto/random.js';
import type { RefreshPolicy } from '../identity-providers/refresh-policy.js';
import {
  ProviderMisconfiguredError,
  RefreshInProgressError,
  RefreshUnavailableError,
  TokenStoreUnavailableError,
} from '../tokens.errors.js';
import type { AuthTokensRow, Lease } from '../storage/auth-tokens/auth-tokens.row.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import type { AuthTokensKey } from '../storage/auth-tokens/auth-tokens.types.js';
import type { Redeem } from './redeemer.js';
import { RefreshOptions } from './refresh.options.js';
import { CONFIGURATION_PREFIX, passing, RefreshExchange, type RefreshResult } from './refresh-exchange.js';
import { RefreshPace } from './refresh-pace.js';

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1000;

/** What a refresh starts from. */
export interface StaleRow {
  readonly key: AuthTokensKey;
  readonly row: AuthTokensRow;
  /** Whether the provider's API refused the access token. */
  readonly isRejected: boolean;
}

/**
 * Gets a stale row refreshed: takes its lease and runs the exchange, or waits for whoever holds the lease, by looking
 * at the row now and then. Waiting never ends in redeeming without the lease. Never rejects.
 */
@Injectable()
export class LeasedRefresh {
  readonly #pace: RefreshPace;

  constructor(
    private readonly table: AuthTokensTable,
    private readonly exchange: RefreshExchange,
    private readonly options: RefreshOptions,
  ) {
    this.#pace = new RefreshPace(() => table.isReading, options.waitTimeoutMs / 2);
  }

  async run(stale: StaleRow, redeem: Redeem, policy: RefreshPolicy): Promise<RefreshResult> {
    try {
      return await this.#leaseOrWait(stale, redeem, policy);
    } catch (error) {
      return passing(error);
    }
  }

  /** Starts nothing more; what is under way goes on. */
  stop(): void {
    this.#pace.end();
  }

  async #leaseOrWait(stale: StaleRow, redeem: Redeem, policy: RefreshPolicy): Promise<RefreshResult> {
    const { key } = stale;
    const deadline = performance.now() + this.options.waitTimeoutMs;
    let { row } = stale;
    let isHolderGone = policy.takeoverDelayMs === 0;
    for (let attempt = 0; ; attempt++) {
      const mayTry = !refusalOf(key, row) && row.leasedForMs === 0 && !isLockedUp(row, stale, policy);
      if (mayTry && row.hasDeadLease && !row.isUnanswered && !isHolderGone) {
        isHolderGone = true;
        await delay(policy.takeoverDelayMs);
      } else {
        if (mayTry) {
          if (!(await this.#pace.turn())) return passing(shuttingDown(key));
          const lease = await this.#acquire(stale, policy);
          if (lease) return this.exchange.run(key, lease, redeem, policy);
          const current = await this.table.loadCommitted(key);
          if (!isStill(stale, current)) return { kind: 'moved', row: current };
          row = current;
        }
        const refusal = refusalOf(key, row);
        if (refusal) return passing(refusal);
        const isPointless = row.leasedForMs > 0 ? canServeMeanwhile(stale, policy) : isLockedUp(row, stale, policy);
        const pause = pauseMs(attempt);
        if (isPointless || performance.now() + pause >= deadline) return passing(new RefreshInProgressError(key));
        await delay(pause);
      }
      const current = await this.table.loadCommitted(key);
      if (!isStill(stale, current)) return { kind: 'moved', row: current };
      row = current;
    }
  }

  async #acquire({ key, row, isRejected }: StaleRow, policy: RefreshPolicy): Promise<Lease | null> {
    const lease = {
      id: randomId(),
      leaseMs: policy.leaseMs,
      seenVersion: row.tokens.version,
      mayTakeOver: mayTakeOver(policy, isRejected),
    };
    try {
      return await this.table.acquire(key, lease);
    } catch (error) {
      if (!(error instanceof TokenStoreUnavailableError)) throw error;
      // The lease may have been granted and only its answer lost: asking again under the same id finds it.
      return this.table.acquire(key, lease);
    }
  }
}

/** Why nothing is refreshed any more. */
export function shuttingDown(key: AuthTokensKey): RefreshUnavailableError {
  return new RefreshUnavailableError(key, 'the application is shutting down');
}

/** Whether a row is the stale one yet: not replaced, not deleted, its grant not ended. */
function isStill(stale: StaleRow, row: AuthTokensRow | null): row is AuthTokensRow {
  return row?.tokens.version === stale.row.tokens.version && row.status === 'active';
}

/** Why nobody may refresh this row now, if so. */
function refusalOf(key: AuthTokensKey, row: AuthTokensRow): Error | undefined {
  const { backingOffForMs, suspectForMs, lastErrorCode } = row;
  if (backingOffForMs > 0) {
    if (lastErrorCode?.startsWith(CONFIGURATION_PREFIX)) {
      return new ProviderMisconfiguredError(key, lastErrorCode.slice(CONFIGURATION_PREFIX.length));
    }
    return new RefreshUnavailableError(key, `the last try failed (${lastErrorCode ?? 'unknown'})`, backingOffForMs);
  }
  if (suspectForMs > 0) {
    return new RefreshUnavailableError(
      key,
      `"${lastErrorCode ?? ''}" may be due to a race and is being watched`,
      suspectForMs,
    );
  }
  return undefined;
}

/** Whether callers get the old access token while another process refreshes: it works and outlives the refresh. */
export function canServeMeanwhile({ row, isRejected }: StaleRow, policy: RefreshPolicy): boolean {
  return policy.oldAccessTokenSurvives && !isRejected && row.accessTokenValidForSeconds > 0;
}

/**
 * Whether a dead lease may be taken over although the access token is valid. A single-use refresh token that may have
 * been redeemed is not worth the risk then: sent again, it would end the grant.
 */
function mayTakeOver({ replayWindowMs }: RefreshPolicy, isRejected: boolean): boolean {
  return replayWindowMs > 0 || isRejected;
}

/** Whether waiting is of no use because nobody may refresh this row before its access token has expired. */
function isLockedUp(row: AuthTokensRow, { isRejected }: StaleRow, policy: RefreshPolicy): boolean {
  return row.hasDeadLease && row.accessTokenValidForSeconds > 0 && !mayTakeOver(policy, isRejected);
}

/** Full jitter on a doubling pause. */
function pauseMs(attempt: number): number {
  const longest = Math.min(FIRST_PAUSE_MS * 2 ** (attempt + 1), LONGEST_PAUSE_MS);
  return FIRST_PAUSE_MS + Math.random() * (longest - FIRST_PAUSE_MS);
}
