import { setTimeout as delay } from 'node:timers/promises';

import { Injectable, Logger } from '@nestjs/common';

import { isRowLocked, isUnstorable, sqlStateOf } from '../postgres/driver-error.js';
import type { Lease } from '../storage/leases/lease.js';
import { TokenStoreUnavailableError } from '../tokens.errors.js';
import { RefreshDrain } from './refresh-drain.js';
import type { NewTokens, RefreshKind, RefreshTarget } from './refresh-target.js';

/** What became of redeemed tokens. */
export type CommitOutcome<Kind extends RefreshKind> =
  | { readonly kind: 'stored' }
  /** A newer login, or the newer of two refreshes, is in the row. */
  | { readonly kind: 'replaced'; readonly row: Kind['row'] }
  /** The row was deleted meanwhile. */
  | { readonly kind: 'deleted' }
  /** The application stopped before the database answered, or no column can hold the tokens: they are lost. */
  | { readonly kind: 'given-up' };

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;
/** A process that takes the lease over waits for as long as the row has no lock; this must fit into it several times. */
const LOCKED_PAUSE_MS = 100;

/**
 * Brings redeemed tokens into the database. After the provider's answer the tokens in memory are the only live ones, so a
 * failing commit is tried again until it lands.
 */
@Injectable()
export class RefreshCommitter {
  readonly #logger = new Logger(RefreshCommitter.name);

  constructor(private readonly drain: RefreshDrain) {}

  /**
   * Stores tokens if the row still has the version that was redeemed; settles only when the database has decided. Tokens
   * that have no row any more are disowned.
   */
  async commit<Kind extends RefreshKind>(
    target: RefreshTarget<Kind>,
    tokens: NewTokens<Kind>,
    lease: Lease<Kind['row']>,
  ): Promise<CommitOutcome<Kind>> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#tryCommit(target, tokens);
      } catch (error) {
        if (this.drain.isOver || isUnstorable(error)) {
          this.#logger.error(`Refreshed ${target.subject} are lost: ${String(error)}`);
          return { kind: 'given-up' };
        }
        this.#logger.warn(`Refreshed ${target.subject} are not stored yet (try ${attempt + 1}): ${String(error)}`);
        const isLocked = isRowLocked(error);
        // A server that answers and refuses the tokens must not take the lease for abandoned.
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
    const { successor, rowId } = tokens;
    if (await leases.commit(key, successor)) return { kind: 'stored' };
    let row = await target.load();
    if (row?.parentVersion === successor.redeemedVersion && row.version !== successor.version) {
      if (await leases.commitNewerSibling(key, successor)) return { kind: 'stored' };
      row = await target.load();
    }
    // An earlier try reached the table and only its answer was lost: the version is random, so it is this very one.
    if (row?.version === successor.version) return { kind: 'stored' };
    // The user who deleted the row wanted the grant ended, also tokens that were not known yet; a new login does not change
    // that. It is not waited for: the row has other tokens, or none.
    if (row?.id !== rowId) this.drain.track(this.#disown(target, tokens));
    return row ? { kind: 'replaced', row } : { kind: 'deleted' };
  }

  async #disown<Kind extends RefreshKind>(target: RefreshTarget<Kind>, tokens: NewTokens<Kind>): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        await target.disown(tokens);
        return;
      } catch (error) {
        const isTransient = error instanceof TokenStoreUnavailableError && error.retryable && !this.drain.isOver;
        const outlook = isTransient ? 'yet' : 'and stay valid until they expire';
        this.#logger.error(
          `Refreshed ${target.subject}, which were deleted, are not noted for revocation ${outlook}: ${String(error)}`,
        );
        if (!isTransient) return;
        await delay(pauseMs(attempt));
      }
    }
  }
}

/** Renews the lease if the row lets it; the next try says what is wrong if not. */
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
