import { Inject, Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import { randomId } from '../crypto/random.js';
import { TOKENS_DATA_SOURCE } from '../database/database.options.js';
import { StatementExecutor } from '../database/statement-executor.js';
import { tablePathOf } from '../database/table-path.js';
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

  /** Takes the lease of a row that still holds the text that was loaded; its id, or null when it is not to be had now. */
  async acquire(userId: string, loaded: string, leaseMs: number): Promise<string | null> {
    const id = randomId();
    const values = [userId, loaded, id, leaseMs];
    const rows = await this.executor.executeDetached(this.#sql.acquire, values, 'lease an offline token');
    return rows.length > 0 ? id : null;
  }

  async release(userId: string, leaseId: string): Promise<void> {
    await this.executor.executeUnlocked(this.#sql.release, [userId, leaseId], 'release the lease of an offline token');
  }

  get #sql(): OfflineTokensStatements {
    this.#statements ??= offlineTokensStatements(tablePathOf(this.dataSource, StoredOfflineToken));
    return this.#statements;
  }
}
