import type { QueryResultRow } from 'pg';

import type { SealedToken } from '../../crypto/sealed-token.js';
import type { GrantStatus } from '../leases/leased.entity.js';
import type { AuthTokensKey, StoredTokens } from './auth-tokens.types.js';

/** What a caller needs of a row whose access token is fresh, times as distances from the database's present. */
export interface AccessTokenRow {
  readonly tokens: Pick<StoredTokens, 'accessToken' | 'accessTokenExpiresAt' | 'version'>;
  /** Seconds until the access token expires, negative when it has; Infinity = never. */
  readonly accessTokenValidForSeconds: number;
  /** Seconds between issue and expiry of the access token; Infinity = does not expire. */
  readonly accessTokenLifetimeSeconds: number;
}

/** A stored pair with the state of its refresh, every time as a distance from the database's present. */
export interface AuthTokensRow extends AccessTokenRow {
  readonly tokens: StoredTokens;
  /** The version that was redeemed for this pair; null after a login. */
  readonly parentVersion: string | null;
  readonly status: GrantStatus;
  /** Names the row from its first login to its deletion. */
  readonly id: string;
  /** Seconds until the refresh token expires, negative when it has; Infinity = never. */
  readonly refreshTokenValidForSeconds: number;
  /** Milliseconds left of somebody's lease; 0 = none. */
  readonly leasedForMs: number;
  /** Whether a lease ran out without its holder having said how the exchange ended. */
  readonly hasDeadLease: boolean;
  /** Whether the holder of the lease said that the answer is lost: it will not bring a pair any more. */
  readonly isUnanswered: boolean;
  /** Milliseconds during which no refresh may be tried after a failure; 0 = none. */
  readonly backingOffForMs: number;
  /** Milliseconds during which an `invalid_grant` is not trusted; 0 = none. */
  readonly suspectForMs: number;
  readonly lastErrorCode: string | null;
}

/** The right to redeem one row's refresh token, and the row at the moment it was given. */
export interface Lease {
  readonly id: string;
  readonly row: AuthTokensRow;
  /** Failed refreshes since the last success. */
  readonly failureCount: number;
  /** The database's present in epoch seconds: its clock at the acquire, carried on by the monotonic clock of the process. */
  now(): number;
  /** What the monotonic clock of the process certainly leaves of the lease, in milliseconds. */
  leftMs(): number;
}

/** A key as one text, for maps: no other key gives the same one. */
export function rowName({ keycloakUserId, idp }: AuthTokensKey): string {
  return `${keycloakUserId.length}:${keycloakUserId}:${idp}`;
}

/** Reads the columns of {@link ROW_COLUMNS}. */
export function readRow(row: QueryResultRow): AuthTokensRow {
  const tokens = readTokens(row);
  const present = Number(row.present);
  const leasedForSeconds = row.lease_ends_at === null ? null : Number(row.lease_ends_at) - present;
  return {
    tokens,
    parentVersion: row.parent_version as string | null,
    status: row.status as GrantStatus,
    id: String(row.id),
    accessTokenValidForSeconds: secondsUntil(tokens.accessTokenExpiresAt, present),
    refreshTokenValidForSeconds: secondsUntil(tokens.refreshTokenExpiresAt, present),
    accessTokenLifetimeSeconds: secondsUntil(tokens.accessTokenExpiresAt, Number(row.issued_at)),
    leasedForMs: Math.max(0, (leasedForSeconds ?? 0) * 1000),
    hasDeadLease: leasedForSeconds !== null && leasedForSeconds <= 0,
    isUnanswered: row.lease_ends_at !== null && row.lease_ends_at === row.retry_at,
    backingOffForMs: millisecondsLeft(row.retry_at, present),
    suspectForMs: millisecondsLeft(row.suspect_until, present),
    lastErrorCode: row.last_error_code as string | null,
  };
}

/** Reads the columns of {@link ACCESS_TOKEN_COLUMNS}. */
export function readAccessToken(row: QueryResultRow): AccessTokenRow {
  const [version = '', ...times] = (row.version_and_times as string).split(' ');
  const [accessTokenExpiresAt = NaN, issuedAt = NaN, present = NaN] = times.map(Number);
  return {
    tokens: { accessToken: row.access_token as SealedToken, accessTokenExpiresAt, version },
    accessTokenValidForSeconds: secondsUntil(accessTokenExpiresAt, present),
    accessTokenLifetimeSeconds: secondsUntil(accessTokenExpiresAt, issuedAt),
  };
}

/** Reads the columns of {@link TOKEN_COLUMNS}. */
export function readTokens(row: QueryResultRow): StoredTokens {
  return {
    accessToken: row.access_token as SealedToken,
    refreshToken: row.refresh_token as SealedToken | '',
    accessTokenExpiresAt: Number(row.access_token_expires_at),
    refreshTokenExpiresAt: Number(row.refresh_token_expires_at),
    version: String(row.token_version),
  };
}

/** The pair itself. Versions exceed what a double holds, so they travel as text whatever the host's type parsers do. */
export const TOKEN_COLUMNS = `access_token, refresh_token, access_token_expires_at, refresh_token_expires_at,
  token_version::text AS token_version`;

/**
 * The pair, its times, and the present, all in epoch seconds of the database. `clock_timestamp()`, because in a long
 * transaction of the host `now()` stands still while tokens expire. `date_part` rather than `extract`, which computes
 * in numeric.
 */
export const ROW_COLUMNS = `${TOKEN_COLUMNS}, id::text AS id, parent_version::text AS parent_version, status, last_error_code,
  date_part('epoch', clock_timestamp()) AS present, date_part('epoch', issued_at) AS issued_at,
  date_part('epoch', lease_expires_at) AS lease_ends_at, date_part('epoch', retry_at) AS retry_at,
  date_part('epoch', suspect_until) AS suspect_until`;

/**
 * What {@link readAccessToken} reads. The numbers share a column because each one costs: in columns of their own they
 * make a single read 5 % slower.
 */
export const ACCESS_TOKEN_COLUMNS = `access_token, concat_ws(' ', token_version, access_token_expires_at,
  date_part('epoch', issued_at), date_part('epoch', clock_timestamp())) AS version_and_times`;

/** Distance to an expiry from a moment; an expiry of 0 is never. */
function secondsUntil(expiresAt: number, moment: number): number {
  return expiresAt === 0 ? Infinity : expiresAt - moment;
}

function millisecondsLeft(until: unknown, present: number): number {
  return until === null ? 0 : Math.max(0, (Number(until) - present) * 1000);
}
