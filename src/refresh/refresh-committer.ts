import { setTimeout as delay } from 'node:timers/promises';

import { Injectable, Logger } from '@nestjs/common';

import { isRowLocked, isUnstorable, logTextOf, sqlStateOf } from '../postgres/driver-error.js';
import type { Lease } from '../storage/leases/lease.js';
import { TokenStoreUnavailableError } from '../tokens.errors.js';
import { RefreshDrain } from './refresh-drain.js';
import type { NewTokens, RefreshKind, RefreshTarget } from './refresh-target.js';

/** How the commit of redeemed tokens ended. */
export type CommitOutcome<Kind extends RefreshKind> =
  | { readonly kind: 'stored' }
  /** The row has other tokens, for example those of a later login or a newer sibling. */
  | { readonly kind: 'replaced'; readonly row: Kind['row'] }
  /** The host deleted the row meanwhile. */
  | { readonly kind: 'deleted' }
  /** The tokens are lost, because the shutdown deadline passed, or because no column can store them. */
  | { readonly kind: 'given-up' };

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;
/**
 * Pause after a try that found the row locked. It must fit several times into the takeover delay, because the process
 * that takes the lease over counts only the time in which no transaction has the row locked.
 */
const LOCKED_PAUSE_MS = 100;

/**
 * Commits redeemed tokens. After the answer of the provider only this process has the live tokens. So it tries a
 * failing commit again until PostgreSQL stores the tokens or the shutdown deadline passes.
 */
@Injectable()
export class RefreshCommitter {
  readonly #logger = new Logger(RefreshCommitter.name);
  /** When the commits under way began, the oldest first, each by an object of its own. */
  readonly #waitingSince = new Map<object, number>();

  constructor(private readonly drain: RefreshDrain) {}

  /**
   * Stores tokens if the row still has the version that was redeemed. Settles when PostgreSQL has decided, or when the
   * tokens are lost. Never rejects. Disowns the tokens if the host ended their grant.
   */
  async commit<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    tokens: NewTokens<Kind>,
    lease: Lease<Kind['row']>,
  ): Promise<CommitOutcome<Kind>> {
    this.#waitingSince.set(tokens, performance.now());
    try {
      return await this.#commit(target, tokens, lease);
    } finally {
      this.#waitingSince.delete(tokens);
    }
  }

  /** Returns how many redeemed tokens are not stored yet, and how long the oldest of them have been waiting. */
  waiting(): { readonly pairs: number; readonly longestMs: number } {
    const [oldest] = this.#waitingSince.values();
    return {
      pairs: this.#waitingSince.size,
      longestMs: oldest === undefined ? 0 : performance.now() - oldest,
    };
  }

  async #commit<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    tokens: NewTokens<Kind>,
    lease: Lease<Kind['row']>,
  ): Promise<CommitOutcome<Kind>> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#tryCommit(target, tokens);
      } catch (error) {
        if (this.drain.isOver || isUnstorable(error)) {
          this.#logger.error(`Refreshed ${target.subject} are lost: ${logTextOf(error)}`);
          return { kind: 'given-up' };
        }
        this.#logger.warn(`Refreshed ${target.subject} are not stored yet (try ${attempt + 1}): ${logTextOf(error)}`);
        const isLocked = isRowLocked(error);
        // The server answered and refused the tokens. Renew the lease, because another process would take it over after
        // its expiry.
        if (sqlStateOf(error) !== undefined && !isLocked) await keep(target, lease);
        await delay(isLocked ? LOCKED_PAUSE_MS : pauseMs(attempt));
      }
    }
  }

  async #tryCommit<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    tokens: NewTokens<Kind>,
  ): Promise<CommitOutcome<Kind>> {
    const { key, leases } = target;
    const { successor, redeemed } = tokens;
    if (await leases.commit(key, successor)) return { kind: 'stored' };
    let row = await target.load();
    if (row?.parentVersion === successor.redeemedVersion && row.version !== successor.version) {
      if (await leases.commitNewerSibling(key, successor)) return { kind: 'stored' };
      row = await target.load();
    }
    // An earlier try stored the tokens, and only its answer is lost. No other commit can have stored this version,
    // because it is random.
    if (row?.version === successor.version) return { kind: 'stored' };
    // The host ended the grant: it deleted the row, or a link put another account there. So the new tokens must be
    // revoked too, also after a new login. The callers do not wait for this, because the row has other tokens or none.
    if (!row || !target.isOfGrant(row, redeemed)) this.drain.track(this.#disown(target, tokens));
    return row ? { kind: 'replaced', row } : { kind: 'deleted' };
  }

  async #disown<Kind extends RefreshKind>(target: RefreshTarget<Kind>, tokens: NewTokens<Kind>): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        await target.disown(tokens);
        return;
      } catch (error) {
        // Only the server's lasting refusal of the statement is final. A fault of the host may pass.
        const isRefused = error instanceof TokenStoreUnavailableError && !error.retryable;
        const isOver = isRefused || this.drain.isOver;
        const outlook = isOver ? 'and stay valid until they expire' : 'yet';
        this.#logger.error(
          `The ${target.subject} were deleted or replaced during a refresh. The refreshed tokens are not in the outbox ` +
            `${outlook}: ${logTextOf(error)}`,
        );
        if (isOver) return;
        await delay(pauseMs(attempt));
      }
    }
  }
}

/** Renews the lease if it can. Ignores a failure, because the next commit reports what is wrong. */
async function keep<Kind extends RefreshKind>(
  { key, leases, rules }: RefreshTarget<Kind>,
  lease: Lease<Kind['row']>,
): Promise<void> {
  const request = { seenVersion: lease.row.version, leaseMs: rules.policy.leaseMs, isUnspent: false };
  await leases.renew(key, lease, request).catch(() => undefined);
}

function pauseMs(attempt: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** attempt, LONGEST_PAUSE_MS);
}
