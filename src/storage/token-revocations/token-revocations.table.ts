import { Inject, Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { once } from '../../postgres/once.js';
import { QueryRunnerScope } from '../../postgres/query-runner-scope.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import type { AccountKey } from '../../token-key.js';
import { TokenRevocation } from './token-revocation.entity.js';
import {
  type ClaimedRevocation,
  type PendingTokens,
  type Revocation,
  type RevocationClaim,
  tokenRevocationsStatements,
} from './token-revocations.statements.js';

/**
 * The table `token_revocations`, with one method for each statement. Every method throws
 * {@link TokenStoreUnavailableError}.
 */
@Injectable()
export class TokenRevocationsTable {
  readonly #sql = once(() => tokenRevocationsStatements(tablePathOf(this.dataSource, TokenRevocation)));

  #added: () => void = () => undefined;

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
    private readonly scope: QueryRunnerScope,
  ) {}

  /**
   * Adds a pair in the surrounding transaction, because the pair must be revoked if and only if its deletion is
   * committed.
   */
  async add(pair: Revocation): Promise<void> {
    await this.executor.execute(this.#sql().add, pair);
    this.#added();
  }

  /** Calls `listener` after each {@link add}. */
  whenAdded(listener: () => void): void {
    this.#added = listener;
  }

  /**
   * Takes up due pairs of the revocable providers, and those of every provider that are older than 30 days, but none of
   * a busy provider. No other process gets them before their backoff is over.
   */
  claim(claim: RevocationClaim): Promise<ClaimedRevocation[]> {
    return this.executor.executeDetached(this.#sql().claim, claim);
  }

  async postpone(id: string, errorCode: string, delayMs = 0): Promise<void> {
    await this.executor.executeDetached(this.#sql().postpone, { id, errorCode, delayMs });
  }

  async remove(id: string): Promise<void> {
    await this.executor.executeDetached(this.#sql().remove, { id });
  }

  /** Returns the tokens of a key that are still to be revoked, as the surrounding transaction sees them. */
  findPending(key: AccountKey): Promise<PendingTokens[]> {
    const { findPending } = this.#sql();
    return this.scope.isInside()
      ? this.executor.execute(findPending, key)
      : this.executor.executeDetached(findPending, key);
  }
}
