import type { PoolClient, QueryConfig, QueryResultRow } from 'pg';
import type { QueryRunner } from 'typeorm';

import { TokensUsageError, TokenStoreUnavailableError } from '../tokens.errors.js';

/** Isolation level of a transaction, as TypeORM writes it. */
export type IsolationLevel = NonNullable<Parameters<QueryRunner['startTransaction']>[0]>;

/**
 * The state of a transaction. It is `idle` before it begins, then `open`. It is `ended` when its owner has ended it. It
 * is `lost` when its connection broke, so that PostgreSQL has rolled it back.
 */
export type TransactionState = 'idle' | 'open' | 'ended' | 'lost';

/**
 * One transaction that token statements join. Statements run one after the other, also when their callers do not wait
 * for each other, because a PostgreSQL connection has no concurrency and pg deprecates the queue of its client.
 */
export abstract class Transaction {
  readonly #writtenVersions = new Set<string>();
  #writtenIn: string | undefined;
  #lastStatement: Promise<unknown> = Promise.resolve();

  constructor(readonly runner: QueryRunner) {}

  abstract get state(): TransactionState;

  /** Begins the transaction unless it has begun. Only the first call takes a connection. */
  abstract begin(): Promise<void>;

  /**
   * Runs a statement after all statements under way.
   *
   * @throws {@link TokenStoreUnavailableError} when the transaction is lost
   * @throws {@link TokensUsageError} when the transaction has ended
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
   * Throws unless the transaction is idle or open, so that no statement runs outside of the transaction that it joined.
   *
   * @throws {@link TokenStoreUnavailableError} when the transaction is lost
   * @throws {@link TokensUsageError} when the transaction has ended
   */
  assertOpen(): void {
    if (this.state === 'lost') throw transactionLost();
    if (this.state === 'ended') throw transactionOver();
  }

  /**
   * Remembers a token version that the transaction wrote, because the module does not refresh a pair that only the
   * transaction can see. A version that a rollback to a savepoint removed does no harm, because versions are random and
   * no row has it again.
   *
   * @param transactionId the id of PostgreSQL, because a runner of the host can have one transaction after the other
   */
  markWritten(version: string, transactionId: string): void {
    if (this.#writtenIn !== transactionId) this.#writtenVersions.clear();
    this.#writtenIn = transactionId;
    this.#writtenVersions.add(version);
  }

  hasWritten(version: string): boolean {
    return this.#writtenVersions.has(version);
  }

  /**
   * Runs `work` when the transaction is committed, and never if it is rolled back. The module does not learn when the
   * host ends a transaction of its own, so `work` then runs at once.
   */
  afterCommit(work: () => void): void {
    work();
  }
}

/** A transaction that the host begins and ends. */
export class HostTransaction extends Transaction {
  /** TypeORM releases a runner whose connection broke, and does not change its `isTransactionActive`. */
  get state(): TransactionState {
    if (!this.runner.isReleased) return 'open';
    return this.runner.isTransactionActive ? 'lost' : 'ended';
  }

  begin(): Promise<void> {
    return Promise.resolve();
  }
}

/** Error of a transaction whose connection broke while it was open. */
export function transactionLost(): TokenStoreUnavailableError {
  return new TokenStoreUnavailableError(
    'The connection of the surrounding transaction broke, so PostgreSQL has rolled the transaction back. The module ' +
      'stores nothing outside of it. Let the work end, and run it again as a whole.',
  );
}

/**
 * Error of a statement in a transaction that has ended. The statement must not run, because another transaction may by
 * then use the client of the released runner.
 */
function transactionOver(): TokensUsageError {
  return new TokensUsageError(
    'The transaction that this statement joined has ended. Await every call on tokens, and every statement of yours, ' +
      'before the transaction ends.',
  );
}

/** Returns the pg client of a query runner. Takes a connection from the pool if the runner has none yet. */
export async function clientOf(runner: QueryRunner): Promise<PoolClient> {
  const client: unknown = await runner.connect();
  return client as PoolClient; // TypeORM types it as `any`, but its PostgreSQL driver returns clients of pg's pool
}
