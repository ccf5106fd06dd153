import { AsyncLocalStorage } from 'node:async_hooks';

import { Inject, Injectable } from '@nestjs/common';
import type { PoolClient } from 'pg';
import { DataSource, type QueryRunner } from 'typeorm';

import { TokensUsageError } from '../tokens.errors.js';
import { within } from '../within.js';
import { ConnectionGate } from './connection-gate.js';
import { DatabaseSettings, poolSizeOf, TOKENS_DATA_SOURCE } from './database.options.js';
import { isHandshakeBroken, poolExhausted, translateDriverError } from './driver-error.js';
import { OwnTransaction } from './own-transaction.js';
import { clientOf, HostTransaction, type IsolationLevel, type Transaction } from './transaction.js';

/** How {@link QueryRunnerScope.run} opens a transaction. */
export interface TransactionOptions {
  /** Default: the isolation level of the data source. Ignored when a surrounding transaction is joined. */
  isolationLevel?: IsolationLevel;
  /**
   * Begin with the first statement, of the module or of the work, instead of at once; until then no connection is taken.
   * Default: false.
   */
  lazy?: boolean;
}

/** A transaction for the calls below `work`, and whether that has ended. */
interface Binding {
  readonly transaction: Transaction;
  isOver: boolean;
}

const DETACHED = Symbol('detached');

/**
 * Binds transactions to the asynchronous call tree, so that token writes made anywhere below join them. A singleton
 * over `AsyncLocalStorage`: services that inject it stay singletons, and it works in HTTP, queues, cron jobs and
 * WebSockets alike. Each instance of the module has a scope of its own.
 *
 * A transaction whose connection broke stays the scope while `work` is under way: every later token statement rejects
 * with {@link TokenStoreUnavailableError} and has no effect.
 */
@Injectable()
export class QueryRunnerScope {
  readonly #storage = new AsyncLocalStorage<Binding | typeof DETACHED>();
  readonly #hostTransactions = new WeakMap<QueryRunner, HostTransaction>();
  #connections: ConnectionGate | undefined;

  /** @internal */
  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly settings: DatabaseSettings,
  ) {}

  /**
   * Runs `work` in a transaction. Inside a scope, or when `hostQueryRunner` offers a runner, it joins that transaction
   * and leaves its end to the owner. Otherwise it begins one, commits it when `work` resolves, rolls it back when
   * `work` rejects, and gives the connection back in every case. The rejection of `work` passes through unchanged.
   *
   * The transaction ends with `work`: calls on tokens that it started and did not await run outside, and its runner takes no
   * statement any more.
   *
   * @param work receives the runner of the transaction for the host's own statements
   * @throws {@link TokenStoreUnavailableError} when the transaction cannot begin, when its connection was lost or a
   * statement in it failed and `work` swallowed the error, or when its COMMIT was not confirmed
   * @throws {@link TokensUsageError} when `work` ends the transaction itself, releases its runner or leaves a nested one open
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
   * Makes a transaction of the host the scope of `work`: token writes in it commit or roll back with the host's. The
   * host keeps the ownership; nothing is begun, ended or released here.
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

  /** The runner of the surrounding transaction, the host's included; `undefined` outside, and before a lazy one begins. */
  current(): QueryRunner | undefined {
    const transaction = this.transaction();
    return transaction?.state === 'open' ? transaction.runner : undefined;
  }

  /**
   * The surrounding transaction that token statements must join, also when it is lost.
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
   * Whether a statement would run in a transaction that has something to show. A lazy one that has not begun has nothing, and
   * beginning it for a read would hold a connection.
   *
   * @internal
   */
  isInside(): boolean {
    const state = this.transaction()?.state;
    return state !== undefined && state !== 'idle';
  }

  /**
   * Whether the surrounding transaction has written a row that it sees, or deleted one, and is not committed yet.
   *
   * @internal
   * @param seen the row as the transaction sees it
   * @param loadCommitted loads it as it is committed
   */
  async isUncommitted(
    seen: { readonly version: string } | null,
    loadCommitted: () => Promise<{ readonly version: string } | null>,
  ): Promise<boolean> {
    const transaction = this.transaction();
    if (transaction?.state !== 'open' || (seen && !transaction.hasWritten(seen.version))) return false;
    return (await loadCommitted())?.version !== seen?.version;
  }

  /**
   * Runs `work` outside of every transaction, the host's included: what it does survives their rollback.
   *
   * @internal
   */
  detached<T>(work: () => T): T {
    // In Node 20 the first use of an AsyncLocalStorage makes every promise of the process dearer.
    if (!this.settings.hostQueryRunner && this.#storage.getStore() === undefined) return work();
    return this.#storage.run(DETACHED, work);
  }

  /**
   * Connects a runner within `connectionTimeoutMs`; one that connects too late goes straight back to the pool, and
   * after a rejection the caller has nothing to release.
   *
   * @internal
   * @throws {@link TokenStoreUnavailableError} when no connection became free in time or the server does not answer
   * @throws the error of the driver when the connection broke while it was made, which a second try may mend
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
      throw isHandshakeBroken(error) ? error : translateDriverError(error, action);
    }
    void connecting.then(
      () => runner.release(),
      () => undefined,
    );
    throw poolExhausted(action);
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
    if (queryRunner.dataSource !== this.dataSource) {
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
