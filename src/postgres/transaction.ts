import type { PoolClient, QueryConfig, QueryResultRow } from 'pg';
import type { QueryRunner } from 'typeorm';

import { TokensUsageError, TokenStoreUnavailableError } from '../tokens.errors.js';

/** Isolation level of a transaction, as TypeORM spells it. */
export type IsolationLevel = NonNullable<Parameters<QueryRunner['startTransaction']>[0]>;

/**
 * The life of a transaction: `idle` before it begins, `open`, `ended` by its owner, or `lost` with its connection, so that
 * PostgreSQL has rolled it back.
 */
export type TransactionState = 'idle' | 'open' | 'ended' | 'lost';

/**
 * One transaction that token statements join. Statements run one after the other, also when their callers do not wait for
 * each other: a PostgreSQL connection has no concurrency, and pg deprecates queueing on the client.
 */
export abstract class Transaction {
  readonly #writtenVersions = new Set<string>();
  #writtenIn: string | undefined;
  #lastStatement: Promise<unknown> = Promise.resolve();

  constructor(readonly runner: QueryRunner) {}

  abstract get state(): TransactionState;

  /** Begins the transaction unless it has begun; only the first call takes a connection. */
  abstract begin(): Promise<void>;

  /**
   * Runs a statement after those already under way.
   *
   * @throws {@link TokenStoreUnavailableError} when the transaction is lost
   * @throws {@link TokensUsageError} when it was ended before
   */
  async query(config: QueryConfig): Promise<QueryResultRow[]> {
    const begun = this.begin();
    const statement = this.#lastStatement.then(async () => {
      await begun;
      this.assertOpen();
      const client = await clientOf(this.runner);
      return client.query<QueryResultRow>(config);
    });
    this.#lastStatement = statement.catch(() => undefined);
    return (await statement).rows;
  }

  /** Settles when no statement is under way. */
  async quiesce(): Promise<void> {
    await this.#lastStatement;
  }

  /**
   * Refuses what would run outside of the transaction that it is meant for.
   *
   * @throws {@link TokenStoreUnavailableError} | {@link TokensUsageError}
   */
  assertOpen(): void {
    if (this.state === 'lost') throw transactionLost();
    if (this.state === 'ended') throw transactionOver();
  }

  /**
   * Remembers a token version that the transaction wrote, so that what only it can see is not refreshed. Versions
   * are random, so one that was rolled back to a savepoint is never met again.
   *
   * @param transactionId of PostgreSQL: a runner of the host may carry one transaction after the other
   */
  markWritten(version: string, transactionId: string): void {
    if (this.#writtenIn !== transactionId) this.#writtenVersions.clear();
    this.#writtenIn = transactionId;
    this.#writtenVersions.add(version);
  }

  hasWritten(version: string): boolean {
    return this.#writtenVersions.has(version);
  }
}

/** A transaction of the host: begun and ended by it. */
export class HostTransaction extends Transaction {
  /** TypeORM releases a runner whose connection broke, and leaves its transaction marked as active. */
  get state(): TransactionState {
    if (!this.runner.isReleased) return 'open';
    return this.runner.isTransactionActive ? 'lost' : 'ended';
  }

  begin(): Promise<void> {
    return Promise.resolve();
  }
}

/** The connection of a transaction broke while it was open. */
export function transactionLost(): TokenStoreUnavailableError {
  return new TokenStoreUnavailableError(
    'The connection of the surrounding transaction was lost, so PostgreSQL has rolled the transaction back. Nothing is ' +
      'stored outside of it: let the work end, and run it again as a whole.',
  );
}

/** A released runner still knows its client, which by then may belong to somebody else's transaction. */
function transactionOver(): TokensUsageError {
  return new TokensUsageError(
    'The transaction that this statement joined is over. Await every call on tokens, and every statement of yours, before ' +
      'the transaction ends.',
  );
}

/** The pg client under a query runner; takes a connection from the pool if the runner has none yet. */
export async function clientOf(runner: QueryRunner): Promise<PoolClient> {
  const client: unknown = await runner.connect();
  return client as PoolClient; // TypeORM types it `any`; its PostgreSQL driver hands out clients of pg's pool
}
