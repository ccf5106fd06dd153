import { setTimeout as delay } from 'node:timers/promises';

import { Injectable, Logger } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { TokenStoreUnavailableError } from '../tokens.errors.js';
import type { AuthTokensRow } from '../storage/auth-tokens/auth-tokens.row.js';
import { TokenRevocationsTable } from '../storage/token-revocations/token-revocations.table.js';
import { AuthTokensTable, type RefreshedPair } from '../storage/auth-tokens/auth-tokens.table.js';
import type { AuthTokensKey } from '../storage/auth-tokens/auth-tokens.types.js';

/** What became of a refreshed pair. */
export type CommitOutcome =
  | { readonly kind: 'stored' }
  /** A newer login, or the newer of two refreshes, stands in the row. */
  | { readonly kind: 'replaced'; readonly row: AuthTokensRow }
  /** The user's tokens were deleted meanwhile: the pair is noted for revocation. */
  | { readonly kind: 'deleted' }
  /** The application stopped before the database answered, or no database can store the pair: it is lost. */
  | { readonly kind: 'given-up' };

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2000;

/**
 * Brings refreshed pairs into the database. After the provider's answer the pair in memory is the only live one, so a
 * failing commit is tried again until it lands.
 */
@Injectable()
export class RefreshedPairCommitter {
  readonly #logger = new Logger(RefreshedPairCommitter.name);

  #isStopped = false;

  constructor(
    private readonly table: AuthTokensTable,
    private readonly revocations: TokenRevocationsTable,
    private readonly providers: IdentityProviderRegistry,
  ) {}

  /** Stores the pair if the row still has the version that was redeemed; settles only when the database has decided. */
  async commit(key: AuthTokensKey, pair: RefreshedPair): Promise<CommitOutcome> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#tryCommit(key, pair);
      } catch (error) {
        const subject = `Refreshed tokens of user "${key.keycloakUserId}" at "${key.idp}"`;
        if (this.#isStopped || cannotEverBeStored(error)) {
          this.#logger.error(`${subject} are lost: ${String(error)}`);
          return { kind: 'given-up' };
        }
        this.#logger.warn(`${subject} are not stored yet (try ${attempt + 1}): ${String(error)}`);
        await delay(Math.min(FIRST_PAUSE_MS * 2 ** attempt, LONGEST_PAUSE_MS));
      }
    }
  }

  /** Ends the retries, for a shutdown that cannot wait any longer. */
  stop(): void {
    this.#isStopped = true;
  }

  async #tryCommit(key: AuthTokensKey, pair: RefreshedPair): Promise<CommitOutcome> {
    if (await this.table.commit(key, pair)) return { kind: 'stored' };
    let row = await this.table.loadCommitted(key);
    // An earlier try reached the table and only its answer was lost: the version is random, so it can be nobody else's.
    if (row?.tokens.version === pair.version) return { kind: 'stored' };
    if (row?.parentVersion === pair.parentVersion) {
      if (await this.table.supersede(key, pair)) return { kind: 'stored' };
      row = await this.table.loadCommitted(key);
    }
    // Whoever deleted the row wanted the pair ended, also one that nobody had seen yet; a new login does not change that.
    if (row?.id !== pair.rowId && this.providers.find(key.idp)?.revoke) await this.revocations.add({ ...key, ...pair });
    return row ? { kind: 'replaced', row } : { kind: 'deleted' };
  }
}

/** SQLSTATE class 22: the value itself is at fault. */
function cannotEverBeStored(error: unknown): boolean {
  return error instanceof TokenStoreUnavailableError && error.sqlState?.startsWith('22') === true;
}
