import type { QueryResultRow } from 'pg';

import type { SealedToken } from '../../sealing/sealed-token.js';
import { type LeasedRow, readLeasedRow } from '../leases/leased-row.js';
import { keyCondition } from '../leases/leased-table-shape.js';
import type { RowTokens } from '../stored-tokens.js';

/**
 * The part of a row that a caller needs when its access token is fresh. Times are distances from the moment at which
 * the row was read. The row does not have this moment, because the caller uses the row at once.
 */
export interface AccessTokenRow {
  readonly tokens: Pick<RowTokens, 'accessToken' | 'accessTokenExpiresAt' | 'version' | 'scopes'>;
  /** Epoch seconds of the database at which the provider issued the pair. */
  readonly issuedAt: number;
  readonly issuedSecondsAgo: number;
  /** The expiry of the access token that the module acts on, in epoch seconds; 0 = it never expires. */
  readonly accessTokenExpiresAt: number;
  /** Seconds until the access token expires; negative when it has expired, Infinity when it never expires. */
  readonly accessTokenValidForSeconds: number;
  /** Seconds between issue and expiry of the access token; Infinity when it never expires. */
  readonly accessTokenLifetimeSeconds: number;
}

/** A stored pair with the state of its refresh. */
export interface AuthTokensRow extends AccessTokenRow, LeasedRow {
  readonly tokens: RowTokens;
  /** The id of the account at the provider; null if it is not known. */
  readonly subject: string | null;
  readonly hasRefreshToken: boolean;
  /** Seconds until the refresh token expires; negative when it has expired, Infinity when it never expires. */
  readonly refreshTokenValidForSeconds: number;
}

/** The columns of a {@link AccountKey}, each with its parameter. */
export const KEY_COLUMNS = [
  { column: 'keycloak_user_id', type: 'text', parameter: 'keycloakUserId' },
  { column: 'identity_provider', type: 'text', parameter: 'idp' },
  { column: 'account', type: 'text', parameter: 'account' },
] as const;

/** The condition that names the row of a {@link AccountKey}, of the alias `stored`. */
export const KEY_CONDITION = keyCondition({ key: KEY_COLUMNS }, 'stored');

/**
 * Selects the row of a {@link AccountKey} and, on a condition, the other rows of the user that have the same account at
 * the provider, all of the alias `stored`, and locks them in one order. A provider may end all tokens of an account when
 * one of them is revoked. So a statement that notes a pair for revocation must know whether another row needs the
 * account. Without the locks each of two statements would leave the revocation to the other one.
 *
 * @param table quoted path of the table
 */
export function lockedRows(
  table: string,
  {
    columns = '',
    onlyIf = '',
    othersIf,
  }: { readonly columns?: string; readonly onlyIf?: string; readonly othersIf: string },
): string {
  return `SELECT stored.id, stored.account, stored.subject${columns} FROM ${table} AS stored
           WHERE stored.keycloak_user_id = $keycloakUserId AND stored.identity_provider = $idp${onlyIf}
             AND (stored.account = $account OR ${othersIf} AND stored.subject =
               (SELECT own.subject FROM ${table} AS own WHERE ${keyCondition({ key: KEY_COLUMNS }, 'own')}))
           ORDER BY stored.account FOR NO KEY UPDATE`;
}

/** Whether one of the locked rows has the same account at the provider as this row. A null subject is of no other row. */
export function isHeldElsewhere(row: string): string {
  return `EXISTS (SELECT FROM locked AS other WHERE other.account <> $account AND other.subject = ${row}.subject)`;
}

/** The columns of the pair, for the alias `stored`. */
export const TOKEN_COLUMNS = `stored.access_token, stored.refresh_token, stored.access_token_expires_at,
  stored.refresh_token_expires_at, stored.scopes`;

/**
 * The columns that {@link readAccessToken} reads, for the alias `stored`. The numbers and the scopes share one
 * column, because a column for each makes a single read 5 % slower. If the scopes are NULL, `concat_ws` leaves them out
 * with the space before them.
 */
export const ACCESS_TOKEN_COLUMNS = `stored.access_token, concat_ws(' ', stored.token_version, stored.access_token_expires_at,
  date_part('epoch', stored.issued_at), date_part('epoch', clock_timestamp()), stored.scopes) AS version_and_times`;

/** The columns that {@link readRow} reads beside those of a leased row, for the alias `stored`. */
export const ROW_COLUMNS = `${TOKEN_COLUMNS}, stored.subject`;

/** Reads the columns of {@link ROW_COLUMNS} and of a leased row. */
export function readRow(row: QueryResultRow): AuthTokensRow {
  const leased = readLeasedRow(row);
  const tokens = readTokens(row);
  const present = Number(row.present);
  return {
    ...leased,
    tokens,
    subject: row.subject as string | null,
    issuedAt: Number(row.issued_at),
    accessTokenExpiresAt: tokens.accessTokenExpiresAt,
    hasRefreshToken: tokens.refreshToken !== '',
    accessTokenValidForSeconds: secondsUntil(tokens.accessTokenExpiresAt, present),
    refreshTokenValidForSeconds: secondsUntil(tokens.refreshTokenExpiresAt, present),
    accessTokenLifetimeSeconds: secondsUntil(tokens.accessTokenExpiresAt, Number(row.issued_at)),
  };
}

/** Reads the columns of {@link ACCESS_TOKEN_COLUMNS}. */
export function readAccessToken(row: QueryResultRow): AccessTokenRow {
  // By position: a list of its parts costs each of 100,000 reads a second.
  const text = row.version_and_times as string;
  const versionEnd = text.indexOf(' ');
  const expiryEnd = text.indexOf(' ', versionEnd + 1);
  const issueEnd = text.indexOf(' ', expiryEnd + 1);
  const version = text.slice(0, versionEnd);
  const accessTokenExpiresAt = Number(text.slice(versionEnd + 1, expiryEnd));
  const issuedAt = Number(text.slice(expiryEnd + 1, issueEnd));
  const presentEnd = text.indexOf(' ', issueEnd + 1);
  const present = Number(presentEnd < 0 ? text.slice(issueEnd + 1) : text.slice(issueEnd + 1, presentEnd));
  const scopes = presentEnd < 0 ? null : text.slice(presentEnd + 1);
  return {
    tokens: { accessToken: row.access_token as SealedToken, accessTokenExpiresAt, version, scopes },
    issuedAt,
    issuedSecondsAgo: present - issuedAt,
    accessTokenExpiresAt,
    accessTokenValidForSeconds: secondsUntil(accessTokenExpiresAt, present),
    accessTokenLifetimeSeconds: secondsUntil(accessTokenExpiresAt, issuedAt),
  };
}

/**
 * Returns the row with the lifetime that the module assumes for an access token without an expiry. A row without a
 * refresh token is returned as it is, because nothing could replace its access token after the assumed lifetime. A row
 * that was read without its refresh token counts as stale, because only the whole row tells.
 *
 * @param assumedLifetimeSeconds undefined = an access token without an expiry never expires
 */
export function withAssumedLifetime<Row extends AccessTokenRow & { readonly hasRefreshToken?: boolean }>(
  row: Row,
  assumedLifetimeSeconds: number | undefined,
): Row {
  const isAssumed = row.tokens.accessTokenExpiresAt === 0 && row.hasRefreshToken !== false;
  if (assumedLifetimeSeconds === undefined || !isAssumed) return row;
  if (row.hasRefreshToken === undefined) return { ...row, accessTokenValidForSeconds: 0 };
  return {
    ...row,
    accessTokenExpiresAt: Math.floor(row.issuedAt) + assumedLifetimeSeconds,
    accessTokenValidForSeconds: assumedLifetimeSeconds - row.issuedSecondsAgo,
    accessTokenLifetimeSeconds: assumedLifetimeSeconds,
  };
}

/** Reads the columns of {@link TOKEN_COLUMNS} and `token_version`. */
export function readTokens(row: QueryResultRow): RowTokens {
  return {
    accessToken: row.access_token as SealedToken,
    refreshToken: row.refresh_token as SealedToken | '',
    accessTokenExpiresAt: Number(row.access_token_expires_at),
    refreshTokenExpiresAt: Number(row.refresh_token_expires_at),
    version: String(row.token_version),
    scopes: row.scopes as string | null,
  };
}

/** Returns the seconds from a moment to an expiry; Infinity when the expiry is 0. */
export function secondsUntil(expiresAt: number, moment: number): number {
  return expiresAt === 0 ? Infinity : expiresAt - moment;
}
