import { Injectable } from '@nestjs/common';

import type { DisconnectedAccountsTable } from '../storage/disconnected-accounts/disconnected-accounts.table.js';
import { type AccountKey, keyName } from '../token-key.js';
import { MemoryRows } from './memory-rows.js';
import { MemoryTransactions } from './memory-transactions.js';

/** The table `disconnected_accounts` in memory. `MemoryAuthTokensTable` writes it. */
@Injectable()
export class MemoryDisconnectedAccountsTable implements Pick<
  DisconnectedAccountsTable,
  Exclude<keyof DisconnectedAccountsTable, 'deleteOfUser'> // only the command line calls it, which has a database
> {
  readonly #rows: MemoryRows<true>;

  constructor(transactions: MemoryTransactions) {
    this.#rows = new MemoryRows(transactions);
  }

  async has(key: AccountKey): Promise<boolean> {
    return (await this.#rows.find(keyName(key))) !== undefined;
  }

  /** Whether there is a note, or another transaction is writing or deleting one. */
  mayBeNoted(key: AccountKey): boolean {
    return this.#rows.peek(keyName(key)) !== undefined || this.#rows.isLockedByOther(keyName(key));
  }

  /** Notes in the surrounding transaction that the user disconnected the account. */
  async note(key: AccountKey): Promise<void> {
    await this.#rows.write(keyName(key), () => true);
  }

  /** Deletes the note in the surrounding transaction. */
  async forget(key: AccountKey): Promise<void> {
    await this.#rows.write(keyName(key), () => undefined);
  }
}
