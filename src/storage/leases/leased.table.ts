import { BatchedStatement } from '../../postgres/batched-statement.js';
import { isRowLocked } from '../../postgres/driver-error.js';
import type { StatementExecutor } from '../../postgres/statement-executor.js';
import type { Statement } from '../../postgres/statement.js';
import { TokenStoreUnavailableError } from '../../tokens.errors.js';
import { type Lease, leaseOf } from './lease.js';
import {
  type Columns,
  type LeaseEnd,
  type LeaseRefusal,
  type LeaseRequest,
  type LeaseStatements,
  type Rejection,
  type Successor,
} from './lease.statements.js';

/** The answer to a request for a lease. The row is null when it was deleted. */
export type LeaseGrant<Row> =
  | { readonly kind: 'granted'; readonly lease: Lease<Row> }
  | { readonly kind: 'refused'; readonly reason: LeaseRefusal | 'deleted'; readonly row: Row | null };

/**
 * The leases of one table, with one method for each statement, outside of every transaction. Concurrent calls of
 * `acquire` share statements, and so do concurrent calls of `commit`. Every method throws
 * {@link TokenStoreUnavailableError}.
 */
export class LeasedTable<Key extends object, Tokens extends object, Row> {
  readonly #leases = new BatchedStatement((requests: readonly (Key & LeaseRequest)[]) => this.#acquireAll(requests));
  readonly #commits = new BatchedStatement((successors: readonly (Key & Tokens & Successor)[]) =>
    this.#commitAll(successors),
  );

  /**
   * @param statements returns the statements of the table; first called when one is needed, because the host may
   * initialise its data source late
   * @param completed adds to a row what the statements do not know
   */
  constructor(
    private readonly executor: StatementExecutor,
    private readonly statements: () => LeaseStatements<Key, Tokens, Row>,
    private readonly completed: (key: Key, row: Row) => Row = (_, row) => row,
  ) {}

  /** Takes the lease of a row if the row still has the version and the state that the caller has seen. */
  async acquire(key: Key, request: LeaseRequest): Promise<LeaseGrant<Row>> {
    const leaseMs = Math.ceil(request.leaseMs);
    const answer = await this.#leases.run({ ...key, ...request, leaseMs });
    if (!answer) return { kind: 'refused', reason: 'deleted', row: null };
    const { grantedAt, refusal, askedAt } = answer;
    const row = this.completed(key, answer.row);
    if (grantedAt === null) return { kind: 'refused', reason: refusal ?? 'changed', row };
    return { kind: 'granted', lease: leaseOf(request.leaseId, row, { leaseMs, askedAt, grantedAt }) };
  }

  /**
   * Renews a lease for another `leaseMs` milliseconds, if the row still has its version and this lease, and no
   * transaction has the row locked.
   *
   * @param isUnspent whether the caller knows that no earlier exchange redeemed the token
   */
  async renew(
    key: Key,
    lease: Lease<Row>,
    request: { seenVersion: string; leaseMs: number; isUnspent: boolean },
  ): Promise<{ kind: 'renewed'; lease: Lease<Row> } | { kind: 'locked' } | { kind: 'gone' }> {
    const askedAt = performance.now();
    const leaseMs = Math.ceil(request.leaseMs);
    try {
      const params = { ...key, ...request, leaseId: lease.id, leaseMs };
      const [grantedAt] = await this.executor.executeDetached(this.statements().renew, params);
      if (grantedAt === undefined) return { kind: 'gone' };
      return { kind: 'renewed', lease: leaseOf(lease.id, lease.row, { leaseMs, askedAt, grantedAt }) };
    } catch (error) {
      if (isRowLocked(error)) return { kind: 'locked' };
      throw error;
    }
  }

  /** Stores new tokens if the row still has the version that was redeemed for them. Returns false otherwise. */
  async commit(key: Key, successor: Tokens & Successor): Promise<boolean> {
    const params = { ...key, ...successor };
    return (await this.#commits.run(params)) ?? this.#commitAlone(params);
  }

  /** Replaces older tokens that were redeemed from the same version. Returns false when the row has no such tokens. */
  commitNewerSibling(key: Key, successor: Tokens & Successor): Promise<boolean> {
    return this.#hasEffect(this.statements().commitNewerSibling, { ...key, ...successor });
  }

  /** Gives a lease back. With a backoff, no process tries a refresh before the backoff is over. */
  async release(key: Key, end: LeaseEnd): Promise<void> {
    await this.#hasEffect(this.statements().release, { ...key, ...end });
  }

  /**
   * Notes that the outcome of a lease is unknown. Until it expires, no process refreshes the row, and no caller waits.
   */
  async giveUp(key: Key, leaseId: string, errorCode: string): Promise<void> {
    await this.#hasEffect(this.statements().giveUp, { ...key, leaseId, errorCode });
  }

  /**
   * Records a verdict about the refresh token. Returns null when the row has another lease or another version by now.
   */
  async reject(key: Key, rejection: Rejection): Promise<'quarantined' | 'ended' | null> {
    const [state] = await this.executor.executeWithLockRetry(this.statements().reject, { ...key, ...rejection });
    return state ?? null;
  }

  /** Returns the answers, each with the monotonic time of the request. No lease began before this time. */
  async #acquireAll(requests: readonly (Key & LeaseRequest)[]) {
    const askedAt = performance.now();
    const answers = await this.executor.executeDetached(this.statements().acquire, columnsOf(requests));
    return byPosition(answers.map((answer) => ({ ...answer, askedAt })));
  }

  /** Returns whether each commit was stored; undefined where only a statement of its own can decide. */
  async #commitAll(successors: readonly (Key & Tokens & Successor)[]): Promise<(boolean | undefined)[]> {
    const [first] = successors;
    if (first && successors.length === 1) return [await this.#commitAlone(first)];
    try {
      const stored = await this.executor.executeDetached(this.statements().commitMany, columnsOf(successors));
      return byPosition(stored.map((each) => ({ ...each, isStored: true }))).map((each) => each && true);
    } catch (error) {
      if (error instanceof TokenStoreUnavailableError) return []; // each commit then gets a statement of its own
      throw error;
    }
  }

  #commitAlone(successor: Key & Tokens & Successor): Promise<boolean> {
    return this.#hasEffect(this.statements().commit, successor);
  }

  async #hasEffect<Params extends object>(statement: Statement<Params, unknown>, params: Params): Promise<boolean> {
    return (await this.executor.executeWithLockRetry(statement, params)).length > 0;
  }
}

/** Returns one array for each parameter, with the values of all callers. */
export function columnsOf<Params extends object>(callers: readonly Params[]): Columns<Params> {
  const columns: Partial<Record<keyof Params, unknown[]>> = {};
  for (const name of Object.keys(callers[0] ?? {}) as (keyof Params)[]) {
    columns[name] = callers.map((caller) => caller[name]);
  }
  return columns as Columns<Params>;
}

/** Returns the row of each caller at the position of the caller. */
function byPosition<Row extends { readonly position: number }>(rows: readonly Row[]): (Row | undefined)[] {
  const found: (Row | undefined)[] = [];
  for (const row of rows) found[row.position - 1] = row;
  return found;
}
