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

/** What came of asking for a lease; the row is null when there is none any more. */
export type LeaseGrant<Row> =
  | { readonly kind: 'granted'; readonly lease: Lease<Row> }
  | { readonly kind: 'refused'; readonly reason: LeaseRefusal | 'deleted'; readonly row: Row | null };

/**
 * The leases of one table: one method a statement, outside of every transaction. Asking for a lease and storing what was
 * redeemed share statements with the other callers. Every method throws {@link TokenStoreUnavailableError}.
 */
export class LeasedTable<Key extends object, Tokens extends object, Row> {
  readonly #leases = new BatchedStatement((requests: readonly (Key & LeaseRequest)[]) => this.#acquireAll(requests));
  readonly #commits = new BatchedStatement((successors: readonly (Key & Tokens & Successor)[]) =>
    this.#commitAll(successors),
  );

  /** @param statements of the table, made when they are first needed: the host may initialise its data source late */
  constructor(
    private readonly executor: StatementExecutor,
    private readonly statements: () => LeaseStatements<Key, Tokens, Row>,
  ) {}

  /** Takes the lease of a row that still has the version and the state that the caller has seen. */
  async acquire(key: Key, request: LeaseRequest): Promise<LeaseGrant<Row>> {
    const leaseMs = Math.ceil(request.leaseMs);
    const answer = await this.#leases.run({ ...key, ...request, leaseMs });
    if (!answer) return { kind: 'refused', reason: 'deleted', row: null };
    const { row, grantedAt, refusal, askedAt } = answer;
    if (grantedAt === null) return { kind: 'refused', reason: refusal ?? 'changed', row };
    return { kind: 'granted', lease: leaseOf(request.leaseId, row, { leaseMs, askedAt, grantedAt }) };
  }

  /**
   * Keeps a lease for another `leaseMs`, if the row still has its version, its lease, and no lock of a transaction.
   *
   * @param isUnspent whether it is known that no exchange before redeemed the token
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

  /** Stores what was redeemed if the row still has the version that was redeemed for it; false otherwise. */
  async commit(key: Key, successor: Tokens & Successor): Promise<boolean> {
    const params = { ...key, ...successor };
    return (await this.#commits.run(params)) ?? this.#commitAlone(params);
  }

  /** Stores what was redeemed over something older that was redeemed from the same version; false otherwise. */
  commitNewerSibling(key: Key, successor: Tokens & Successor): Promise<boolean> {
    return this.#hasEffect(this.statements().commitNewerSibling, { ...key, ...successor });
  }

  /** Gives a lease back. With a backoff, no process refreshes before it is over. */
  async release(key: Key, end: LeaseEnd): Promise<void> {
    await this.#hasEffect(this.statements().release, { ...key, ...end });
  }

  /** Lets a lease run out whose token may have been redeemed; until then no process refreshes, or waits. */
  async giveUp(key: Key, leaseId: string, errorCode: string): Promise<void> {
    await this.#hasEffect(this.statements().giveUp, { ...key, leaseId, errorCode });
  }

  /** Records a verdict about the token; null when the lease or the version is another by now. */
  async reject(key: Key, rejection: Rejection): Promise<'quarantined' | 'ended' | null> {
    const [state] = await this.executor.executeWithLockRetry(this.statements().reject, { ...key, ...rejection });
    return state ?? null;
  }

  /** The answers, with the time on the monotonic clock since when the leases may run. */
  async #acquireAll(requests: readonly (Key & LeaseRequest)[]) {
    const askedAt = performance.now();
    const answers = await this.executor.executeDetached(this.statements().acquire, columnsOf(requests));
    return byPosition(answers.map((answer) => ({ ...answer, askedAt })));
  }

  /** Whether each was stored; undefined for those that only a statement of their own can decide. */
  async #commitAll(successors: readonly (Key & Tokens & Successor)[]): Promise<(boolean | undefined)[]> {
    const [first] = successors;
    if (first && successors.length === 1) return [await this.#commitAlone(first)];
    try {
      const stored = await this.executor.executeDetached(this.statements().commitMany, columnsOf(successors));
      return byPosition(stored.map((each) => ({ ...each, isStored: true }))).map((each) => each && true);
    } catch (error) {
      if (error instanceof TokenStoreUnavailableError) return []; // alone each is stored, or says why not
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

/** What each caller passes, as an array for each parameter. */
export function columnsOf<Params extends object>(callers: readonly Params[]): Columns<Params> {
  const columns: Partial<Record<keyof Params, unknown[]>> = {};
  for (const name of Object.keys(callers[0] ?? {}) as (keyof Params)[]) {
    columns[name] = callers.map((caller) => caller[name]);
  }
  return columns as Columns<Params>;
}

/** What was read for each caller, at the caller's position. */
function byPosition<Row extends { readonly position: number }>(rows: readonly Row[]): (Row | undefined)[] {
  const found: (Row | undefined)[] = [];
  for (const row of rows) found[row.position - 1] = row;
  return found;
}
