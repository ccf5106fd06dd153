import { AsyncLocalStorage } from 'node:async_hooks';

import type { QueryRunner } from 'typeorm';

/** The runner whose owner makes the present call. */
const owner = new AsyncLocalStorage<QueryRunner>();

/**
 * A query runner that its owner lends to the work of the host. The first use of the runner begins the transaction of
 * the owner. The class notes whether the work ends that transaction or releases the runner, because only the owner may
 * do so.
 */
export class LentQueryRunner {
  #depth = 0;
  #hasEnded = false;
  #wasReleased = false;

  /** @param begin begins the transaction of the owner, unless it has begun, and rejects if it has ended */
  constructor(
    readonly runner: QueryRunner,
    private readonly begin: () => Promise<void>,
  ) {
    this.#beginWithFirstUse();
    this.#noteEnds();
  }

  /** Whether the host has asked for the end of the outermost transaction. It is still true if another one begins. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Whether the host has asked to release the runner. The runner did not give its connection back then. */
  get wasReleased(): boolean {
    return this.#wasReleased;
  }

  /** Runs the owner's calls, which the runner executes unchanged. */
  asOwner<T>(work: () => Promise<T>): Promise<T> {
    return owner.run(this.runner, work);
  }

  /** Replaces `connect` and `startTransaction`. TypeORM calls one of them before every use of the connection. */
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

  /** Notes the end when the host asks for it, because a later statement would run outside of the transaction. */
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
