import type { QueryResultRow } from 'pg';

import { defineStatement, type Statement } from '../../postgres/statement.js';
import { scopeList } from '../../scopes.js';
import { REACTIVATED, type Reactivation } from '../auth-tokens/auth-tokens-write.statements.js';
import { keyIdIn } from '../sealed-texts/sealed-texts.statements.js';
import { fromStored, type OverviewShape, type RowState, rowState, type RuleColumns, stateCause } from './row-state.js';

/** The rows of one provider in one state. */
export interface StateCount {
  /** Empty for Keycloak offline tokens. */
  readonly idp: string;
  readonly state: RowState;
  /** An error code, or why there is nothing to refresh with; null if nothing failed. */
  readonly cause: string | null;
  readonly rows: number;
  /** Of these rows the one whose last failure is longest ago; null if none has failed. */
  readonly oldestFailure: { readonly at: string; readonly user: string; readonly account: string } | null;
}

/** The waiting revocations of one provider, and of one account if they are those of a user. */
export interface OutboxCount {
  readonly idp: string;
  /** Empty for the default account, and absent if they are those of all users. */
  readonly account?: string;
  /** The code of the last failure; null for pairs that no process has tried to revoke. */
  readonly cause: string | null;
  readonly rows: number;
  readonly oldestAt: string;
  /** The largest number of tries of one pair. */
  readonly mostAttempts: number;
}

/** One row of a user, without what is sealed. Times are in ISO 8601, and null if there is none. */
export interface StoredConnection {
  /** Empty for a Keycloak offline token. */
  readonly idp: string;
  /** Empty for the default account, and for a Keycloak offline token. */
  readonly account: string;
  /** The id of the account at the provider; null if it is not known. */
  readonly subject: string | null;
  /** The name of the account at the provider; null if it is not known. */
  readonly name: string | null;
  /** Sorted; null if they are not known. */
  readonly scopes: readonly string[] | null;
  readonly state: RowState;
  readonly cause: string | null;
  readonly version: string;
  readonly parentVersion: string | null;
  readonly clientId: string | null;
  /** The ids of the keys that sealed the texts; null for a text that names none. */
  readonly keyIds: readonly (string | null)[];
  readonly hasRefreshToken: boolean;
  readonly issuedAt: string;
  /** Null if the access token does not expire, or if there is none. */
  readonly accessTokenExpiresAt: string | null;
  readonly refreshTokenExpiresAt: string | null;
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly openLeases: number;
  readonly leaseExpiresAt: string | null;
  readonly retryAt: string | null;
  readonly quarantinedUntil: string | null;
  readonly failureKind: string | null;
  readonly failureCount: number;
  readonly lastErrorCode: string | null;
}

/** A time in ISO 8601, as text, because the state of all sessions is then the same for every time zone. */
const iso = (time: string) => `to_char(${time} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/** The statements on one table. They read, and each is one round trip. */
export interface OverviewStatements {
  /** Reads the whole table once. It uses no index, because none may have a column that a refresh changes. */
  readonly states: Statement<RuleColumns | object, StateCount>;
  /** Reads the rows of one user. */
  readonly connections: Statement<(RuleColumns | object) & { user: string }, StoredConnection>;
}

/** Returns the statements that tell the operator the states of a table. */
export function overviewStatements(shape: OverviewShape): OverviewStatements {
  const { name, user, idp, texts } = shape;
  const idpColumn = idp === null ? "''" : `stored.${idp}`;
  const accountColumn = idp === null ? "''" : 'stored.account';
  const ofAccount = ['subject', 'account_name', 'scopes'].map((column) =>
    idp === null ? `NULL AS ${column}` : `stored.${column}`,
  );
  const expiry = (column: string) => {
    if (idp === null) return `NULL AS ${column}`;
    // A number of this size may be milliseconds of an adopted system, and to_timestamp would fail for a larger one.
    return `CASE WHEN stored.${column} BETWEEN 1 AND 99999999999 THEN ${iso(`to_timestamp(stored.${column})`)} END AS ${column}`;
  };
  const time = (column: string) => `${iso(`stored.${column}::timestamptz`)} AS ${column}`;

  return {
    states: defineStatement({
      label: `states_${name}`,
      action: `count the states of ${name}`,
      isRepeatable: true,
      text: `SELECT each.idp, each.state, each.cause, count(*) AS rows,
         min(ARRAY[${iso('each.updated_at')}, each.user_id, each.account]) FILTER (WHERE each.failed) AS oldest_failure
       FROM (SELECT ${idpColumn} AS idp, stored.${user} AS user_id, ${accountColumn} AS account,
           stored.updated_at::timestamptz AS updated_at, stored.last_error_code IS NOT NULL AS failed,
           ${rowState(shape, 'now()')} AS state, ${stateCause(shape, 'now()')} AS cause
         FROM ${fromStored(shape)}) AS each
       GROUP BY each.idp, each.state, each.cause ORDER BY each.idp, each.state, each.cause`,
      read: readStates,
    }),

    connections: defineStatement({
      label: `connections_${name}`,
      action: `read what is stored of a user in ${name}`,
      isRepeatable: true,
      text: `SELECT ${idpColumn} AS idp, ${accountColumn} AS account, ${ofAccount.join(', ')},
         ${rowState(shape, 'now()')} AS state, ${stateCause(shape, 'now()')} AS cause,
         stored.token_version::text AS version, stored.parent_version::text AS parent_version, stored.client_id,
         ARRAY[${texts.map((column) => `CASE WHEN stored.${column} <> '' THEN coalesce(${keyIdIn(`stored.${column}`)}, '') END`).join(', ')}] AS key_ids,
         ${texts.map((column) => `stored.${column} <> ''`).at(-1) ?? 'false'} AS has_refresh_token,
         ${expiry('access_token_expires_at')}, ${expiry('refresh_token_expires_at')}, stored.open_leases,
         ${['issued_at', 'created_at', 'updated_at', 'lease_expires_at', 'retry_at', 'quarantined_until'].map(time).join(', ')},
         stored.failure_kind, stored.failure_count, stored.last_error_code
       FROM ${fromStored(shape)} WHERE stored.${user} = $user ORDER BY 1, 2`,
      read: readConnection,
    }),
  };
}

/** @param table quoted path of `token_revocations` */
export function outboxStatement(table: string): Statement<{ user: string | null }, OutboxCount> {
  return defineStatement({
    label: 'outbox',
    action: 'count the pairs that wait to be revoked',
    isRepeatable: true,
    text: `SELECT stored.identity_provider AS idp, CASE WHEN $user::text IS NOT NULL THEN stored.account END AS account,
         stored.last_error_code AS cause, count(*) AS rows,
         ${iso('min(stored.created_at)')} AS oldest_at, max(stored.attempts) AS most_attempts
       FROM ${table} AS stored WHERE $user::text IS NULL OR stored.keycloak_user_id = $user::text
       GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`,
    read: (row) => ({
      idp: String(row.idp),
      ...(row.account === null ? {} : { account: String(row.account) }),
      cause: row.cause as string | null,
      rows: Number(row.rows),
      oldestAt: String(row.oldest_at),
      mostAttempts: Number(row.most_attempts),
    }),
  });
}

/** An account that its user disconnected, and did not connect again. */
export interface DisconnectedSince {
  readonly idp: string;
  /** Empty for the default account. */
  readonly account: string;
  readonly at: string;
}

/**
 * @param disconnected quoted path of `disconnected_accounts`
 * @param table quoted path of `auth_tokens`, because a note has no meaning while there is a row of its key
 */
export function disconnectedStatement(
  disconnected: string,
  table: string,
): Statement<{ user: string }, DisconnectedSince> {
  return defineStatement({
    label: 'disconnected_of_user',
    action: 'read the accounts that a user disconnected',
    isRepeatable: true,
    text: `SELECT note.identity_provider AS idp, note.account, ${iso('note.disconnected_at')} AS at
       FROM ${disconnected} AS note WHERE note.keycloak_user_id = $user AND NOT EXISTS (SELECT FROM ${table} AS stored
         WHERE stored.keycloak_user_id = note.keycloak_user_id AND stored.identity_provider = note.identity_provider
           AND stored.account = note.account)
       ORDER BY 1, 2`,
    read: (row) => ({ idp: String(row.idp), account: String(row.account), at: String(row.at) }),
  });
}

/** The grants of one cause that a reactivation would make active. */
export interface EndedCount {
  readonly cause: string | null;
  readonly rows: number;
}

/** @param table quoted path of `auth_tokens` */
export function reactivatableStatement(table: string): Statement<Reactivation, EndedCount> {
  return defineStatement({
    label: 'reactivatable',
    action: 'count the grants that have ended',
    isRepeatable: true,
    text: `SELECT stored.last_error_code AS cause, count(*) AS rows FROM ${table} AS stored
       WHERE ${REACTIVATED} GROUP BY stored.last_error_code ORDER BY 1`,
    read: ({ cause, rows }) => ({ cause: cause as string | null, rows: Number(rows) }),
  });
}

function readStates(row: QueryResultRow): StateCount {
  const [at, user, account = ''] = (row.oldest_failure ?? []) as string[];
  return {
    idp: String(row.idp),
    state: row.state as RowState,
    cause: row.cause as string | null,
    rows: Number(row.rows),
    oldestFailure: at === undefined || user === undefined ? null : { at, user, account },
  };
}

function readConnection(row: QueryResultRow): StoredConnection {
  const keyIds = (row.key_ids as (string | null)[]).filter((id) => id !== null);
  return {
    idp: String(row.idp),
    account: String(row.account),
    subject: row.subject as string | null,
    name: row.account_name as string | null,
    scopes: typeof row.scopes === 'string' ? scopeList(row.scopes) : null,
    state: row.state as RowState,
    cause: row.cause as string | null,
    version: String(row.version),
    parentVersion: row.parent_version as string | null,
    clientId: row.client_id as string | null,
    keyIds: [...new Set(keyIds)].map((id) => (id === '' ? null : id)),
    hasRefreshToken: row.has_refresh_token as boolean,
    issuedAt: String(row.issued_at),
    accessTokenExpiresAt: row.access_token_expires_at as string | null,
    refreshTokenExpiresAt: row.refresh_token_expires_at as string | null,
    createdAt: String(row.created_at),
    updatedAt: String(row.updated_at),
    openLeases: Number(row.open_leases),
    leaseExpiresAt: row.lease_expires_at as string | null,
    retryAt: row.retry_at as string | null,
    quarantinedUntil: row.quarantined_until as string | null,
    failureKind: row.failure_kind as string | null,
    failureCount: Number(row.failure_count),
    lastErrorCode: row.last_error_code as string | null,
  };
}
