import type { QueryResultRow } from 'pg';

import { defineStatement, type Statement } from '../../postgres/statement.js';
import type { AccountKey } from '../../token-key.js';
import type { Columns } from '../leases/lease.statements.js';
import { leaseColumns } from '../leases/leased-row.js';
import {
  ACCESS_TOKEN_COLUMNS,
  type AccessTokenRow,
  type AuthTokensRow,
  KEY_CONDITION,
  readAccessToken,
  readRow,
  ROW_COLUMNS,
} from './auth-tokens-row.js';

/** The keys of these users at one provider, all with the same account. */
export interface UsersOfOneIdp {
  readonly users: readonly string[];
  readonly idp: string;
  readonly account: string;
}

/**
 * The lookups of one kind of row: by one key, by users of one provider and account, and by any keys. They return rows unread, and
 * `read` reads a row.
 */
export interface Lookups<Row> {
  readonly one: Statement<AccountKey, QueryResultRow>;
  /** Each row also has `keycloak_user_id`. */
  readonly ofOneIdp: Statement<UsersOfOneIdp, QueryResultRow>;
  /** Each row also has the `position` of its key. */
  readonly ofMany: Statement<Columns<AccountKey>, QueryResultRow>;
  readonly read: (row: QueryResultRow) => Row;
}

/** The statements that look rows of `auth_tokens` up. Each is one round trip. */
export interface AuthTokensLookups {
  /**
   * Lookups of active rows without an open lease. The expiry alone tells whether the access token of such a row works.
   */
  readonly accessTokens: Lookups<AccessTokenRow>;
  readonly rows: Lookups<AuthTokensRow>;
  /** Returns the accounts of a user at a provider that have a row, sorted. */
  readonly accounts: Statement<Omit<AccountKey, 'account'>, string>;
}

const ACTION = 'load tokens';

/** @param table quoted path of the table */
export function authTokensLookups(table: string): AuthTokensLookups {
  const lookups = <Row>(
    label: string,
    selected: string,
    condition: string,
    read: (row: QueryResultRow) => Row,
  ): Lookups<Row> => ({
    read,
    one: defineStatement({
      label,
      action: ACTION,
      isRepeatable: true,
      text: `SELECT ${selected} FROM ${table} AS stored WHERE ${KEY_CONDITION} AND ${condition}`,
      read: unread,
    }),
    // The sub-select hides the array from the planner, because PostgreSQL would otherwise plan each call anew for its
    // number of users. Measured without it, a call takes 120 µs instead of 96 for one user, and 133 instead of 109 for
    // four.
    ofOneIdp: defineStatement({
      label: `${label}_of_one`,
      action: ACTION,
      isRepeatable: true,
      text: `SELECT stored.keycloak_user_id, ${selected} FROM ${table} AS stored
        WHERE stored.keycloak_user_id = ANY((SELECT $users::text[])::text[]) AND stored.identity_provider = $idp
          AND stored.account = $account AND ${condition}`,
      read: unread,
    }),
    // For any keys. `ofOneIdp` is faster for users of one provider.
    ofMany: defineStatement({
      label: `${label}_of_many`,
      action: ACTION,
      isRepeatable: true,
      text: `SELECT asked.position, ${selected}
        FROM unnest((SELECT $keycloakUserId::text[]), (SELECT $idp::text[]), (SELECT $account::text[])) WITH ORDINALITY
          AS asked (keycloak_user_id, identity_provider, account, position)
        JOIN ${table} AS stored ON stored.keycloak_user_id = asked.keycloak_user_id
          AND stored.identity_provider = asked.identity_provider AND stored.account = asked.account
        WHERE ${condition}`,
      read: unread,
    }),
  });

  return {
    // This is the hot path. PostgreSQL writes and Node reads each selected column as text, so the lookup selects few
    // columns.
    accessTokens: lookups(
      'find_access_token',
      ACCESS_TOKEN_COLUMNS,
      "stored.status = 'active' AND stored.open_leases = 0",
      readAccessToken,
    ),
    rows: lookups('load', `stored.id::text AS row_id, ${leaseColumns('stored')}, ${ROW_COLUMNS}`, 'true', readRow),
    accounts: defineStatement({
      label: 'list_accounts',
      action: ACTION,
      isRepeatable: true,
      text: `SELECT stored.account FROM ${table} AS stored
        WHERE stored.keycloak_user_id = $keycloakUserId AND stored.identity_provider = $idp ORDER BY stored.account`,
      read: ({ account }) => String(account),
    }),
  };
}

/** Returns the row unread, because an object in between would cost time in each of 100,000 reads a second. */
function unread(row: QueryResultRow): QueryResultRow {
  return row;
}
