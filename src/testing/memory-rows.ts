import type { MemoryTransaction, MemoryTransactions, TableChanges } from './memory-transactions.js';

type Change<Row> = (row: Row | undefined) => Row | undefined;

/** What a transaction has written and not committed. A row that it deleted is undefined. */
type Changes<Row> = ReadonlyMap<string, Row | undefined>;

/** The changes of one transaction, and those at the beginning of each nested transaction. */
interface OpenChanges<Row> {
  changes: Changes<Row>;
  readonly savepoints: Changes<Row>[];
}

/**
 * Rows of one table in memory, by their names. It isolates transactions as PostgreSQL does by READ COMMITTED. The
 * writes of a transaction become visible when the host or the module commits it through its query runner. Until then
 * its rows are locked for other writers.
 */
export class MemoryRows<Row> {
  readonly #committed = new Map<string, Row>();
  readonly #open = new Map<MemoryTransaction, OpenChanges<Row>>();

  constructor(private readonly transactions: MemoryTransactions) {}

  /** The committed rows, in the order of their first store. */
  get committed(): ReadonlyMap<string, Row> {
    return this.#committed;
  }

  /**
   * Returns a row as the surrounding transaction sees it.
   *
   * @throws {@link TokenStoreUnavailableError} when the transaction is lost or has failed
   */
  async find(name: string): Promise<Row | undefined> {
    return this.#seen(name, await this.transactions.joinToRead());
  }

  /** Returns all rows as the surrounding transaction sees them. It throws as {@link find} does. */
  async findAll(): Promise<Row[]> {
    const transaction = await this.transactions.joinToRead();
    const own = transaction && this.#open.get(transaction);
    const rows = new Map<string, Row | undefined>([...this.#committed, ...(own?.changes ?? [])]);
    return [...rows.values()].filter((row) => row !== undefined);
  }

  /** Returns a row as the surrounding transaction sees it, at once. */
  peek(name: string): Row | undefined {
    return this.#seen(name, this.transactions.own());
  }

  /**
   * Waits until no other transaction has the row locked. {@link write} waits as long.
   *
   * @throws {@link TokenStoreUnavailableError} when the row stays locked, or when the transactions wait for each other
   */
  unlocked(name: string): Promise<void> {
    const own = this.transactions.own();
    return this.transactions.wait(own, () => this.#holderOf(name, own));
  }

  /**
   * Changes a row in the surrounding transaction, in one step. Waits while another transaction has it locked, as a
   * statement of PostgreSQL does: outside of a transaction until the statement counts as unanswered, and inside without
   * a limit. Locks only a row that it changes.
   *
   * @param change gets the row, or undefined if there is none; returns the new row, the same row to change nothing,
   * or undefined to delete the row
   * @throws {@link TokenStoreUnavailableError} when the row stays locked, when the transactions wait for each other, or
   * when the transaction is lost or has failed
   */
  write(name: string, change: Change<Row>): Promise<void> {
    return this.transactions.statement(async () => {
      const transaction = await this.transactions.join();
      await this.transactions.wait(transaction, () => this.#holderOf(name, transaction));
      if (!transaction) {
        this.#commit(name, change(this.#committed.get(name)));
        return;
      }
      const row = this.#seen(name, transaction);
      const changed = change(row);
      if (changed === row) return;
      const open = this.#changesOf(transaction);
      open.changes = new Map([...open.changes, [name, changed]]);
    });
  }

  /**
   * Changes a row outside of every transaction. It tries a locked row again for a short time, as the statements with
   * NOWAIT do in PostgreSQL.
   *
   * @throws {@link TokenStoreUnavailableError} when the row stays locked
   */
  async writeDetached(name: string, change: Change<Row>): Promise<void> {
    await this.transactions.wait(undefined, () => this.#holderOf(name, undefined), { isRetry: true });
    this.#commit(name, change(this.#committed.get(name)));
  }

  /** Whether a transaction has the row locked. */
  isLocked(name: string): boolean {
    return this.#holderOf(name, undefined) !== undefined;
  }

  /** Whether another transaction than the surrounding one has the row locked. */
  isLockedByOther(name: string): boolean {
    return this.#holderOf(name, this.transactions.own()) !== undefined;
  }

  /** Whether the surrounding transaction has written the row and has not committed it. */
  isUncommitted(name: string): boolean {
    const own = this.transactions.own();
    return own !== undefined && this.#open.get(own)?.changes.has(name) === true;
  }

  #seen(name: string, transaction: MemoryTransaction | undefined): Row | undefined {
    const open = transaction && this.#open.get(transaction);
    return open?.changes.has(name) ? open.changes.get(name) : this.#committed.get(name);
  }

  #commit(name: string, row: Row | undefined): void {
    if (row === undefined) this.#committed.delete(name);
    else this.#committed.set(name, row);
  }

  #holderOf(name: string, own: MemoryTransaction | undefined): MemoryTransaction | undefined {
    for (const [transaction, open] of this.#open) {
      if (transaction.isLost) transaction.end();
      else if (transaction !== own && open.changes.has(name)) return transaction;
    }
    return undefined;
  }

  #changesOf(transaction: MemoryTransaction): OpenChanges<Row> {
    const known = this.#open.get(transaction);
    if (known) return known;
    const open: OpenChanges<Row> = { changes: new Map(), savepoints: [] };
    this.#open.set(transaction, open);
    const table: TableChanges = {
      beginNested: () => {
        open.savepoints.push(open.changes);
      },
      commitNested: () => {
        open.savepoints.pop();
      },
      rollBackNested: () => {
        // A nested transaction that began before the first write has no savepoint here.
        open.changes = open.savepoints.pop() ?? new Map();
      },
      commit: () => {
        for (const [name, row] of open.changes) this.#commit(name, row);
      },
      end: () => {
        this.#open.delete(transaction);
      },
    };
    transaction.add(table);
    return open;
  }
}
