import { AsyncLocalStorage } from 'node:async_hooks';

import type { PoolClient } from 'pg';
import type { QueryRunner } from 'typeorm';

import { TokensUsageError } from '../tokens.errors.js';
import { translateDriverError, unanswered } from './driver-error.js';
import { within } from './within.js';
import { clientOf, type IsolationLevel, Transaction, transactionLost, type TransactionState } from './transaction.js';

/** What {@link OwnTransaction} begins with. */
export interface BeginOptions {
  /** Gets the runner its connection, or rejects with the typed error; what connects too late is given to `release`. */
  readonly connect: (runner: QueryRunner, action: string, release: () => Promise<void>) => Promise<void>;
  /** How long PostgreSQL may take to begin, in milliseconds. */
  readonly timeoutMs: number;
  readonly isolationLevel?: IsolationLevel;
}

/** The runner whose transaction the current call begins or ends: only its statements come before and after the work's. */
const owning = new AsyncLocalStorage<QueryRunner>();

/**
 * A transaction that {@link QueryRunnerScope} owns. The runner that the host gets begins it with its first use, whoever
 * uses it, and goes back to the pool with its end only.
 */
export class OwnTransaction extends Transaction {
  #state: TransactionState = 'idle';
  #begun: Promise<void> | undefined;
  /** How many transactions are open on the runner, one inside the other. */
  #depth = 0;
  #isEndedInside = false;
  /** The connection, once the transaction has begun on it. */
  #client: PoolClient | undefined;
  readonly #release: () => Promise<void>;

  constructor(
    runner: QueryRunner,
    private readonly options: BeginOptions,
  ) {
    super(runner);
    this.#release = runner.release.bind(runner);
    runner.release = () => Promise.reject(releasedInside());
    this.#beginWithFirstUse();
    this.#watchEnd();
  }

  get state(): TransactionState {
    if (this.#state === 'open' && this.runner.isReleased) this.#state = 'lost';
    return this.#state;
  }

  begin(): Promise<void> {
    this.#begun ??= owning.run(this.runner, () => this.#start());
    return this.#begun;
  }

  override assertOpen(): void {
    super.assertOpen();
    if (this.#state === 'open' && this.#hasEndedInside()) throw endedInside();
  }

  /**
   * Commits what was begun, and gives the connection back.
   *
   * @throws {@link TokenStoreUnavailableError} when the transaction could not begin, was lost, had a failed statement, or
   * when its COMMIT was not confirmed
   * @throws {@link TokensUsageError} when the work ended it, or left a nested transaction open
   */
  async commit(): Promise<void> {
    await this.begunOrIdle();
    await this.quiesce();
    if (this.state === 'lost') throw transactionLost();
    if (this.#state !== 'open') {
      this.#state = 'ended';
      return;
    }
    if (this.#hasEndedInside()) throw endedInside();
    this.#state = 'ended';
    try {
      await owning.run(this.runner, async () => {
        // The COMMIT of a transaction that has failed answers ROLLBACK, and no error; any other statement says 25P02.
        await this.runner.query('SELECT 1');
        await this.runner.commitTransaction();
      });
    } catch (error) {
      throw translateDriverError(error, 'commit a transaction');
    }
    if (this.#isActive()) throw leftOpen();
  }

  /** Rolls back what is open, gives the connection back, and lets nothing run any more. Never rejects. */
  async end(): Promise<void> {
    await this.begunOrIdle().catch(() => undefined);
    const wasBegun = this.#state !== 'idle';
    this.#state = 'ended';
    await this.quiesce();
    if (!wasBegun) return;
    await owning.run(this.runner, () => this.#rollBack());
    await this.#release();
  }

  async #rollBack(): Promise<void> {
    try {
      // Every level: TypeORM ends a nested transaction by its savepoint only.
      while (this.#isActive() && !this.runner.isReleased) await this.runner.rollbackTransaction();
    } catch {
      await discard(this.runner);
    }
  }

  /** Whether TypeORM has a transaction open on the runner, on any level. */
  #isActive(): boolean {
    return this.runner.isTransactionActive;
  }

  /** Whether the work has ended the transaction, or is about to; one that it has begun since is another. */
  #hasEndedInside(): boolean {
    return this.#isEndedInside || !this.#isActive() || isIdle(this.#client);
  }

  /** TypeORM takes a connection for every statement and every transaction by these two methods. */
  #beginWithFirstUse(): void {
    const { runner } = this;
    const connect = runner.connect.bind(runner);
    const startTransaction = runner.startTransaction.bind(runner);
    const admitted = async (): Promise<void> => {
      if (owning.getStore() === runner) return;
      await this.begin();
      // Work that goes on after its end would find the connection outside of every transaction, until that is released.
      super.assertOpen();
    };
    runner.connect = async (): Promise<unknown> => {
      await admitted();
      return connect() as Promise<unknown>;
    };
    runner.startTransaction = async (isolationLevel) => {
      await admitted();
      await startTransaction(isolationLevel);
      this.#depth++;
    };
  }

  /** Notes the end of the outermost transaction when it is asked for: what is sent after that runs outside of it. */
  #watchEnd(): void {
    const { runner } = this;
    for (const end of ['commitTransaction', 'rollbackTransaction'] as const) {
      const original = runner[end].bind(runner);
      runner[end] = async () => {
        if (this.#depth === 1) this.#isEndedInside = true;
        await original();
        this.#depth--;
      };
    }
  }

  /** Settles when the beginning does, if there is one. */
  private async begunOrIdle(): Promise<void> {
    await this.#begun;
  }

  async #start(): Promise<void> {
    const { runner, options } = this;
    const action = 'begin a transaction';
    if (this.#state === 'ended') this.assertOpen();
    await options.connect(runner, action, this.#release).catch((error: unknown) => {
      throw translateDriverError(error, action);
    });
    this.#state = 'open';
    const starting = runner.startTransaction(options.isolationLevel).then(() => 'begun');
    try {
      if ((await within(starting, options.timeoutMs, () => 'late')) === 'begun') {
        this.#client = await clientOf(runner);
        return;
      }
    } catch (error) {
      throw translateDriverError(error, action);
    }
    await discard(runner);
    throw unanswered(action);
  }
}

/** Whether a connection knows of no transaction: the host may have ended it by SQL of its own, unseen by TypeORM. */
function isIdle(client: PoolClient | undefined): boolean {
  // An older pg does not tell.
  return client !== undefined && 'getTransactionStatus' in client && client.getTransactionStatus() === 'I';
}

/** Keeps a connection out of the pool whose transaction may still be open. */
async function discard(runner: QueryRunner): Promise<void> {
  const client = await clientOf(runner);
  void client.end().catch(() => undefined);
}

function endedInside(): TokensUsageError {
  return new TokensUsageError(
    'The work in QueryRunnerScope.run ended the transaction that it was given. Leave its end to run: it commits when the ' +
      'work resolves and rolls back when the work rejects.',
  );
}

function leftOpen(): TokensUsageError {
  return new TokensUsageError(
    'The work in QueryRunnerScope.run left a transaction open that it had started inside, so everything is rolled back. ' +
      'Commit or roll back each startTransaction of your own.',
  );
}

function releasedInside(): TokensUsageError {
  return new TokensUsageError(
    'The query runner belongs to QueryRunnerScope.run, which gives its connection back when the work ends. Do not release it.',
  );
}
