import { setTimeout as delay } from 'node:timers/promises';

import { Injectable, Logger } from '@nestjs/common';

import type { AccessTokenLife } from '../identity-providers/identity-provider.js';
import type { Lease } from '../storage/leases/lease.js';
import type { Takeover } from './refresh-decision.js';
import { RefreshDrain } from './refresh-drain.js';
import type { RefreshKind, RefreshResult, RefreshTarget } from './refresh-target.js';

/** How often the row is looked at while its holder is waited for. */
const LONGEST_LOOK_MS = 250;
/** How long a witness that does not know is not asked again. */
const WITNESS_BACKOFF_MS = 60_000;
/** Stored when the old access token is dead before its time. */
const SPENT = 'ACCESS_TOKEN_DEAD';
const UNDECIDED = 'WITNESS_UNKNOWN';

type Prepared<Kind extends RefreshKind> =
  { readonly kind: 'ready'; readonly lease: Lease<Kind['row']> } | RefreshResult<Kind>;

/**
 * Makes sure, under the new lease, that a refresh token which an earlier exchange may have spent can be sent: its holder may
 * be alive and bring the pair, and the old access token may tell what became of the exchange.
 */
@Injectable()
export class RefreshTakeover {
  readonly #logger = new Logger(RefreshTakeover.name);

  constructor(private readonly drain: RefreshDrain) {}

  /** The lease to send under, renewed on a row that no transaction has locked; or how the refresh ends instead. */
  async prepare<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    lease: Lease<Kind['row']>,
    { delayMs, asksWitness }: Takeover,
    isRejected: boolean,
  ): Promise<Prepared<Kind>> {
    const awaited = delayMs > 0 ? await this.#awaitHolder(target, lease, delayMs) : { kind: 'ready' as const, lease };
    if (awaited.kind !== 'ready' || !asksWitness) return awaited;

    const life = await this.ask(target, awaited.lease.row);
    if (life === 'dead') return this.end(target, awaited.lease);
    if (life === 'unknown' && !isRejected && !hasExpired(awaited.lease.row))
      return this.#postpone(target, awaited.lease);
    return this.#awaitHolder(target, awaited.lease, 0, life === 'alive');
  }

  /**
   * What the old access token tells: `alive` = the refresh token is unspent, `dead` = spent. Unknown where a refresh does
   * not end the access token, and once the token has expired by itself.
   */
  async ask<Kind extends RefreshKind>(target: RefreshTarget<Kind>, row: Kind['row']): Promise<AccessTokenLife> {
    if (!target.askWitness || !target.rules.policy.refreshEndsAccessToken || hasExpired(row)) return 'unknown';
    const life = await target.askWitness(row);
    return life === 'dead' && hasExpired(row) ? 'unknown' : life;
  }

  /** Ends the grant of a refresh token that is spent and whose successor is lost; a late commit brings it back. */
  async end<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id: leaseId, row }: Lease<Kind['row']>,
  ): Promise<RefreshResult<Kind>> {
    const rejection = { leaseId, seenVersion: row.version, quarantineMs: 0, errorCode: SPENT, isCertain: true };
    await target.leases.reject(target.key, rejection);
    this.#logger.warn(`The ${target.subject} are spent: a refresh was interrupted after the provider had answered it.`);
    return { kind: 'moved', row: await target.load() };
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
      if (this.drain.stopping.aborted) return this.#stop(target, renewed);
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

  async #postpone<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id: leaseId }: Lease<Kind['row']>,
  ): Promise<RefreshResult<Kind>> {
    const failure = { failureKind: 'undecided', errorCode: UNDECIDED, backoffMs: WITNESS_BACKOFF_MS } as const;
    await target.leases.release(target.key, { leaseId, ...failure });
    return { kind: 'moved', row: await target.load() };
  }

  /** Nothing was sent: the lease goes back, and the row stays abandoned for another process. */
  async #stop<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    { id: leaseId }: Lease<Kind['row']>,
  ): Promise<RefreshResult<Kind>> {
    await target.leases.release(target.key, { leaseId, failureKind: null, errorCode: null, backoffMs: null });
    const error = target.errorOf({ reason: 'unavailable', cause: 'the application is shutting down' });
    return { kind: 'failed', error, mayServe: false };
  }
}

/** By its own expiry, as far as the row knows it. */
function hasExpired({ accessTokenValidForSeconds, readAt }: { accessTokenValidForSeconds: number; readAt: number }) {
  return accessTokenValidForSeconds * 1000 <= performance.now() - readAt;
}
