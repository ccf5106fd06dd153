import type { PoolClient } from 'pg';
import type { QueryRunner } from 'typeorm';

import { TokensUsageError } from '../tokens.errors.js';
import { within } from '../within.js';
import { noAnswer, translateDriverError } from './driver-error.js';
import { LentQueryRunner } from './lent-query-runner.js';
import { clientOf, type IsolationLevel, Transaction, transactionLost, type TransactionState } from './transaction.js';

/** What {@link OwnTransaction} needs to begin. */
export interface TransactionSetup {
  /** Connects the runner. After a rejection there is no connection to release. */
  readonly connect: (runner: QueryRunner, action: string) => Promise<unknown>;
  /** How long PostgreSQL may take for each of BEGIN, COMMIT and ROLLBACK, in milliseconds. */
  readonly timeoutMs: number;
  readonly isolationLevel?: IsolationLevel | undefined;
}

/**
 * A transaction that {@link QueryRunnerScope} owns. The first use of its runner begins it. The pool gets the connection
 * back when the transaction ends, and not before.
 */
export class OwnTransaction extends Transaction {
  #state: TransactionState = 'idle';
  #begun: Promise<void> | undefined;
  #isConnected = false;
  /** The connection. It is undefined until the transaction has begun. */
  #client: PoolClient | undefined;
  readonly #lent: LentQueryRunner;
  readonly #afterCommit: (() => void)[] = [];

  constructor(
    runner: QueryRunner,
    private readonly setup: TransactionSetup,
  ) {
    super(runner);
    this.#lent = new LentQueryRunner(runner, async () => {
      await this.begin();
      // Otherwise work that continues after the end would use the connection outside of a transaction, until the runner
      // is released.
      super.assertOpen();
    });
  }

  get state(): TransactionState {
    if (this.#state === 'open' && this.runner.isReleased) this.#state = 'lost';
    return this.#state;
  }

  begin(): Promise<void> {
    this.#begun ??= this.#lent.asOwner(() => this.#start());
    return this.#begun;
  }

  override assertOpen(): void {
    super.assertOpen();
    if (this.#state === 'open' && this.#hasEndedInside()) throw endedInside();
  }

  /**
   * Commits the transaction, if it has begun.
   *
   * @throws {@link TokenStoreUnavailableError} when the transaction could not begin or was lost, when a statement in it
   * failed, or when PostgreSQL did not confirm its COMMIT
   * @throws {@link TokensUsageError} when the work ended it, released its runner, or left a nested transaction open
   */
  async commit(): Promise<void> {
    let begun: Promise<void> | undefined;
    do {
      begun = this.#begun;
      await begun;
      await this.quiesce();
    } while (begun !== this.#begun); // a call that the work did not await has begun it meanwhile
    if (!begun) {
      this.#state = 'ended';
      return;
    }
    if (this.state === 'lost') throw transactionLost();
    if (this.#hasEndedInside()) throw endedInside();
    if (this.#lent.wasReleased) throw releasedInside();
    this.#state = 'ended';
    // In a transaction with a failed statement, COMMIT rolls back and reports no error. Every other statement reports
    // 25P02.
    await this.#asOwner('commit a transaction', () => this.runner.query('SELECT 1'));
    if (isIdle(this.#client)) throw endedInside(); // a statement that the work did not await has ended it
    await this.#asOwner('commit a transaction', () => this.runner.commitTransaction());
    if (this.#isActive()) throw leftOpen();
    for (const work of this.#afterCommit) work();
  }

  override afterCommit(work: () => void): void {
    this.#afterCommit.push(work);
  }

  /**
   * Rolls back what is open and gives the connection back. The transaction accepts no statement afterwards. Never
   * rejects.
   */
  async end(): Promise<void> {
    this.#state = 'ended';
    await this.#begun?.catch(() => undefined);
    await this.quiesce();
    if (!this.#isConnected) return;
    try {
      // Once for every level, because TypeORM rolls a nested transaction back to its savepoint only.
      while (this.#isActive() && !this.runner.isReleased) {
        await this.#asOwner('roll back a transaction', () => this.runner.rollbackTransaction());
      }
    } catch {
      await this.#lent.asOwner(() => discard(this.runner));
    } finally {
      await this.#lent.asOwner(() => this.runner.release());
    }
  }

  async #start(): Promise<void> {
    const action = 'begin a transaction';
    super.assertOpen();
    await this.#connect(action);
    this.#isConnected = true;
    super.assertOpen(); // `end` may have ended it while it waited for the connection
    this.#state = 'open';
    await this.#asOwner(action, () => this.runner.startTransaction(this.setup.isolationLevel));
    this.#client = await clientOf(this.runner);
  }

  async #connect(action: string): Promise<void> {
    try {
      await this.setup.connect(this.runner, action);
    } catch (error) {
      throw translateDriverError(error, action);
    }
  }

  /** Makes a call that PostgreSQL must answer in time. Closes the connection if there is no answer. */
  async #asOwner(action: string, call: () => Promise<unknown>): Promise<void> {
    await this.#lent.asOwner(async () => {
      const answered = call().then(() => 'answered');
      try {
        if ((await within(answered, this.setup.timeoutMs, () => 'late')) === 'answered') return;
      } catch (error) {
        throw translateDriverError(error, action);
      }
      await discard(this.runner);
      throw noAnswer(action);
    });
  }

  /** Whether TypeORM has a transaction open on the runner, at any level. */
  #isActive(): boolean {
    return this.runner.isTransactionActive;
  }

  #hasEndedInside(): boolean {
    return this.#lent.hasEnded || !this.#isActive() || isIdle(this.#client);
  }
}

/**
 * Returns whether a connection has no transaction. TypeORM does not see when the host ends a transaction by SQL of its
 * own.
 */
function isIdle(client: PoolClient | undefined): boolean {
  // Older versions of pg do not have the method.
  return client !== undefined && 'getTransactionStatus' in client && client.getTransactionStatus() === 'I';
}

/** Closes a connection, because its transaction may still be open and the pool must not lend it again. */
async function discard(runner: QueryRunner): Promise<void> {
  const client = await clientOf(runner);
  void client.end().catch(() => undefined);
}

function endedInside(): TokensUsageError {
  return new TokensUsageError(
    'The work in QueryRunnerScope.run ended the transaction that it was given. Do not end it, because run commits it ' +
      'when the work resolves and rolls it back when the work rejects.',
  );
}

function leftOpen(): TokensUsageError {
  return new TokensUsageError(
    'The work in QueryRunnerScope.run left a transaction open that it had started inside, so run rolls everything ' +
      'back. Commit or roll back each startTransaction of your own.',
  );
}

function releasedInside(): TokensUsageError {
  return new TokensUsageError(
    'The work in QueryRunnerScope.run released the query runner that it was given, so run rolls everything back. Do ' +
      'not release it, because run gives the connection back when the work ends.',
  );
}
