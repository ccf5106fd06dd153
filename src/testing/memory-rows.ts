import type { QueryRunner } from 'typeorm';

import type { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { TokenStoreUnavailableError } from '../tokens.errors.js';
import { within } from '../within.js';

/** How long a write waits for the transaction that has its row locked, in milliseconds. */
const LOCK_TIMEOUT_MS = 1300;

type Changes<Row> = ReadonlyMap<string, Row | undefined>;

/** What a transaction has written and not committed. A row that it deleted is undefined. */
interface OpenTransaction<Row> {
  changes: Changes<Row>;
  /** The changes at the beginning of each nested transaction. */
  readonly savepoints: Changes<Row>[];
  readonly ended: Promise<void>;
  readonly end: () => void;
}

/**
 * Rows of one table in memory, by their names. It isolates transactions as PostgreSQL does by READ COMMITTED. The
 * writes of a transaction become visible when the host or the module commits it through its query runner. Until then
 * its rows are locked for other writers.
 */
export class MemoryRows<Row> {
  readonly #committed = new Map<string, Row>();
  readonly #open = new Map<QueryRunner, OpenTransaction<Row>>();
  readonly #watched = new WeakSet<QueryRunner>();

  constructor(private readonly scope: QueryRunnerScope) {}

  /** The committed rows, in the order of their first store. */
  get committed(): ReadonlyMap<string, Row> {
    return this.#committed;
  }

  /** Returns a row as the surrounding transaction sees it. */
  async find(name: string): Promise<Row | undefined> {
    const open = this.scope.isInside() ? await this.#joinedTransaction() : undefined;
    return open?.changes.has(name) ? open.changes.get(name) : this.#committed.get(name);
  }

  /** Returns a row as the surrounding transaction sees it, at once. */
  peek(name: string): Row | undefined {
    const own = this.#own();
    return own?.changes.has(name) ? own.changes.get(name) : this.#committed.get(name);
  }

  /** Returns all rows as the surrounding transaction sees them, at once. */
  peekAll(): Row[] {
    const rows = new Map<string, Row | undefined>([...this.#committed, ...(this.#own()?.changes ?? [])]);
    return [...rows.values()].filter((row) => row !== undefined);
  }

  /**
   * Waits until no other transaction has the row locked.
   *
   * @throws {@link TokenStoreUnavailableError} when the row stays locked
   */
  unlocked(name: string): Promise<void> {
    return this.#unlocked(name, this.#own());
  }

  /**
   * Changes a row in the surrounding transaction, in one step. Waits while another transaction has it locked.
   * Locks only a row that it changes.
   *
   * @param change gets the row, or undefined if there is none; returns the new row, the same row to change nothing,
   * or undefined to delete the row
   * @throws {@link TokenStoreUnavailableError} when the row stays locked, or when the transaction is lost
   */
  async write(name: string, change: (row: Row | undefined) => Row | undefined): Promise<void> {
    const open = await this.#joinedTransaction();
    await this.#unlocked(name, open);
    if (!open) {
      this.#commit(name, change(this.#committed.get(name)));
      return;
    }
    const row = open.changes.has(name) ? open.changes.get(name) : this.#committed.get(name);
    const changed = change(row);
    if (changed !== row) open.changes = new Map([...open.changes, [name, changed]]);
  }

  /** Changes a row as {@link write} does, but outside of every transaction. */
  async writeDetached(name: string, change: (row: Row | undefined) => Row | undefined): Promise<void> {
    await this.#unlocked(name, undefined);
    this.#commit(name, change(this.#committed.get(name)));
  }

  /** Whether a transaction has the row locked. */
  isLocked(name: string): boolean {
    return this.#holderOf(name, undefined) !== undefined;
  }

  /** Whether another transaction than the surrounding one has the row locked. */
  isLockedByOther(name: string): boolean {
    return this.#holderOf(name, this.#own()) !== undefined;
  }

  /** Whether the surrounding transaction has written the row and has not committed it. */
  isUncommitted(name: string): boolean {
    return this.#own()?.changes.has(name) === true;
  }

  /** Returns the surrounding transaction if it has written rows of this table. */
  #own(): OpenTransaction<Row> | undefined {
    const runner = this.scope.transaction()?.runner;
    return runner && this.#open.get(runner);
  }

  #commit(name: string, row: Row | undefined): void {
    if (row === undefined) this.#committed.delete(name);
    else this.#committed.set(name, row);
  }

  /** Begins the surrounding transaction, and returns it; undefined outside of a transaction. */
  async #joinedTransaction(): Promise<OpenTransaction<Row> | undefined> {
    const transaction = this.scope.transaction();
    if (!transaction) return undefined;
    await transaction.begin();
    transaction.assertOpen();
    const { runner } = transaction;
    if (!runner.isTransactionActive) return undefined; // each statement of such a runner of the host autocommits
    const known = this.#open.get(runner);
    if (known) return known;
    this.#watch(runner);
    const opened = openTransaction<Row>();
    this.#open.set(runner, opened);
    return opened;
  }

  async #unlocked(name: string, own: OpenTransaction<Row> | undefined): Promise<void> {
    for (let holder = this.#holderOf(name, own); holder; holder = this.#holderOf(name, own)) {
      const isFree = await within(
        holder.ended.then(() => true),
        LOCK_TIMEOUT_MS,
        () => false,
      );
      if (!isFree) {
        throw new TokenStoreUnavailableError('Another transaction has the row locked; try again.', '55P03');
      }
    }
  }

  #holderOf(name: string, own: OpenTransaction<Row> | undefined): OpenTransaction<Row> | undefined {
    for (const [runner, open] of this.#open) {
      if (runner.isReleased) this.#end(runner, open);
      else if (open !== own && open.changes.has(name)) return open;
    }
    return undefined;
  }

  #end(runner: QueryRunner, open: OpenTransaction<Row>): void {
    this.#open.delete(runner);
    open.end();
  }

  /** Follows the transactions of a runner, which belong to the module or to the host. */
  #watch(runner: QueryRunner): void {
    if (this.#watched.has(runner)) return;
    this.#watched.add(runner);
    const start = runner.startTransaction.bind(runner);
    const commit = runner.commitTransaction.bind(runner);
    const rollback = runner.rollbackTransaction.bind(runner);
    runner.startTransaction = async (isolationLevel) => {
      await start(isolationLevel);
      const open = this.#open.get(runner);
      open?.savepoints.push(open.changes);
    };
    runner.commitTransaction = async () => {
      await commit();
      const open = this.#open.get(runner);
      open?.savepoints.pop();
      if (!open || runner.isTransactionActive) return;
      for (const [name, row] of open.changes) this.#commit(name, row);
      this.#end(runner, open);
    };
    runner.rollbackTransaction = async () => {
      await rollback();
      const open = this.#open.get(runner);
      // A nested transaction that began before the first write has no savepoint here.
      if (open && runner.isTransactionActive) open.changes = open.savepoints.pop() ?? new Map();
      else if (open) this.#end(runner, open);
    };
  }
}

function openTransaction<Row>(): OpenTransaction<Row> {
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  return { changes: new Map(), savepoints: [], ended, end };
}
