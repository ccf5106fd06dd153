import type { PoolClient, QueryConfig, QueryResultRow } from 'pg';
import type { QueryRunner } from 'typeorm';

import { TokenStoreUnavailableError } from '../tokens.errors.js';

/** Isolation level of a transaction, as TypeORM spells it. */
export type IsolationLevel = NonNullable<Parameters<QueryRunner['startTransaction']>[0]>;

/**
 * One transaction that token statements join: its query runner, when it began, and which rows it wrote. Statements
 * run one after the other, also when their callers do not wait for each other: a PostgreSQL connection has no
 * concurrency, and pg deprecates queueing on the client.
 */
export class TransactionContext {
  /** Set when the transaction has ended: work that outlives it runs outside. */
  isClosed = false;
  /** Set when a connection was taken that must go back to the pool. */
  isConnected = false;
  readonly #writtenRows = new Set<string>();
  #begun: Promise<void> | undefined;
  #lastStatement: Promise<unknown> = Promise.resolve();

  constructor(
    readonly runner: QueryRunner,
    /** Begins the transaction; absent for a transaction of the host. */
    private readonly onBegin?: () => Promise<void>,
  ) {}

  /** Whether the first statement was reached, so that there is something to commit. */
  get hasBegun(): boolean {
    return this.#begun !== undefined;
  }

  /** Begins the transaction unless it has begun; only the first call takes a connection. */
  begin(): Promise<void> {
    this.#begun ??= this.onBegin?.() ?? Promise.resolve();
    return this.#begun;
  }

  /** Runs a statement after those already under way. */
  async query(config: QueryConfig): Promise<QueryResultRow[]> {
    const begun = this.begin();
    const statement = this.#lastStatement.then(async () => {
      await begun;
      if (this.runner.isReleased) throw transactionOver();
      const client = await clientOf(this.runner);
      return client.query<QueryResultRow>(config);
    });
    this.#lastStatement = statement.catch(() => undefined);
    return (await statement).rows;
  }

  /** Settles when nothing is under way, the beginning of the transaction included. */
  async idle(): Promise<void> {
    await Promise.allSettled([this.#begun, this.#lastStatement]);
  }

  /** Remembers that the transaction wrote a row, so that nobody tries to refresh what only it can see. */
  markWritten(row: string): void {
    this.#writtenRows.add(row);
  }

  hasWritten(row: string): boolean {
    return this.runner.isTransactionActive && this.#writtenRows.has(row);
  }
}

/** A released runner still knows its client, which by then may belong to somebody else's transaction. */
export function transactionOver(): TokenStoreUnavailableError {
  return new TokenStoreUnavailableError(
    'The transaction that this statement joined is over and its query runner released. Await every call on tokens ' +
      'before you end the transaction.',
  );
}

/** The pg client under a query runner; takes a connection from the pool if the runner has none yet. */
export async function clientOf(runner: QueryRunner): Promise<PoolClient> {
  const client: unknown = await runner.connect();
  return client as PoolClient; // TypeORM types it `any`; its PostgreSQL driver hands out clients of pg's pool
}
