import { Inject, Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { once } from '../../postgres/once.js';
import { QueryRunnerScope } from '../../postgres/query-runner-scope.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import type { AccountKey } from '../../token-key.js';
import { DisconnectedAccount } from './disconnected-account.entity.js';
import { disconnectedAccountsStatements } from './disconnected-accounts.statements.js';

/**
 * The table `disconnected_accounts`. {@link AuthTokensTable} adds the notes, because a note and the deletion of its pair
 * are one statement.
 */
@Injectable()
export class DisconnectedAccountsTable {
  readonly #sql = once(() => disconnectedAccountsStatements(tablePathOf(this.dataSource, DisconnectedAccount)));

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
    private readonly scope: QueryRunnerScope,
  ) {}

  /**
   * Returns whether there is a note that the user disconnected the account, as the surrounding transaction sees it. The
   * note has a meaning only if `auth_tokens` has no row of the key.
   *
   * @throws {@link TokenStoreUnavailableError} when PostgreSQL does not execute the statement
   */
  async has(key: AccountKey): Promise<boolean> {
    const { find } = this.#sql();
    const found = this.scope.isInside()
      ? await this.executor.execute(find, key)
      : await this.executor.executeDetached(find, key);
    return found.length > 0;
  }

  /**
   * Deletes the notes of a user in the surrounding transaction.
   *
   * @throws {@link TokenStoreUnavailableError} when PostgreSQL does not execute the statement
   */
  async deleteOfUser(keycloakUserId: string): Promise<void> {
    await this.executor.execute(this.#sql().deleteOfUser, { keycloakUserId });
  }
}
