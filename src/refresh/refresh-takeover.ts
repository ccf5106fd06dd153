import { setTimeout as delay } from 'node:timers/promises';

import { Injectable } from '@nestjs/common';

import type { AccessTokenLife } from '../identity-providers/identity-provider.js';
import type { Lease } from '../storage/leases/lease.js';
import { LeaseEnding } from './lease-ending.js';
import type { Takeover } from './refresh-decision.js';
import { RefreshDrain } from './refresh-drain.js';
import { type RefreshKind, type RefreshResult, type RefreshTarget, shuttingDown } from './refresh-target.js';

/** How often the row is looked at while its holder is waited for. */
const LONGEST_LOOK_MS = 250;

type Prepared<Kind extends RefreshKind> =
  { readonly kind: 'ready'; readonly lease: Lease<Kind['row']> } | RefreshResult<Kind>;

/**
 * Makes sure, under the new lease, that a refresh token which an earlier exchange may have spent can be sent: its holder may
 * be alive and bring the pair, and the old access token may tell what became of the exchange.
 */
@Injectable()
export class RefreshTakeover {
  constructor(
    private readonly ending: LeaseEnding,
    private readonly drain: RefreshDrain,
  ) {}

  /** The lease to send under, renewed on a row that no transaction has locked; or how the refresh ends instead. */
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
   * What the old access token tells: `alive` = the refresh token is unspent, `dead` = spent. Unknown where a refresh does
   * not end the access token, where that was refused before, once it has expired by itself, and when nothing may be sent any more.
   */
  async ask<Kind extends RefreshKind>(target: RefreshTarget<Kind>, row: Kind['row']): Promise<AccessTokenLife> {
    const proves = target.rules.policy.refreshEndsAccessToken && !row.wasRejected && !hasExpired(row);
    if (!target.askWitness || !proves || !this.drain.mayStart()) return 'unknown';
    const life = await target.askWitness(row);
    return life === 'dead' && hasExpired(row) ? 'unknown' : life;
  }

  /**
   * Waits until the row has had no lock of a transaction for so long that its holder would have stored its tokens, and looks
   * at its version once more. The lease is kept meanwhile.
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

/** By its own expiry, as far as the row knows it. */
function hasExpired({ accessTokenValidForSeconds, readAt }: { accessTokenValidForSeconds: number; readAt: number }) {
  return accessTokenValidForSeconds * 1000 <= performance.now() - readAt;
}
