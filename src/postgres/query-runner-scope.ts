import { AsyncLocalStorage } from 'node:async_hooks';

import { Inject, Injectable } from '@nestjs/common';
import type { PoolClient } from 'pg';
import { DataSource, type QueryRunner } from 'typeorm';

import { TokensUsageError } from '../tokens.errors.js';
import { within } from '../within.js';
import { ConnectionGate } from './connection-gate.js';
import { dataSourceOf } from './data-source-of.js';
import { DatabaseSettings, hasPasswordFunction, poolSizeOf, TOKENS_DATA_SOURCE } from './database.options.js';
import { isHandshakeBroken, passwordFailed, poolExhausted, translateDriverError } from './driver-error.js';
import { OwnTransaction } from './own-transaction.js';
import { clientOf, HostTransaction, type IsolationLevel, type Transaction } from './transaction.js';

/** How {@link QueryRunnerScope.run} opens a transaction. */
export interface TransactionOptions {
  /** Default: the isolation level of the data source. It has no effect if `run` joins a surrounding transaction. */
  isolationLevel?: IsolationLevel | undefined;
  /**
   * Whether the transaction begins with the first statement of the module or of the work, and not at once. It takes no
   * connection before it begins. Default: false.
   */
  lazy?: boolean | undefined;
}

/** The transaction of the calls inside `work`, and whether `work` has ended. */
interface Binding {
  readonly transaction: Transaction;
  isOver: boolean;
}

/** The part of a row that another write of the row changes. */
interface ComparableRow {
  readonly version: string;
  /** A store that keeps the refresh token changes only this time, not the version. */
  readonly issuedAt?: number;
}

const DETACHED = Symbol('detached');

/**
 * Binds a transaction to the asynchronous call tree, so that all token writes inside of it join the transaction. The
 * class is a singleton that uses `AsyncLocalStorage`. So services that inject it stay singletons, and it works in HTTP,
 * queues, cron jobs and WebSockets. Each instance of the module has a scope of its own.
 *
 * A transaction whose connection broke stays the scope while `work` is under way. Every later token statement rejects
 * with {@link TokenStoreUnavailableError} and has no effect.
 */
@Injectable()
export class QueryRunnerScope {
  readonly #storage = new AsyncLocalStorage<Binding | typeof DETACHED>();
  readonly #hostTransactions = new WeakMap<QueryRunner, HostTransaction>();
  #connections: ConnectionGate | undefined;

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly settings: DatabaseSettings,
  ) {}

  /**
   * Runs `work` in a transaction. Inside a scope, or when `hostQueryRunner` returns a runner, `run` joins that
   * transaction, and the owner of the transaction ends it. Otherwise `run` begins a transaction, commits it when `work`
   * resolves, rolls it back when `work` rejects, and gives the connection back in both cases. `run` rejects with the
   * error of `work`, unchanged.
   *
   * The transaction ends with `work`. Calls on tokens that `work` started and did not await run outside of it, and the
   * runner accepts no statement any more.
   *
   * @param work gets the runner of the transaction for the host's own statements
   * @throws {@link TokenStoreUnavailableError} when the transaction cannot begin, when its connection was lost or a
   * statement in it failed and `work` swallowed the error, or when PostgreSQL did not confirm its COMMIT
   * @throws {@link TokensUsageError} when `work` ends the transaction itself, releases its runner or leaves a nested
   * transaction open
   */
  async run<T>(work: (queryRunner: QueryRunner) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    const surrounding = this.transaction();
    if (surrounding) {
      if (!options.lazy) await surrounding.begin();
      surrounding.assertOpen();
      return this.#bind(surrounding, () => work(surrounding.runner));
    }
    const runner = this.dataSource.createQueryRunner('master');
    const transaction = new OwnTransaction(runner, {
      connect: (each, action) => this.connect(each, action),
      timeoutMs: this.settings.connectionTimeoutMs,
      isolationLevel: options.isolationLevel,
    });
    try {
      if (!options.lazy) await transaction.begin();
      const result = await this.#bind(transaction, () => work(runner));
      await transaction.commit();
      return result;
    } finally {
      await transaction.end();
    }
  }

  /**
   * Makes a transaction of the host the scope of `work`. Token writes in `work` commit or roll back with the host's
   * writes. The host owns the transaction: `join` begins, ends and releases nothing.
   *
   * @throws {@link TokensUsageError} when the runner belongs to another data source than the module, or is released
   */
  async join<T>(queryRunner: QueryRunner, work: () => Promise<T>): Promise<T> {
    if (queryRunner.isReleased) {
      throw new TokensUsageError('The query runner to join is released. Join it before you release it.');
    }
    if (this.transaction()?.runner === queryRunner) return work();
    return this.#bind(this.#joined(queryRunner), work);
  }

  /**
   * Returns the runner of the surrounding transaction, which may be one of the host. Returns `undefined` outside of a
   * transaction, and before a lazy transaction begins.
   */
  current(): QueryRunner | undefined {
    const transaction = this.transaction();
    return transaction?.state === 'open' ? transaction.runner : undefined;
  }

  /**
   * Returns the surrounding transaction that token statements must join. It may be lost.
   *
   * @internal
   */
  transaction(): Transaction | undefined {
    const bound = this.#storage.getStore();
    if (bound === DETACHED) return undefined;
    if (bound && !(bound.isOver && bound.transaction.state === 'ended')) return bound.transaction;
    const hostRunner = this.settings.hostQueryRunner?.();
    if (!hostRunner) return undefined;
    const offered = this.#joined(hostRunner);
    return offered.state === 'ended' ? undefined : offered;
  }

  /**
   * Returns whether a transaction that has begun surrounds the call. False for a lazy transaction that has not begun,
   * because it has no writes yet, and a read that began it would keep a connection.
   *
   * @internal
   */
  isInside(): boolean {
    const state = this.transaction()?.state;
    return state !== undefined && state !== 'idle';
  }

  /**
   * Runs `work` when the surrounding transaction is committed, and at once outside of a transaction.
   *
   * @internal
   * @see {@link Transaction.afterCommit}
   */
  afterCommit(work: () => void): void {
    const transaction = this.transaction();
    if (transaction) transaction.afterCommit(work);
    else work();
  }

  /**
   * Returns whether the surrounding transaction has written or deleted a row and has not committed this yet.
   *
   * @internal
   * @param seen the row as the transaction sees it, or null
   * @param loadCommitted loads the row as it is committed
   */
  async isUncommitted(
    seen: ComparableRow | null,
    loadCommitted: () => Promise<ComparableRow | null>,
  ): Promise<boolean> {
    const transaction = this.transaction();
    if (transaction?.state !== 'open' || (seen && !transaction.hasWritten(seen.version))) return false;
    const committed = await loadCommitted();
    return committed?.version !== seen?.version || committed?.issuedAt !== seen?.issuedAt;
  }

  /**
   * Runs `work` outside of every transaction, also of the host's. A rollback of these does not undo what `work` does.
   *
   * @internal
   */
  detached<T>(work: () => T): T {
    // `work` runs directly if no transaction can surround it, because in Node 20 the first use of an AsyncLocalStorage
    // makes every promise of the process slower.
    if (!this.settings.hostQueryRunner && this.#storage.getStore() === undefined) return work();
    return this.#storage.run(DETACHED, work);
  }

  /**
   * Connects a runner within `connectionTimeoutMs`. If it connects too late, the pool gets the connection back at once.
   * After a rejection the caller has no connection to release.
   *
   * @internal
   * @throws {@link TokenStoreUnavailableError} when no connection became free in time or the server does not answer
   * @throws the error of the driver when the connection broke while it was made; a second try may succeed
   */
  async connect(runner: QueryRunner, action: string): Promise<PoolClient> {
    this.#connections ??= new ConnectionGate(poolSizeOf(this.dataSource));
    const connections = this.#connections;
    const deadline = performance.now() + this.settings.connectionTimeoutMs;
    const mayAsk = connections.tryEnter() || (await connections.enter(this.settings.connectionTimeoutMs));
    if (!mayAsk) throw poolExhausted(action);
    const connecting = clientOf(runner);
    const leave = () => {
      connections.leave();
    };
    connecting.then(leave, leave);
    try {
      const client = await within(connecting, deadline - performance.now(), () => undefined);
      if (client) return client;
    } catch (error) {
      if (isHandshakeBroken(error)) throw error;
      const translated = translateDriverError(error, action);
      const isOfHost = translated === error && translated.name === 'Error' && hasPasswordFunction(this.dataSource);
      throw isOfHost ? passwordFailed(action, translated) : translated;
    }
    void connecting.then(
      () => runner.release(),
      () => undefined,
    );
    throw poolExhausted(action);
  }

  /** Whether the tables of the module are in the transactions of this runner. */
  protected mayJoin(queryRunner: QueryRunner): boolean {
    return dataSourceOf(queryRunner) === this.dataSource;
  }

  async #bind<T>(transaction: Transaction, work: () => Promise<T>): Promise<T> {
    const binding = { transaction, isOver: false };
    try {
      return await this.#storage.run(binding, work);
    } finally {
      binding.isOver = true;
    }
  }

  #joined(queryRunner: QueryRunner): HostTransaction {
    const known = this.#hostTransactions.get(queryRunner);
    if (known) return known;
    if (!this.mayJoin(queryRunner)) {
      throw new TokensUsageError(
        'The query runner to join belongs to another data source than TokensModule. ' +
          'Create it from the data source named in the dataSource option.',
      );
    }
    const transaction = new HostTransaction(queryRunner);
    this.#hostTransactions.set(queryRunner, transaction);
    return transaction;
  }
}
