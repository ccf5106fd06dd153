import { AsyncLocalStorage } from 'node:async_hooks';

import { Inject, Injectable } from '@nestjs/common';
import { DataSource, type QueryRunner } from 'typeorm';

import { TokensConfigurationError } from '../tokens.errors.js';
import { DatabaseOptions, TOKENS_DATA_SOURCE } from './database.options.js';
import { poolExhausted, translateDriverError } from './driver-error.js';
import { clientOf, type IsolationLevel, TransactionContext, transactionOver } from './transaction-context.js';

/** How {@link QueryRunnerScope.run} opens a transaction. */
export interface TransactionOptions {
  /** Default: the isolation level of the data source. Ignored when a surrounding transaction is joined. */
  isolationLevel?: IsolationLevel;
  /** Begin at the first token statement instead of at once; until then no connection is taken. Default: false. */
  lazy?: boolean;
}

const DETACHED = Symbol('detached');

/**
 * Binds transactions to the asynchronous call tree, so that token writes made anywhere below join them. A singleton
 * over `AsyncLocalStorage`: services that inject it stay singletons, and it works in HTTP, queues, cron jobs and
 * WebSockets alike. Each instance of the module has a scope of its own.
 */
@Injectable()
export class QueryRunnerScope {
  readonly #storage = new AsyncLocalStorage<TransactionContext | typeof DETACHED>();
  readonly #hostTransactions = new WeakMap<QueryRunner, TransactionContext>();

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly options: DatabaseOptions,
  ) {}

  /**
   * Runs `work` in a transaction. Inside a scope, or when `hostQueryRunner` offers a runner, it joins that transaction
   * and leaves its end to the owner. Otherwise it begins one, commits it when `work` resolves, rolls it back when
   * `work` rejects, and gives the connection back in every case. The rejection of `work` passes through unchanged.
   *
   * The transaction ends with `work`: what it started and did not await runs outside.
   *
   * @param work receives the runner of the transaction for the host's own statements
   * @throws {@link TokenStoreUnavailableError} when the transaction cannot begin, when a statement in it failed and
   * the error was swallowed, or when its COMMIT was not confirmed
   * @throws {@link TokensConfigurationError} when `work` leaves a nested transaction of its own open
   */
  async run<T>(work: (queryRunner: QueryRunner) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    const surrounding = this.context();
    if (surrounding) {
      if (!options.lazy) await surrounding.begin();
      if (surrounding.isClosed) throw transactionOver();
      return work(surrounding.runner);
    }
    const runner = this.dataSource.createQueryRunner('master');
    const context: TransactionContext = new TransactionContext(runner, () =>
      this.#begin(context, options.isolationLevel),
    );
    try {
      if (!options.lazy) await context.begin();
      const result = await this.#storage.run(context, () => work(runner));
      await this.#end(context, 'commit');
      return result;
    } catch (error) {
      await this.#end(context, 'rollback');
      throw error;
    } finally {
      if (context.isConnected) await runner.release();
    }
  }

  /**
   * Makes a transaction of the host the scope of `work`: token writes in it commit or roll back with the host's. The
   * host keeps the ownership; nothing is begun, ended or released here.
   *
   * @throws {@link TokensConfigurationError} when the runner belongs to another data source than the module, or is
   * released
   */
  async join<T>(queryRunner: QueryRunner, work: () => Promise<T>): Promise<T> {
    if (queryRunner.isReleased) {
      throw new TokensConfigurationError('The query runner to join is released. Join it before you release it.');
    }
    if (this.context()?.runner === queryRunner) return work();
    return this.#storage.run(this.#joined(queryRunner), work);
  }

  /** The runner of the surrounding transaction, the host's included; `undefined` outside, and before a lazy one begins. */
  current(): QueryRunner | undefined {
    const context = this.context();
    return context?.hasBegun ? context.runner : undefined;
  }

  /** The surrounding transaction that token statements must join. Internal to the module. */
  context(): TransactionContext | undefined {
    const own = this.#storage.getStore();
    if (own === DETACHED) return undefined;
    if (own && !own.isClosed && !own.runner.isReleased) return own;
    const hostRunner = this.options.hostQueryRunner?.();
    return hostRunner && !hostRunner.isReleased ? this.#joined(hostRunner) : undefined;
  }

  /** Runs `work` outside of every transaction, the host's included: what it does survives their rollback. */
  detached<T>(work: () => T): T {
    // In Node 20 the first use of an AsyncLocalStorage makes every promise of the process dearer.
    if (!this.options.hostQueryRunner && this.#storage.getStore() === undefined) return work();
    return this.#storage.run(DETACHED, work);
  }

  /**
   * Connects a runner within `connectionTimeoutMs`; one that connects too late goes straight back to the pool, and
   * after a rejection the caller has nothing to release. Internal to the module.
   *
   * @throws {@link TokenStoreUnavailableError} when no connection became free in time or the server does not answer
   */
  async connect(runner: QueryRunner, action: string): Promise<void> {
    const connecting = clientOf(runner);
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(poolExhausted(action));
      }, this.options.connectionTimeoutMs);
    });
    try {
      await Promise.race([connecting, deadline]);
    } catch (error) {
      void connecting.then(
        () => runner.release(),
        () => undefined,
      );
      throw translateDriverError(error, action);
    } finally {
      clearTimeout(timer);
    }
  }

  #joined(queryRunner: QueryRunner): TransactionContext {
    const known = this.#hostTransactions.get(queryRunner);
    if (known) return known;
    if (queryRunner.dataSource !== this.dataSource) {
      throw new TokensConfigurationError(
        'The query runner to join belongs to another data source than TokensModule. ' +
          'Create it from the data source named in the dataSource option.',
      );
    }
    const context = new TransactionContext(queryRunner);
    void context.begin();
    this.#hostTransactions.set(queryRunner, context);
    return context;
  }

  async #begin(context: TransactionContext, isolationLevel: IsolationLevel | undefined): Promise<void> {
    const action = 'begin a transaction';
    await this.connect(context.runner, action);
    context.isConnected = true;
    try {
      await context.runner.startTransaction(isolationLevel);
    } catch (error) {
      throw translateDriverError(error, action);
    }
  }

  async #end(context: TransactionContext, end: 'commit' | 'rollback'): Promise<void> {
    if (context.isClosed) return;
    if (end === 'commit') await context.idle();
    context.isClosed = true;
    await context.idle();
    const { runner } = context;
    if (!context.isConnected || !runner.isTransactionActive) return;
    try {
      if (end === 'commit') await commit(runner);
      else await rollBack(runner);
    } catch (error) {
      await rollBack(runner).catch(() => discard(runner));
      if (end === 'commit') throw translateDriverError(error, 'commit a transaction');
    }
  }
}

async function commit(runner: QueryRunner): Promise<void> {
  // The COMMIT of a transaction that has failed answers ROLLBACK, and no error; any other statement says 25P02.
  await runner.query('SELECT 1');
  await runner.commitTransaction();
  if (!runner.isTransactionActive) return;
  throw new TokensConfigurationError(
    'The work in QueryRunnerScope.run left a transaction open that it had started inside, so everything is rolled back. ' +
      'Commit or roll back each startTransaction of your own.',
  );
}

/** Rolls back every level: TypeORM ends a nested transaction by its savepoint only. */
async function rollBack(runner: QueryRunner): Promise<void> {
  while (runner.isTransactionActive) await runner.rollbackTransaction();
}

/** Keeps a connection out of the pool whose transaction may still be open. */
async function discard(runner: QueryRunner): Promise<void> {
  const client = await clientOf(runner);
  void client.end().catch(() => undefined);
}
