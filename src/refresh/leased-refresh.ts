import { setTimeout as delay } from 'node:timers/promises';

import { Injectable } from '@nestjs/common';

import { randomId } from '../postgres/random-id.js';
import type { Lease } from '../storage/leases/lease.js';
import type { LeaseGrant } from '../storage/leases/leased.table.js';
import { TokenStoreUnavailableError } from '../tokens.errors.js';
import { LeaseEnding } from './lease-ending.js';
import { decide } from './refresh-decision.js';
import { RefreshDrain } from './refresh-drain.js';
import { RefreshExchange } from './refresh-exchange.js';
import { RefreshPace } from './refresh-pace.js';
import { RefreshTakeover } from './refresh-takeover.js';
import {
  inProgress,
  type RefreshKind,
  type RefreshRequest,
  type RefreshResult,
  type RefreshTarget,
  shuttingDown,
} from './refresh-target.js';
import { RefreshSettings } from './refresh.options.js';

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1000;

/**
 * Refreshes a stale row. Takes its lease and runs the exchange, or waits for the process that holds the lease and looks
 * at the row now and then. A waiter that times out fails. It never redeems without the lease.
 */
@Injectable()
export class LeasedRefresh {
  constructor(
    private readonly pace: RefreshPace,
    private readonly exchange: RefreshExchange,
    private readonly takeover: RefreshTakeover,
    private readonly ending: LeaseEnding,
    private readonly drain: RefreshDrain,
    private readonly settings: RefreshSettings,
  ) {}

  /** Refreshes a row that the caller has seen stale. Never rejects. */
  async refresh<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    stale: Kind['row'],
    request: RefreshRequest,
  ): Promise<RefreshResult<Kind>> {
    try {
      return await this.#run(target, stale, request);
    } catch (error) {
      return { kind: 'failed', error };
    }
  }

  async #run<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    stale: Kind['row'],
    request: RefreshRequest,
  ): Promise<RefreshResult<Kind>> {
    const deadline = performance.now() + this.settings.waitTimeoutMs;
    let row: Kind['row'] | null = stale;
    for (let attempt = 0; ; attempt++) {
      if (row?.version !== stale.version) return { kind: 'moved', row };
      const step = decide(row, { ...request, isMet: false }, target.rules, performance.now());
      if (step.kind !== 'lease' && step.kind !== 'wait') return { kind: 'moved', row };
      if (step.kind === 'lease') {
        if (!(await this.pace.turn())) return shuttingDown(target);
        const { isRejected } = request;
        const grant: LeaseGrant<Kind['row']> = await this.#acquire(target, row, isRejected);
        if (grant.kind === 'granted') return this.#redeem(target, row, grant.lease, isRejected);
        row = grant.row;
        // If no lock is the reason of the refusal, the row has changed. Decide on the changed row at once, but pause
        // from the third refusal on.
        if (grant.reason !== 'locked' && attempt < 2) continue;
      }
      const pause = pauseMs(attempt);
      if (performance.now() + pause >= deadline) return inProgress(target);
      await delay(pause);
      if (!this.drain.mayStart()) return shuttingDown(target);
      row = await target.load();
    }
  }

  /** Asks for the lease of a row in the version and the state that the caller has seen. */
  async #acquire<Kind extends RefreshKind>(
    { key, leases, rules }: RefreshTarget<Kind>,
    row: Kind['row'],
    isRejected: boolean,
  ): Promise<LeaseGrant<Kind['row']>> {
    const { leaseMs } = rules.policy;
    const request = { leaseId: randomId(), leaseMs, seenVersion: row.version, seenState: row.state, isRejected };
    try {
      return await leases.acquire(key, request);
    } catch (error) {
      if (!(error instanceof TokenStoreUnavailableError)) throw error;
      // PostgreSQL may have granted the lease although its answer is lost. A second request with the same lease id gets
      // the same lease.
      return leases.acquire(key, request);
    }
  }

  async #redeem<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    seen: Kind['row'],
    lease: Lease<Kind['row']>,
    isRejected: boolean,
  ): Promise<RefreshResult<Kind>> {
    // Time has passed since the decision. A replay window may have ended, or the access token may have expired.
    const { state, openLeases, outcomeUnknown } = seen;
    const leased = { ...lease.row, state, openLeases, outcomeUnknown };
    const step = decide(leased, { isMet: false, isRejected }, target.rules, performance.now());
    if (step.kind !== 'lease') {
      return this.ending.giveBack(target, lease, { kind: 'moved', row: leased });
    }
    if (!step.takeover) return this.exchange.run(target, lease, isRejected);
    const prepared = await this.takeover.prepare(target, lease, step.takeover, isRejected);
    return prepared.kind === 'ready' ? this.exchange.run(target, prepared.lease, isRejected) : prepared;
  }
}

/** Returns a random pause from 50 ms up to a limit that doubles with each attempt and is at most 1 s. */
function pauseMs(attempt: number): number {
  const longest = Math.min(FIRST_PAUSE_MS * 2 ** (attempt + 1), LONGEST_PAUSE_MS);
  return FIRST_PAUSE_MS + Math.random() * (longest - FIRST_PAUSE_MS);
}
