import type { QueryResultRow } from 'pg';

import { defineStatement, type Statement } from '../../postgres/statement.js';
import type { TokenKey } from '../../token-key.js';
import type { Columns } from '../leases/lease.statements.js';
import { leaseColumns } from '../leases/leased-row.js';
import {
  ACCESS_TOKEN_COLUMNS,
  type AccessTokenRow,
  type AuthTokensRow,
  KEY_CONDITION,
  readAccessToken,
  readRow,
  TOKEN_COLUMNS,
} from './auth-tokens-row.js';

/** Lookups of one kind of row, unread: by one key, by users of one provider, and by any keys. */
export interface Lookups<Row> {
  readonly one: Statement<TokenKey, QueryResultRow>;
  /** With `keycloak_user_id`. */
  readonly ofOneIdp: Statement<{ users: readonly string[]; idp: string }, QueryResultRow>;
  /** With `position`. */
  readonly ofMany: Statement<Columns<TokenKey>, QueryResultRow>;
  readonly read: (row: QueryResultRow) => Row;
}

/** The statements that look rows of `auth_tokens` up. Each is one round trip. */
export interface AuthTokensLookups {
  /** Of rows whose access token is known to be good by its expiry: active, with no exchange that may have ended it. */
  readonly accessTokens: Lookups<AccessTokenRow>;
  readonly rows: Lookups<AuthTokensRow>;
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
    // The sub-select hides the array from the planner, which would otherwise plan each call anew for its number of users:
    // measured at 120 µs instead of 96 for one user, 133 instead of 109 for four.
    ofOneIdp: defineStatement({
      label: `${label}_of_one`,
      action: ACTION,
      isRepeatable: true,
      text: `SELECT stored.keycloak_user_id, ${selected} FROM ${table} AS stored
        WHERE stored.keycloak_user_id = ANY((SELECT $users::text[])::text[]) AND stored.identity_provider = $idp
          AND ${condition}`,
      read: unread,
    }),
    // Any keys. For users of one provider the other way is faster.
    ofMany: defineStatement({
      label: `${label}_of_many`,
      action: ACTION,
      isRepeatable: true,
      text: `SELECT asked.position, ${selected}
        FROM unnest((SELECT $keycloakUserId::text[]), (SELECT $idp::text[])) WITH ORDINALITY
          AS asked (keycloak_user_id, identity_provider, position)
        JOIN ${table} AS stored ON stored.keycloak_user_id = asked.keycloak_user_id
          AND stored.identity_provider = asked.identity_provider
        WHERE ${condition}`,
      read: unread,
    }),
  });

  return {
    // The hot path: every column left out here is text that PostgreSQL need not write and Node need not read.
    accessTokens: lookups(
      'find_access_token',
      ACCESS_TOKEN_COLUMNS,
      "stored.status = 'active' AND stored.open_leases = 0",
      readAccessToken,
    ),
    rows: lookups('load', `stored.id::text AS row_id, ${leaseColumns('stored')}, ${TOKEN_COLUMNS}`, 'true', readRow),
  };
}

/** Rows of lookups are read where they go: an object between costs each of 100,000 reads a second. */
function unread(row: QueryResultRow): QueryResultRow {
  return row;
}
