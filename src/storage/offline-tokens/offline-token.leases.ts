import { Inject, Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import { type OfflineTokensStatements, offlineTokensStatements } from './offline-tokens.statements.js';
import { StoredOfflineToken } from './stored-offline-token.entity.js';

/**
 * The right to redeem a stored offline token, held in its own row, so that of all processes one redeems it at a time:
 * with Revoke Refresh Token on, Keycloak ends a session whose token comes twice. Outside of every transaction. Every
 * method throws {@link TokenStoreUnavailableError}.
 */
@Injectable()
export class OfflineTokenLeases {
  #statements: OfflineTokensStatements | undefined;

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
  ) {}

  /** The stored text as it is committed; `null` when there is none. */
  async load(userId: string): Promise<string | null> {
    const [row] = await this.executor.executeDetached(this.#sql.load, [userId], 'load an offline token');
    return row ? String(row.offline_token) : null;
  }

  /** Stores the token of a user who has none; otherwise what stands stays. */
  async storeFirst(userId: string, offlineToken: string): Promise<void> {
    await this.executor.executeDetached(this.#sql.storeFirst, [userId, offlineToken], 'store an offline token');
  }

  /**
   * Takes the lease of a row that still holds the text that was loaded; false when it is not to be had now. Asked again
   * under the same id it is granted again, when its answer was lost.
   */
  async acquire(userId: string, loaded: string, lease: { id: string; leaseMs: number }): Promise<boolean> {
    const values = [userId, loaded, lease.id, lease.leaseMs];
    return (await this.executor.executeDetached(this.#sql.acquire, values, 'lease an offline token')).length > 0;
  }

  async release(userId: string, leaseId: string): Promise<void> {
    await this.executor.executeUnlocked(this.#sql.release, [userId, leaseId], 'release the lease of an offline token');
  }

  get #sql(): OfflineTokensStatements {
    this.#statements ??= offlineTokensStatements(tablePathOf(this.dataSource, StoredOfflineToken));
    return this.#statements;
  }
}
