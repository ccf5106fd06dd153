import type { QueryResultRow } from 'pg';

import type { FailureKind } from './leased.entity.js';

/**
 * How the refresh of a row stands. `idle`: nothing is under way. `leased`: an exchange may redeem its token. `outcome_unknown`:
 * leased by an exchange that has given up. `abandoned`: a lease ran out, and what became of its exchange is not known.
 * `backing_off`: no try before a time. `quarantined`: an `invalid_grant` is being watched. `ended`: the grant is over.
 */
export type LeaseState = 'idle' | 'leased' | 'outcome_unknown' | 'abandoned' | 'backing_off' | 'quarantined' | 'ended';

/** What every row with a redeemable refresh token tells of its refresh; times are distances from its reading. */
export interface LeasedRow {
  /** Names the row from its first store to its deletion. */
  readonly id: string;
  /** Names the stored refresh-token instance: a 63-bit integer in decimal. */
  readonly version: string;
  /** The version that was redeemed for it; null after a login. */
  readonly parentVersion: string | null;
  /** The OAuth client that the grant was issued to; null when it is not known. */
  readonly clientId: string | null;
  readonly state: LeaseState;
  /** Milliseconds left of the lease; 0 = none. */
  readonly leasedForMs: number;
  /** Leases whose exchange did not end in an answer, a live one included. */
  readonly openLeases: number;
  /** Milliseconds since the first of them was taken; 0 = there is none. */
  readonly firstLeasedMsAgo: number;
  /** Whether the last holder has said that its answer is lost. */
  readonly outcomeUnknown: boolean;
  /** Milliseconds during which no refresh may be tried after a failure; 0 = none. */
  readonly backingOffForMs: number;
  /** Milliseconds during which an `invalid_grant` is not trusted; 0 = none. */
  readonly quarantinedForMs: number;
  readonly failureCount: number;
  readonly failureKind: FailureKind | null;
  readonly lastErrorCode: string | null;
  /** Refreshes in a row that were made because the provider's API refused the access token before. */
  readonly rejections: number;
  /** Whether the provider's API refused the access token before a refresh was tried. */
  readonly wasRejected: boolean;
  /** Seconds since the provider issued the tokens. */
  readonly issuedSecondsAgo: number;
  /** `performance.now()` when the row was read: the distances count from here. */
  readonly readAt: number;
}

/**
 * The state of a row in SQL. Here and nowhere else is said which columns make which state: lookups return it, and a lease
 * is granted to a caller who has seen the state that the row is in.
 *
 * @param row alias of the table
 * @param present SQL of the moment that counts
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
 * The columns of a {@link LeasedRow} beside its id. Times go in epoch seconds of the database, with its present:
 * `clock_timestamp()`, because in a long transaction of the host `now()` stands still while tokens expire. `date_part`
 * rather than `extract`, which computes in numeric. Versions exceed what a double holds, so they travel as text.
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

/** What {@link LeasedRow} says of tokens that were stored just now. */
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
