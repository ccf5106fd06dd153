import { Injectable } from '@nestjs/common';
import { QueryFailedError, type QueryRunner } from 'typeorm';

import { DatabaseSettings } from '../postgres/database.options.js';
import { noAnswer, translateDriverError } from '../postgres/driver-error.js';
import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { transactionLost } from '../postgres/transaction.js';
import { TokensError } from '../tokens-error.js';
import { TokenStoreUnavailableError } from '../tokens.errors.js';
import { within } from '../within.js';

/** How long the module tries a statement with NOWAIT whose row is locked, in milliseconds. */
const LOCK_RETRY_MS = 1300;
/** How often a statement that waits looks whether the connection of the other transaction broke, in milliseconds. */
const LOOK_AGAIN_MS = 500;

const ACTION = 'read or write tokens';
const FAILED = '25P02';
const DEADLOCK = '40P01';

/** What the changes of one table do at the ends and beginnings of a transaction and its nested transactions. */
export interface TableChanges {
  beginNested(): void;
  commitNested(): void;
  rollBackNested(): void;
  commit(): void;
  /** The transaction is over, committed or not. */
  end(): void;
}

/** A transaction of the module or of the host that has used tables in memory. */
export class MemoryTransaction {
  readonly #tables: TableChanges[] = [];
  readonly #statements = new Set<Promise<unknown>>();
  readonly #waitsFor = new Set<MemoryTransaction>();
  readonly #ended: Promise<void>;
  #resolveEnded: () => void = () => undefined;
  #hasFailed = false;

  /** @param over is called at its end */
  constructor(
    private readonly runner: QueryRunner,
    private readonly over: () => void,
  ) {
    this.#ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
  }

  /** Whether a statement has failed in it, so that PostgreSQL would execute no other one. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** Whether its connection broke, or its runner was released. Its changes are then undone. */
  get isLost(): boolean {
    return this.runner.isReleased;
  }

  add(table: TableChanges): void {
    this.#tables.push(table);
  }

  /** Makes it fail by an error of a statement. Errors of the module that are not of the store have no effect. */
  noteError(error: Error): void {
    if (error instanceof TokenStoreUnavailableError || !(error instanceof TokensError)) this.#hasFailed = true;
  }

  /** Runs a statement. A connection has no concurrency, so what the runner executes waits for it. */
  async track<T>(work: () => Promise<T>): Promise<T> {
    const statement = work();
    this.#statements.add(statement);
    try {
      return await statement;
    } finally {
      this.#statements.delete(statement);
    }
  }

  /** Settles when no statement is under way. */
  async quiesce(): Promise<void> {
    while (this.#statements.size > 0) await Promise.allSettled(this.#statements);
  }

  /** Waits for the end of another transaction. Returns false if it has not ended after this time. */
  async waitFor(other: MemoryTransaction, timeoutMs: number): Promise<boolean> {
    if (other.isWaitingFor(this)) {
      this.#hasFailed = true;
      throw refusal(DEADLOCK);
    }
    this.#waitsFor.add(other);
    try {
      return await other.hasEndedWithin(timeoutMs);
    } finally {
      this.#waitsFor.delete(other);
    }
  }

  /** Returns whether the end of this transaction needs the end of another one. */
  isWaitingFor(other: MemoryTransaction): boolean {
    return [...this.#waitsFor].some((each) => each === other || each.isWaitingFor(other));
  }

  hasEndedWithin(timeoutMs: number): Promise<boolean> {
    return within(
      this.#ended.then(() => true),
      timeoutMs,
      () => false,
    );
  }

  beginNested(): void {
    for (const table of this.#tables) table.beginNested();
  }

  commitNested(): void {
    for (const table of this.#tables) table.commitNested();
  }

  rollBackNested(): void {
    for (const table of this.#tables) table.rollBackNested();
  }

  /** Makes it usable again, because it was rolled back to a savepoint before its failed statement. */
  recover(): void {
    this.#hasFailed = false;
  }

  /** Commits what it wrote. If it has failed, it commits nothing. */
  commit(): void {
    if (!this.#hasFailed) for (const table of this.#tables) table.commit();
    this.end();
  }

  end(): void {
    for (const table of this.#tables) table.end();
    this.over();
    this.#resolveEnded();
  }
}

/** The transactions that have used tables in memory. It learns their ends from their query runners. */
@Injectable()
export class MemoryTransactions {
  readonly #open = new WeakMap<QueryRunner, MemoryTransaction>();
  readonly #watched = new WeakSet<QueryRunner>();

  constructor(
    private readonly scope: QueryRunnerScope,
    private readonly settings: DatabaseSettings,
  ) {}

  /**
   * Begins the surrounding transaction, and returns it; undefined outside of a transaction.
   *
   * @throws {@link TokenStoreUnavailableError} when it is lost or has failed
   */
  async join(): Promise<MemoryTransaction | undefined> {
    const transaction = this.scope.transaction();
    if (!transaction) return undefined;
    await transaction.begin();
    transaction.assertOpen();
    const { runner } = transaction;
    if (!runner.isTransactionActive) return undefined; // each statement of such a runner of the host autocommits
    const joined = this.#open.get(runner) ?? this.#begin(runner);
    if (joined.hasFailed) throw refusal(FAILED);
    return joined;
  }

  /** As {@link join}, but a read begins no transaction. */
  async joinToRead(): Promise<MemoryTransaction | undefined> {
    return this.scope.isInside() ? this.join() : undefined;
  }

  /** Runs all writes of one statement in the surrounding transaction. */
  async statement<T>(work: () => Promise<T>): Promise<T> {
    const transaction = await this.join();
    return transaction ? transaction.track(work) : work();
  }

  /** Returns the surrounding transaction if it has used a table in memory. */
  own(): MemoryTransaction | undefined {
    const runner = this.scope.transaction()?.runner;
    return runner && this.#open.get(runner);
  }

  /**
   * Waits until no transaction has a row locked. Inside a transaction this can take for ever, as in PostgreSQL. Outside
   * of one it takes `connectionTimeoutMs` at most.
   *
   * @param own the transaction that waits; undefined outside of a transaction
   * @param holderOfRow returns the transaction that has the row locked
   * @throws {@link TokenStoreUnavailableError} when the time is over, when both transactions wait for each other, or
   * when the transaction that waits is lost
   */
  async wait(
    own: MemoryTransaction | undefined,
    holderOfRow: () => MemoryTransaction | undefined,
    { isRetry = false }: { readonly isRetry?: boolean } = {},
  ): Promise<void> {
    const limitMs = own ? Infinity : isRetry ? LOCK_RETRY_MS : this.settings.connectionTimeoutMs;
    const startedAt = performance.now();
    for (let holder = holderOfRow(); holder; holder = holderOfRow()) {
      const leftMs = startedAt + limitMs - performance.now();
      if (leftMs <= 0) throw isRetry ? refusal('55P03') : noAnswer(ACTION);
      const sliceMs = Math.min(leftMs, LOOK_AGAIN_MS);
      await (own ? own.waitFor(holder, sliceMs) : holder.hasEndedWithin(sliceMs));
    }
    if (own?.isLost) throw transactionLost();
  }

  #begin(runner: QueryRunner): MemoryTransaction {
    const begun = new MemoryTransaction(runner, () => this.#open.delete(runner));
    this.#open.set(runner, begun);
    if (!this.#watched.has(runner)) this.#watch(runner);
    return begun;
  }

  /** Follows the transactions of a runner, which belong to the module or to the host. */
  #watch(runner: QueryRunner): void {
    this.#watched.add(runner);
    const start = runner.startTransaction.bind(runner);
    const commit = runner.commitTransaction.bind(runner);
    const rollback = runner.rollbackTransaction.bind(runner);
    runner.startTransaction = async (isolationLevel) => {
      await start(isolationLevel);
      this.#open.get(runner)?.beginNested();
    };
    runner.commitTransaction = async () => {
      await commit();
      const open = this.#open.get(runner);
      if (runner.isTransactionActive) open?.commitNested();
      else open?.commit();
    };
    runner.rollbackTransaction = async () => {
      await rollback();
      const open = this.#open.get(runner);
      if (runner.isTransactionActive) open?.rollBackNested();
      else open?.end();
    };
    this.#refuseStatements(runner);
  }

  /** Makes a runner answer in a failed transaction as PostgreSQL does. */
  #refuseStatements(runner: QueryRunner): void {
    const query = runner.query.bind(runner) as (statement: string, ...others: unknown[]) => Promise<unknown>;
    const watched = async (statement: string, ...others: unknown[]): Promise<unknown> => {
      const open = this.#open.get(runner);
      await open?.quiesce();
      if (!open?.hasFailed) return query(statement, ...others);
      if (/^\s*(COMMIT|END)\b/i.test(statement)) return query('ROLLBACK');
      if (!/^\s*(ROLLBACK|ABORT)\b/i.test(statement)) throw aborted(statement);
      const answer = await query(statement, ...others);
      if (/^\s*ROLLBACK\s.*\bTO\b/i.test(statement)) open.recover();
      return answer;
    };
    Object.assign(runner, { query: watched });
  }
}

/** Returns the error of a statement that PostgreSQL refuses with this SQLSTATE. */
function refusal(sqlState: string): Error {
  return translateDriverError({ severity: 'ERROR', code: sqlState }, ACTION);
}

/** Returns the error of TypeORM for a statement in a transaction that has failed. */
function aborted(statement: string): Error {
  const message = 'current transaction is aborted, commands ignored until end of transaction block';
  return new QueryFailedError(
    statement,
    undefined,
    Object.assign(new Error(message), { severity: 'ERROR', code: FAILED }),
  );
}
