import { randomId } from '../postgres/random-id.js';
import { type Lease, leaseOf } from '../storage/leases/lease.js';
import type { LeaseEnd, LeaseRequest, Rejection, Successor } from '../storage/leases/lease.statements.js';
import type { LeasedRow, LeaseState } from '../storage/leases/leased-row.js';
import type { FailureKind } from '../storage/leases/leased.entity.js';
import type { LeasedTable, LeaseGrant } from '../storage/leases/leased.table.js';
import type { MemoryRows } from './memory-rows.js';

/** The state of the refresh of a row in memory. Times are in epoch milliseconds; 0 = none. */
export interface RefreshState {
  readonly isEnded: boolean;
  readonly leaseId: string | null;
  readonly leaseExpiresAt: number;
  readonly outcomeUnknown: boolean;
  readonly openLeases: number;
  readonly firstLeasedAt: number;
  readonly retryAt: number;
  readonly quarantinedUntil: number;
  readonly failureCount: number;
  readonly failureKind: FailureKind | null;
  readonly lastErrorCode: string | null;
  readonly wasRejected: boolean;
}

/** A row in memory whose refresh token the module redeems. */
export interface MemoryLeasedRow extends RefreshState {
  readonly id: string;
  readonly version: string;
  readonly parentVersion: string | null;
  readonly clientId: string | null;
  readonly rejections: number;
  /** Epoch milliseconds. */
  readonly issuedAt: number;
  /** Epoch milliseconds of the last change. */
  readonly updatedAt: number;
}

/** The state of the refresh after a store of a new refresh token. */
export const CLEARED: RefreshState = {
  isEnded: false,
  leaseId: null,
  leaseExpiresAt: 0,
  outcomeUnknown: false,
  openLeases: 0,
  firstLeasedAt: 0,
  retryAt: 0,
  quarantinedUntil: 0,
  failureCount: 0,
  failureKind: null,
  lastErrorCode: null,
  wasRejected: false,
};

const NO_LEASE = { leaseId: null, leaseExpiresAt: 0 };

/** Returns the state of a row, by the rules of the SQL in `leaseState()`. */
export function stateOf(row: MemoryLeasedRow, now: number): LeaseState {
  if (row.isEnded) return 'ended';
  if (row.leaseExpiresAt > now) return row.outcomeUnknown ? 'outcome_unknown' : 'leased';
  if (row.quarantinedUntil > now) return 'quarantined';
  if (row.retryAt > now) return 'backing_off';
  return row.openLeases > 0 ? 'abandoned' : 'idle';
}

/** Returns the part of a row that every leased table has, as a lookup in PostgreSQL returns it. */
export function readLeasedRow(row: MemoryLeasedRow, now: number): LeasedRow {
  const until = (moment: number) => Math.max(0, moment - now);
  const { id, version, parentVersion, clientId, openLeases, outcomeUnknown, rejections, wasRejected } = row;
  const { failureCount, failureKind, lastErrorCode } = row;
  return {
    ...{ id, version, parentVersion, clientId, openLeases, outcomeUnknown, rejections, wasRejected },
    ...{ failureCount, failureKind, lastErrorCode },
    state: stateOf(row, now),
    leasedForMs: until(row.leaseExpiresAt),
    firstLeasedMsAgo: row.firstLeasedAt === 0 ? 0 : now - row.firstLeasedAt,
    backingOffForMs: until(row.retryAt),
    quarantinedForMs: until(row.quarantinedUntil),
    issuedSecondsAgo: (now - row.issuedAt) / 1000,
    readAt: performance.now(),
  };
}

/** How the leases of a table treat its rows. */
interface Shape<Key, Tokens, Stored, Row> {
  readonly nameOf: (key: Key) => string;
  readonly read: (stored: Stored) => Row;
  readonly replaceTokens: (stored: Stored, tokens: Tokens) => Stored;
  /** Drops the refresh token beside an access token; absent = there is no access token. */
  readonly dropRefreshToken?: (stored: Stored) => Stored;
}

/** The leases of a table in memory. Each method has the effect of the statement of its name in `lease.statements.ts`. */
export class MemoryLeases<
  Key extends object,
  Tokens extends object,
  Stored extends MemoryLeasedRow,
  Row,
> implements Pick<LeasedTable<Key, Tokens, Row>, keyof LeasedTable<Key, Tokens, Row>> {
  constructor(
    private readonly rows: MemoryRows<Stored>,
    private readonly shape: Shape<Key, Tokens, Stored, Row>,
  ) {}

  async acquire(key: Key, request: LeaseRequest): Promise<LeaseGrant<Row>> {
    const name = this.shape.nameOf(key);
    const { leaseId, leaseMs, seenVersion, seenState, isRejected } = request;
    const now = Date.now();
    const stored = this.rows.committed.get(name);
    if (!stored) return { kind: 'refused', reason: 'deleted', row: null };
    const refused = (reason: 'replaced' | 'changed' | 'locked') =>
      ({ kind: 'refused', reason, row: this.shape.read(stored) }) as const;
    if (stored.version !== seenVersion) return refused('replaced');
    if (stored.leaseId !== leaseId && stateOf(stored, now) !== seenState) return refused('changed');
    if (this.rows.isLocked(name)) return refused('locked');
    const leased: Stored = {
      ...stored,
      leaseId,
      leaseExpiresAt: now + leaseMs,
      outcomeUnknown: false,
      openLeases: stored.openLeases + (stored.leaseId === leaseId ? 0 : 1),
      firstLeasedAt: stored.firstLeasedAt || now,
      retryAt: 0,
      wasRejected: stored.wasRejected || (isRejected && stored.openLeases === 0),
    };
    await this.rows.writeDetached(name, () => leased);
    return { kind: 'granted', lease: this.#leaseOf(leaseId, this.shape.read(leased), leaseMs) };
  }

  async renew(
    key: Key,
    lease: Lease<Row>,
    request: { seenVersion: string; leaseMs: number; isUnspent: boolean },
  ): Promise<{ kind: 'renewed'; lease: Lease<Row> } | { kind: 'locked' } | { kind: 'gone' }> {
    if (this.rows.isLocked(this.shape.nameOf(key))) return { kind: 'locked' };
    const now = Date.now();
    const renewed = await this.#change(key, (stored) => {
      if (stored.leaseId !== lease.id || stored.version !== request.seenVersion) return undefined;
      const unspent = request.isUnspent ? { openLeases: 1, firstLeasedAt: now } : {};
      return { ...stored, leaseExpiresAt: now + request.leaseMs, ...unspent };
    });
    if (!renewed) return { kind: 'gone' };
    return { kind: 'renewed', lease: this.#leaseOf(lease.id, lease.row, request.leaseMs) };
  }

  async commit(key: Key, successor: Tokens & Successor): Promise<boolean> {
    const committed = await this.#change(key, (stored) =>
      stored.version === successor.redeemedVersion ? this.#succeeded(stored, successor) : undefined,
    );
    return committed !== null;
  }

  async commitNewerSibling(key: Key, successor: Tokens & Successor): Promise<boolean> {
    const committed = await this.#change(key, (stored) => {
      const isOlder = stored.issuedAt < successor.issuedAt * 1000;
      return stored.parentVersion === successor.redeemedVersion && isOlder
        ? this.#succeeded(stored, successor)
        : undefined;
    });
    return committed !== null;
  }

  async release(key: Key, { leaseId, failureKind, errorCode, backoffMs }: LeaseEnd): Promise<void> {
    await this.#change(key, (stored) => {
      if (stored.leaseId !== leaseId) return undefined;
      return {
        ...closed(stored),
        failureCount: stored.failureCount + (failureKind === null ? 0 : 1),
        failureKind: failureKind ?? stored.failureKind,
        lastErrorCode: errorCode ?? stored.lastErrorCode,
        retryAt: backoffMs === null ? 0 : Date.now() + backoffMs,
      };
    });
  }

  async giveUp(key: Key, leaseId: string, errorCode: string): Promise<void> {
    await this.#change(key, (stored) => {
      if (stored.leaseId !== leaseId) return undefined;
      const failureCount = stored.failureCount + 1;
      return { ...stored, outcomeUnknown: true, failureKind: 'transient', lastErrorCode: errorCode, failureCount };
    });
  }

  async reject(key: Key, rejection: Rejection): Promise<'quarantined' | 'ended' | null> {
    const { leaseId, seenVersion, quarantineMs, errorCode, isCertain } = rejection;
    const rejected = await this.#change(key, (stored) => {
      if (stored.leaseId !== leaseId || stored.version !== seenVersion) return undefined;
      const isVerdict = isCertain || stored.openLeases <= 1 || stored.quarantinedUntil > 0;
      const failure = { failureKind: 'transient', lastErrorCode: errorCode } as const;
      const quarantinedUntil = isVerdict ? 0 : Date.now() + quarantineMs;
      if (isVerdict && this.shape.dropRefreshToken && stored.issuedAt > stored.firstLeasedAt) {
        const ended = { ...NO_LEASE, openLeases: 0, firstLeasedAt: 0, version: randomId() };
        return { ...this.shape.dropRefreshToken(stored), ...ended, ...failure, quarantinedUntil };
      }
      return { ...closed(stored), ...failure, isEnded: isVerdict, quarantinedUntil };
    });
    return rejected && (rejected.isEnded ? 'ended' : 'quarantined');
  }

  /** Changes a row in one step. Returns it as it is then, or null when the change does not apply to it. */
  async #change(key: Key, change: (stored: Stored) => Stored | undefined): Promise<Stored | null> {
    const results: Stored[] = [];
    await this.rows.writeDetached(this.shape.nameOf(key), (stored) => {
      const changed = stored && change(stored);
      if (!changed) return stored;
      results.push({ ...changed, updatedAt: Date.now() });
      return results[0];
    });
    return results[0] ?? null;
  }

  #succeeded(stored: Stored, successor: Tokens & Successor): Stored {
    const { version, redeemedVersion: parentVersion, clientId, rejections, issuedAt } = successor;
    return {
      ...this.shape.replaceTokens(stored, successor),
      ...CLEARED,
      ...{ version, parentVersion, clientId, rejections, issuedAt: issuedAt * 1000 },
    };
  }

  #leaseOf(id: string, row: Row, leaseMs: number): Lease<Row> {
    return leaseOf(id, row, { leaseMs, askedAt: performance.now(), grantedAt: Date.now() / 1000 });
  }
}

/** Returns a row whose lease has ended. Earlier leases stay open. */
function closed<Stored extends MemoryLeasedRow>(stored: Stored): Stored {
  return {
    ...stored,
    ...NO_LEASE,
    openLeases: Math.max(stored.openLeases - 1, 0),
    firstLeasedAt: stored.openLeases > 1 ? stored.firstLeasedAt : 0,
  };
}
