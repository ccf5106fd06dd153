import { Injectable } from '@nestjs/common';

import type { LoadedOfflineToken } from '../storage/offline-tokens/offline-tokens.statements.js';
import type { OfflineTokensTable } from '../storage/offline-tokens/offline-tokens.table.js';
import { MemoryRows } from './memory-rows.js';
import { MemoryTransactions } from './memory-transactions.js';

type Statements = Pick<OfflineTokensTable, 'store' | 'replace' | 'delete' | 'isUncommitted'>;

/**
 * The table `offline_tokens` in memory. It has no leases, because the module redeems an offline token only with a
 * Keycloak realm.
 */
@Injectable()
export class MemoryOfflineTokensTable implements Statements {
  readonly #rows: MemoryRows<string>;

  constructor(transactions: MemoryTransactions) {
    this.#rows = new MemoryRows(transactions);
  }

  /** Returns the committed text of a user; null if there is none. */
  committed(userId: string): string | null {
    return this.#rows.committed.get(userId) ?? null;
  }

  async load(userId: string): Promise<{ readonly offlineToken: string } | null> {
    const offlineToken = await this.#rows.find(userId);
    return offlineToken === undefined ? null : { offlineToken };
  }

  async store(userId: string, { offlineToken }: { readonly offlineToken: string }): Promise<void> {
    await this.#rows.write(userId, () => offlineToken);
  }

  /** Returns the committed text. It has no version, because no call seals it anew. */
  loadCommitted(userId: string): Promise<{ readonly offlineToken: string; readonly version: null } | null> {
    const offlineToken = this.committed(userId);
    return Promise.resolve(offlineToken === null ? null : { offlineToken, version: null });
  }

  async replace(
    userId: string,
    { loaded }: LoadedOfflineToken,
    { offlineToken }: { readonly offlineToken: string },
  ): Promise<boolean> {
    let isReplaced = false;
    await this.#rows.writeDetached(userId, (stored) => {
      isReplaced = stored === loaded;
      return isReplaced ? offlineToken : stored;
    });
    return isReplaced;
  }

  async delete(userId: string): Promise<boolean> {
    let isDeleted = false;
    await this.#rows.write(userId, (stored) => {
      isDeleted = stored !== undefined;
      return undefined;
    });
    return isDeleted;
  }

  isUncommitted(userId: string): Promise<boolean> {
    return Promise.resolve(this.#rows.isUncommitted(userId));
  }
}
