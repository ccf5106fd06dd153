import { AsyncLocalStorage } from 'node:async_hooks';

import type { QueryRunner } from 'typeorm';

/** The runner whose owner makes the current call. */
const owner = new AsyncLocalStorage<QueryRunner>();

/**
 * A query runner as its owner lends it to the work of the host: the first use begins the owner's transaction, and ending
 * that transaction or releasing the runner is noted, because both are the owner's to do.
 */
export class LentQueryRunner {
  #depth = 0;
  #hasEnded = false;
  #wasReleased = false;

  /** @param begin begins the owner's transaction, unless it has begun, and rejects when it is over */
  constructor(
    readonly runner: QueryRunner,
    private readonly begin: () => Promise<void>,
  ) {
    this.#beginWithFirstUse();
    this.#noteEnds();
  }

  /** Whether the host has ended the outermost transaction, or is about to; one that it began since is another. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Whether the host wanted the connection to go back to the pool, which it did not. */
  get wasReleased(): boolean {
    return this.#wasReleased;
  }

  /** Makes calls of the owner, which go through to the runner as they are. */
  asOwner<T>(work: () => Promise<T>): Promise<T> {
    return owner.run(this.runner, work);
  }

  /** TypeORM takes a connection for every statement and every transaction by these two methods. */
  #beginWithFirstUse(): void {
    const { runner } = this;
    const connect = runner.connect.bind(runner);
    const startTransaction = runner.startTransaction.bind(runner);
    runner.connect = async (): Promise<unknown> => {
      if (!this.#isOwner()) await this.begin();
      return connect() as Promise<unknown>;
    };
    runner.startTransaction = async (isolationLevel) => {
      if (!this.#isOwner()) await this.begin();
      await startTransaction(isolationLevel);
      this.#depth++;
    };
  }

  /** The end is noted when it is asked for: what is sent after that runs outside of the transaction. */
  #noteEnds(): void {
    const { runner } = this;
    for (const end of ['commitTransaction', 'rollbackTransaction'] as const) {
      const original = runner[end].bind(runner);
      runner[end] = async () => {
        if (this.#depth === 1 && !this.#isOwner()) this.#hasEnded = true;
        await original();
        this.#depth--;
      };
    }
    const release = runner.release.bind(runner);
    runner.release = async () => {
      if (this.#isOwner()) await release();
      else this.#wasReleased = true;
    };
  }

  #isOwner(): boolean {
    return owner.getStore() === this.runner;
  }
}
