import { setTimeout as delay } from 'node:timers/promises';

import { Injectable } from '@nestjs/common';

import type { AccessTokenLife } from '../identity-providers/identity-provider.js';
import type { Lease } from '../storage/leases/lease.js';
import { LeaseEnding } from './lease-ending.js';
import { isYoungerThanExchange, type Takeover } from './refresh-decision.js';
import { RefreshDrain } from './refresh-drain.js';
import { type RefreshKind, type RefreshResult, type RefreshTarget, shuttingDown } from './refresh-target.js';

/** Longest pause between two looks at the row while the process waits for its holder. */
const LONGEST_LOOK_MS = 250;

type Prepared<Kind extends RefreshKind> =
  { readonly kind: 'ready'; readonly lease: Lease<Kind['row']> } | RefreshResult<Kind>;

/**
 * Prepares a takeover under the new lease. An earlier exchange may have spent the refresh token. The process waits for
 * the holder, because the holder may still commit its pair. It asks the witness, because the old access token may tell
 * what became of the exchange.
 */
@Injectable()
export class RefreshTakeover {
  constructor(
    private readonly ending: LeaseEnding,
    private readonly drain: RefreshDrain,
  ) {}

  /**
   * Returns the lease under which the process may send the refresh token, or how the refresh ends instead. PostgreSQL
   * granted or renewed this lease when no other transaction had the row locked.
   */
  async prepare<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    lease: Lease<Kind['row']>,
    { delayMs, asksWitness }: Takeover,
    isRejected: boolean,
  ): Promise<Prepared<Kind>> {
    const awaited = delayMs > 0 ? await this.#awaitHolder(target, lease, delayMs) : { kind: 'ready' as const, lease };
    if (awaited.kind !== 'ready' || !asksWitness) return awaited;

    const { row } = awaited.lease;
    const life = await this.ask(target, row);
    if (life === 'dead') return this.ending.declareSpent(target, awaited.lease);
    const hasNothingToLose = isRejected || row.wasRejected || hasExpired(row);
    if (life === 'unknown' && !hasNothingToLose) return this.ending.postpone(target, awaited.lease);
    return this.#awaitHolder(target, awaited.lease, 0, life === 'alive');
  }

  /**
   * Asks the witness. `alive` means that the refresh token is unspent, and `dead` that it is spent. Returns `unknown`
   * without a question if a refresh does not end the access token, if the API of the provider refused it before, if it
   * has expired, or if the shutdown has begun. Returns `unknown` for a dead access token that expired meanwhile.
   */
  async ask<Kind extends RefreshKind>(target: RefreshTarget<Kind>, row: Kind['row']): Promise<AccessTokenLife> {
    const isWitness = !row.wasRejected && !isYoungerThanExchange(row);
    const proves = target.rules.policy.refreshEndsAccessToken && isWitness && !hasExpired(row);
    if (!target.askWitness || !proves || !this.drain.mayStart()) return 'unknown';
    const life = await target.askWitness(row);
    return life === 'dead' && hasExpired(row) ? 'unknown' : life;
  }

  /**
   * Waits until the row was unlocked for `delayMs`, because a holder that is alive commits within this time. Renews the
   * lease meanwhile. Each renewal makes sure that the row still has its version.
   */
  async #awaitHolder<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    lease: Lease<Kind['row']>,
    delayMs: number,
    isUnspent = false,
  ): Promise<Prepared<Kind>> {
    const request = { seenVersion: lease.row.version, leaseMs: target.rules.policy.leaseMs, isUnspent };
    let renewed = lease;
    let unlockedSince = performance.now();
    for (;;) {
      const leftMs = unlockedSince + delayMs - performance.now();
      if (leftMs > 0) await delay(Math.min(leftMs, LONGEST_LOOK_MS));
      if (!this.drain.mayStart()) return this.ending.giveBack(target, renewed, shuttingDown(target));
      const outcome = await target.leases.renew(target.key, renewed, request);
      if (outcome.kind === 'gone') return { kind: 'moved', row: await target.load() };
      if (outcome.kind === 'renewed') {
        renewed = outcome.lease;
        if (performance.now() - unlockedSince >= delayMs) return { kind: 'ready', lease: renewed };
      } else {
        unlockedSince = performance.now();
        if (delayMs === 0) await delay(LONGEST_LOOK_MS);
      }
    }
  }
}

/** Whether the expiry of the access token in the row has passed. */
function hasExpired({ accessTokenValidForSeconds, readAt }: { accessTokenValidForSeconds: number; readAt: number }) {
  return accessTokenValidForSeconds * 1000 <= performance.now() - readAt;
}
