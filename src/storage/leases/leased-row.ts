import type { QueryResultRow } from 'pg';

import type { FailureKind } from './leased.entity.js';

/**
 * The state of a row. `idle`: no exchange is under way. `leased`: an exchange may redeem the refresh token.
 * `outcome_unknown`: the holder of the lease noted that the outcome is unknown. `abandoned`: the lease expired or was
 * given back, and at least one exchange has not ended in an answer. `backing_off`: no process tries a refresh before a
 * time. `quarantined`: the module does not act on an `invalid_grant` yet. `ended`: the grant has ended.
 */
export type LeaseState = 'idle' | 'leased' | 'outcome_unknown' | 'abandoned' | 'backing_off' | 'quarantined' | 'ended';

/** The state of the refresh of one row. Times are distances from the moment at which the row was read. */
export interface LeasedRow {
  /** Names the row from its first store to its deletion. */
  readonly id: string;
  /** Token version: a 63-bit integer in decimal. */
  readonly version: string;
  /** Parent version: the version that was redeemed to get this one; null after a login. */
  readonly parentVersion: string | null;
  /** The OAuth client to which the provider issued the grant; null when it is not known. */
  readonly clientId: string | null;
  readonly state: LeaseState;
  /** Milliseconds left of the lease; 0 = none. */
  readonly leasedForMs: number;
  /** Number of leases whose exchange has not ended in an answer, a valid one included. */
  readonly openLeases: number;
  /** Milliseconds since PostgreSQL granted the first of them; 0 = there is none. */
  readonly firstLeasedMsAgo: number;
  /** Whether the last holder noted that the outcome is unknown. */
  readonly outcomeUnknown: boolean;
  /** Milliseconds for which no process tries a refresh after a failure; 0 = none. */
  readonly backingOffForMs: number;
  /** Milliseconds for which the module does not act on an `invalid_grant`; 0 = none. */
  readonly quarantinedForMs: number;
  readonly failureCount: number;
  readonly failureKind: FailureKind | null;
  readonly lastErrorCode: string | null;
  /** Number of refreshes in a row that the module made because the provider's API refused the access token. */
  readonly rejections: number;
  /** Whether the provider's API refused the access token before a refresh was tried. */
  readonly wasRejected: boolean;
  /** Seconds since the provider issued the tokens. */
  readonly issuedSecondsAgo: number;
  /** `performance.now()` when the row was read. The distances count from this moment. */
  readonly readAt: number;
}

/**
 * Returns SQL for the state of a row. It is the only place that says which columns make which state. Lookups return the
 * state, and PostgreSQL grants a lease only to a caller that has seen the state of the locked row.
 *
 * @param row alias of the table
 * @param present SQL of the time with which the expiries are compared
 */
export function leaseState(row: string, present: string): string {
  return `CASE
    WHEN ${row}.status <> 'active' THEN 'ended'
    WHEN ${row}.lease_expires_at > ${present} THEN CASE WHEN ${row}.lease_outcome_unknown THEN 'outcome_unknown' ELSE 'leased' END
    WHEN ${row}.quarantined_until > ${present} THEN 'quarantined'
    WHEN ${row}.retry_at > ${present} THEN 'backing_off'
    WHEN ${row}.open_leases > 0 THEN 'abandoned'
    ELSE 'idle' END`;
}

/**
 * Returns the columns of a {@link LeasedRow} beside its id. Times are epoch seconds of the database, and `present` is
 * its present time. That is `clock_timestamp()`, because `now()` does not move in a long transaction of the host while
 * tokens expire. The SQL uses `date_part`, because `extract` computes in numeric. Versions are text, because a double
 * cannot represent them.
 *
 * @param row alias of the table
 */
export function leaseColumns(row: string): string {
  const epoch = (column: string) => `date_part('epoch', ${row}.${column}) AS ${column}`;
  return `${row}.token_version::text AS token_version, ${row}.parent_version::text AS parent_version, ${row}.client_id,
  ${leaseState(row, 'clock_timestamp()')} AS lease_state, date_part('epoch', clock_timestamp()) AS present,
  ${['issued_at', 'lease_expires_at', 'first_leased_at', 'retry_at', 'quarantined_until'].map(epoch).join(', ')},
  ${row}.lease_outcome_unknown, ${row}.open_leases, ${row}.failure_count, ${row}.failure_kind, ${row}.last_error_code, ${row}.rejections,
  ${row}.access_token_rejected`;
}

/** Reads the columns of {@link leaseColumns}, and `row_id`. */
export function readLeasedRow(row: QueryResultRow): LeasedRow {
  const present = Number(row.present);
  return {
    id: String(row.row_id),
    version: String(row.token_version),
    parentVersion: row.parent_version as string | null,
    clientId: row.client_id as string | null,
    state: row.lease_state as LeaseState,
    leasedForMs: millisecondsUntil(row.lease_expires_at, present),
    openLeases: Number(row.open_leases),
    firstLeasedMsAgo: row.first_leased_at === null ? 0 : (present - Number(row.first_leased_at)) * 1000,
    outcomeUnknown: row.lease_outcome_unknown as boolean,
    backingOffForMs: millisecondsUntil(row.retry_at, present),
    quarantinedForMs: millisecondsUntil(row.quarantined_until, present),
    failureCount: Number(row.failure_count),
    failureKind: row.failure_kind as FailureKind | null,
    lastErrorCode: row.last_error_code as string | null,
    rejections: Number(row.rejections),
    wasRejected: row.access_token_rejected as boolean,
    issuedSecondsAgo: present - Number(row.issued_at),
    readAt: performance.now(),
  };
}

/** Returns the {@link LeasedRow} of tokens that were stored just now. */
export function freshlyStored(
  row: Pick<LeasedRow, 'id' | 'version' | 'parentVersion' | 'clientId' | 'rejections' | 'issuedSecondsAgo'>,
): LeasedRow {
  return {
    ...row,
    state: 'idle',
    leasedForMs: 0,
    openLeases: 0,
    firstLeasedMsAgo: 0,
    outcomeUnknown: false,
    backingOffForMs: 0,
    quarantinedForMs: 0,
    failureCount: 0,
    failureKind: null,
    lastErrorCode: null,
    wasRejected: false,
    readAt: performance.now(),
  };
}

function millisecondsUntil(moment: unknown, present: number): number {
  return moment === null ? 0 : Math.max(0, (Number(moment) - present) * 1000);
}
