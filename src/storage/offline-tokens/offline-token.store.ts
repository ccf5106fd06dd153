import { Inject, Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { QueryRunnerScope } from '../../postgres/query-runner.scope.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import { asText, checkSealed, checkUserId } from '../../token-input.js';
import { type OfflineTokensStatements, offlineTokensStatements } from './offline-tokens.statements.js';
import { StoredOfflineToken } from './stored-offline-token.entity.js';
import { UserOfflineToken } from './user-offline-token.js';

/** Names the row of a user among those that a transaction wrote. */
export function offlineRowName(userId: string): string {
  return `offline:${userId}`;
}

/**
 * Stores one offline token for each user, as the text it is given: {@link TokenManager} seals it. Joins the transaction
 * of the surrounding {@link QueryRunnerScope}; throws {@link InvalidTokenInputError} for a bad user id and
 * {@link TokenStoreUnavailableError} when PostgreSQL does not execute a statement.
 */
@Injectable()
export class OfflineTokenStore {
  #statements: OfflineTokensStatements | undefined;

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
    private readonly scope: QueryRunnerScope,
  ) {}

  /** Inserts or replaces the token of a user, in one atomic statement. */
  async storeToken(userId: string, offlineToken: string): Promise<void> {
    checkSealed(offlineToken, 'The offline token');
    await this.executor.execute(this.#sql.store, [checkUserId(userId), offlineToken], 'store an offline token');
    this.scope.context()?.markWritten(offlineRowName(userId));
  }

  /**
   * Puts a successor in the place of the token that was loaded, if that still stands: after a rotation, the one whose
   * predecessor is in the row holds the live token. Compares the stored texts, so pass what {@link loadToken} gave. Never
   * part of a surrounding transaction: its rollback would bring the dead predecessor back.
   *
   * @returns false when the token was replaced or deleted meanwhile; nothing is stored then
   */
  async replaceToken(userId: string, loaded: string, successor: string): Promise<boolean> {
    checkSealed(successor, 'The offline token');
    const values = [checkUserId(userId), loaded, successor];
    return (await this.executor.executeUnlocked(this.#sql.replace, values, 'replace an offline token')).length > 0;
  }

  /** The token of a user as it was stored; `null` when there is none. */
  async loadToken(userId: string): Promise<string | null> {
    const [row] = await this.executor.execute(this.#sql.load, [checkUserId(userId)], 'load an offline token');
    return row ? String(row.offline_token) : null;
  }

  /** Whether there was a token to delete. */
  async deleteToken(userId: string): Promise<boolean> {
    const rows = await this.executor.execute(this.#sql.delete, [checkUserId(userId)], 'delete an offline token');
    this.scope.context()?.markWritten(offlineRowName(userId));
    return rows.length > 0;
  }

  /** A handle for one user, with the methods of this store. */
  getInstance(userId: string | number): UserOfflineToken {
    return new UserOfflineToken(this, checkUserId(asText(userId)));
  }

  get #sql(): OfflineTokensStatements {
    this.#statements ??= offlineTokensStatements(tablePathOf(this.dataSource, StoredOfflineToken));
    return this.#statements;
  }
}
