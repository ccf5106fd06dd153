import type { PoolClient } from 'pg';
import type { QueryRunner } from 'typeorm';

import { TokensUsageError } from '../tokens.errors.js';
import { within } from '../within.js';
import { noAnswer, translateDriverError } from './driver-error.js';
import { LentQueryRunner } from './lent-query-runner.js';
import { clientOf, type IsolationLevel, Transaction, transactionLost, type TransactionState } from './transaction.js';

/** What {@link OwnTransaction} begins with. */
export interface BeginOptions {
  /** Gets the runner its connection, or rejects and leaves nothing to release. */
  readonly connect: (runner: QueryRunner, action: string) => Promise<unknown>;
  /** How long PostgreSQL may take to begin, to commit and to roll back, in milliseconds each. */
  readonly timeoutMs: number;
  readonly isolationLevel?: IsolationLevel;
}

/**
 * A transaction that {@link QueryRunnerScope} owns. It begins with the first use of its runner, and the connection goes back
 * to the pool with its end only.
 */
export class OwnTransaction extends Transaction {
  #state: TransactionState = 'idle';
  #begun: Promise<void> | undefined;
  #isConnected = false;
  /** The connection, once the transaction has begun on it. */
  #client: PoolClient | undefined;
  readonly #lent: LentQueryRunner;

  constructor(
    runner: QueryRunner,
    private readonly options: BeginOptions,
  ) {
    super(runner);
    this.#lent = new LentQueryRunner(runner, async () => {
      await this.begin();
      // Work that goes on after its end would find the connection outside of every transaction, until that is released.
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
   * Commits what was begun.
   *
   * @throws {@link TokenStoreUnavailableError} when the transaction could not begin, was lost, had a failed statement, or
   * when its COMMIT was not confirmed
   * @throws {@link TokensUsageError} when the work ended it, released its runner, or left a nested transaction open
   */
  async commit(): Promise<void> {
    let begun: Promise<void> | undefined;
    do {
      begun = this.#begun;
      await begun;
      await this.quiesce();
    } while (begun !== this.#begun); // work that was not awaited has begun it meanwhile
    if (!begun) {
      this.#state = 'ended';
      return;
    }
    if (this.state === 'lost') throw transactionLost();
    if (this.#hasEndedInside()) throw endedInside();
    if (this.#lent.wasReleased) throw releasedInside();
    this.#state = 'ended';
    // The COMMIT of a transaction that has failed answers ROLLBACK, and no error; any other statement says 25P02.
    await this.#asOwner('commit a transaction', () => this.runner.query('SELECT 1'));
    if (isIdle(this.#client)) throw endedInside(); // by a statement that the work did not wait for
    await this.#asOwner('commit a transaction', () => this.runner.commitTransaction());
    if (this.#isActive()) throw leftOpen();
  }

  /** Rolls back what is open, gives the connection back, and lets nothing run any more. Never rejects. */
  async end(): Promise<void> {
    this.#state = 'ended';
    await this.#begun?.catch(() => undefined);
    await this.quiesce();
    if (!this.#isConnected) return;
    try {
      // Every level: TypeORM ends a nested transaction by its savepoint only.
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
    super.assertOpen(); // it may have been ended while it waited for the connection
    this.#state = 'open';
    await this.#asOwner(action, () => this.runner.startTransaction(this.options.isolationLevel));
    this.#client = await clientOf(this.runner);
  }

  async #connect(action: string): Promise<void> {
    try {
      await this.options.connect(this.runner, action);
    } catch (error) {
      throw translateDriverError(error, action);
    }
  }

  /** Makes a call that PostgreSQL must answer in time; a connection that stays silent is closed. */
  async #asOwner(action: string, call: () => Promise<unknown>): Promise<void> {
    await this.#lent.asOwner(async () => {
      const answered = call().then(() => 'answered');
      try {
        if ((await within(answered, this.options.timeoutMs, () => 'late')) === 'answered') return;
      } catch (error) {
        throw translateDriverError(error, action);
      }
      await discard(this.runner);
      throw noAnswer(action);
    });
  }

  /** Whether TypeORM has a transaction open on the runner, on any level. */
  #isActive(): boolean {
    return this.runner.isTransactionActive;
  }

  #hasEndedInside(): boolean {
    return this.#lent.hasEnded || !this.#isActive() || isIdle(this.#client);
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
    'The work in QueryRunnerScope.run released the query runner that it was given, so everything is rolled back. Run gives ' +
      'the connection back when the work ends.',
  );
}
