import { Inject, Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { once } from '../../postgres/once.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import { LinkAttempt } from './link-attempt.entity.js';
import {
  type AttemptClaim,
  type ClaimedAttempt,
  linkAttemptsStatements,
  type NewAttempt,
} from './link-attempts.statements.js';

/**
 * The table `link_attempts`, with one method for each statement. An attempt begins and ends outside of every
 * transaction, because the browser and the provider do not roll back. Every method throws
 * {@link TokenStoreUnavailableError}.
 */
@Injectable()
export class LinkAttemptsTable {
  readonly #sql = once(() => linkAttemptsStatements(tablePathOf(this.dataSource, LinkAttempt)));

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
  ) {}

  /** Adds an attempt, and deletes expired attempts and the oldest ones of the user. Returns when it expires. */
  async add(attempt: NewAttempt): Promise<Date> {
    const [expiresAt] = await this.executor.executeDetached(this.#sql().add, attempt);
    if (!expiresAt) throw new TypeError('The statement that adds an attempt returned no row.');
    return expiresAt;
  }

  /** Takes the attempt of a state, so that no other call gets it. Returns null if there is none. */
  async take(claim: AttemptClaim): Promise<ClaimedAttempt | null> {
    const [claimed] = await this.executor.executeDetached(this.#sql().take, claim);
    return claimed ?? null;
  }

  /** Deletes the attempts of a user in the surrounding transaction. */
  async deleteOfUser(keycloakUserId: string): Promise<void> {
    await this.executor.execute(this.#sql().deleteOfUser, { keycloakUserId });
  }
}
