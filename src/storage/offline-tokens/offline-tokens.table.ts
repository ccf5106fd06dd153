import { Inject, Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { once } from '../../postgres/once.js';
import { QueryRunnerScope } from '../../postgres/query-runner-scope.js';
import { randomId } from '../../postgres/random-id.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import { LeasedTable } from '../leases/leased.table.js';
import {
  type LoadedOfflineToken,
  type OfflineTokenKey,
  type OfflineTokenRow,
  offlineTokensStatements,
  type SealedOfflineToken,
} from './offline-tokens.statements.js';
import { StoredOfflineToken } from './stored-offline-token.entity.js';

/**
 * The table `offline_tokens`, with one method for each statement. Every method throws
 * {@link TokenStoreUnavailableError}.
 */
@Injectable()
export class OfflineTokensTable {
  /** The leases of its rows. */
  readonly leases: LeasedTable<OfflineTokenKey, SealedOfflineToken, OfflineTokenRow>;
  readonly #sql = once(() => offlineTokensStatements(tablePathOf(this.dataSource, StoredOfflineToken)));

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
    private readonly scope: QueryRunnerScope,
  ) {
    this.leases = new LeasedTable(executor, this.#sql);
  }

  /** Loads a row in the surrounding transaction. */
  async load(userId: string): Promise<OfflineTokenRow | null> {
    if (!this.scope.isInside()) return this.loadCommitted(userId);
    const [row] = await this.executor.execute(this.#sql().load, { userId });
    return row ?? null;
  }

  /** Loads the committed row, outside of the surrounding transaction. */
  async loadCommitted(userId: string): Promise<OfflineTokenRow | null> {
    const [row] = await this.executor.executeDetached(this.#sql().load, { userId });
    return row ?? null;
  }

  /** Inserts or replaces the token of a user in the surrounding transaction, in one atomic statement. */
  async store(userId: string, token: SealedOfflineToken, clientId: string | null): Promise<void> {
    const version = randomId();
    const [transactionId] = await this.executor.execute(this.#sql().store, { userId, ...token, clientId, version });
    if (transactionId) this.scope.transaction()?.markWritten(version, transactionId);
  }

  /** Stores the token of a user that has none, outside of every transaction. Does not change a stored token. */
  async storeFirst(userId: string, token: SealedOfflineToken, clientId: string | null): Promise<void> {
    await this.executor.executeDetached(this.#sql().storeFirst, { userId, ...token, clientId, version: randomId() });
  }

  /**
   * Replaces the loaded token, outside of every transaction. Returns false when the row has another text and another
   * version by now. The text alone can change, because the operator may have it sealed anew by another key.
   */
  async replace(
    userId: string,
    loaded: LoadedOfflineToken,
    token: SealedOfflineToken,
    clientId: string | null,
  ): Promise<boolean> {
    const params = { userId, ...loaded, ...token, clientId, version: randomId() };
    return (await this.executor.executeWithLockRetry(this.#sql().replace, params)).length > 0;
  }

  /** Deletes the token in the surrounding transaction. Returns whether there was one. */
  async delete(userId: string): Promise<boolean> {
    return (await this.executor.execute(this.#sql().delete, { userId })).length > 0;
  }

  /**
   * Tells whether the surrounding transaction sees another row than the other transactions see, because it stored or
   * deleted the row and has not committed yet.
   */
  async isUncommitted(userId: string, row: OfflineTokenRow | null): Promise<boolean> {
    return this.scope.isUncommitted(row, () => this.loadCommitted(userId));
  }
}
