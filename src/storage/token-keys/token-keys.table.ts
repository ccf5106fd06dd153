import { Inject, Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { once } from '../../postgres/once.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import { TokenKeyRecord } from './token-key-record.entity.js';
import { type KeyToRegister, type RegisteredKey, tokenKeysStatements } from './token-keys.statements.js';

/**
 * The table `token_keys`, with one method for each statement, outside of every transaction. Every method throws
 * {@link TokenStoreUnavailableError}.
 */
@Injectable()
export class TokenKeysTable {
  readonly #sql = once(() => tokenKeysStatements(this.path));

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
  ) {}

  /** Whether the host has initialised the data source. */
  get isOpen(): boolean {
    return this.dataSource.isInitialized;
  }

  /** The quoted path of the table. */
  get path(): string {
    return tablePathOf(this.dataSource, TokenKeyRecord);
  }

  /** Returns the registered keys in the order of their registration. */
  list(): Promise<RegisteredKey[]> {
    return this.executor.executeDetached(this.#sql().list, {});
  }

  /** Registers a key. Does not change a key that is registered already. */
  async register(key: KeyToRegister): Promise<void> {
    await this.executor.executeDetached(this.#sql().register, key);
  }

  /** Marks a key as retired. Registers it first if it has no row. A retired key keeps the time of its retirement. */
  async retire(key: KeyToRegister): Promise<void> {
    await this.executor.executeDetached(this.#sql().retire, key);
  }
}
