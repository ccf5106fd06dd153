import { Inject, Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import type { SealedToken } from '../../crypto/sealed-token.js';
import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import { TokenRevocation } from './token-revocation.entity.js';
import { type TokenRevocationsStatements, tokenRevocationsStatements } from './token-revocations.statements.js';

/** A deleted pair, as it was sealed. */
export interface DeletedPair {
  readonly keycloakUserId: string;
  readonly idp: string;
  readonly accessToken: SealedToken;
  readonly refreshToken: SealedToken | '';
}

/** A deleted pair that this process has taken up. */
export interface ClaimedRevocation extends DeletedPair {
  readonly id: string;
  /** Times it was taken up, this one included. */
  readonly attempts: number;
}

/** The table `token_revocations`: one method a statement. Every method throws {@link TokenStoreUnavailableError}. */
@Injectable()
export class TokenRevocationsTable {
  #statements: TokenRevocationsStatements | undefined;

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
  ) {}

  /** Adds a pair in the surrounding transaction, so that it is revoked if and only if its deletion is committed. */
  async add({ keycloakUserId, idp, accessToken, refreshToken }: DeletedPair): Promise<void> {
    const values = [keycloakUserId, idp, accessToken, refreshToken];
    await this.executor.execute(this.#sql.add, values, 'note tokens for revocation');
  }

  /**
   * Takes up pairs of these providers that are due, and those that nobody could revoke for 30 days; nobody else gets them
   * before their backoff is over.
   */
  async claim(idps: string[], limit: number): Promise<ClaimedRevocation[]> {
    const rows = await this.executor.executeDetached(this.#sql.claim, [idps, limit], 'take up revocations');
    return rows.map((row) => ({
      id: String(row.id),
      attempts: Number(row.attempts),
      keycloakUserId: String(row.keycloak_user_id),
      idp: String(row.identity_provider),
      accessToken: row.access_token as SealedToken,
      refreshToken: row.refresh_token as SealedToken | '',
    }));
  }

  async postpone(id: string, code: string, delayMs = 0): Promise<void> {
    await this.executor.executeDetached(this.#sql.postpone, [id, delayMs, code], 'postpone a revocation');
  }

  async remove(id: string): Promise<void> {
    await this.executor.executeDetached(this.#sql.remove, [id], 'remove a revocation');
  }

  get #sql(): TokenRevocationsStatements {
    this.#statements ??= tokenRevocationsStatements(tablePathOf(this.dataSource, TokenRevocation));
    return this.#statements;
  }
}
