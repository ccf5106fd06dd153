import type { QueryResultRow } from 'pg';

import { defineStatement, type Statement } from '../../postgres/statement.js';
import type { TokenKey } from '../../token-key.js';
import { type Columns, leaseStatements, type LeaseStatements } from '../leases/lease.statements.js';
import { leaseColumns } from '../leases/leased-row.js';
import { keyCondition, type LeasedTableShape, RESET } from '../leases/leased-table-shape.js';
import {
  ACCESS_TOKEN_COLUMNS,
  type AccessTokenRow,
  type AuthTokensRow,
  readAccessToken,
  readRow,
  readTokens,
  TOKEN_COLUMNS,
} from './auth-tokens-row.js';
import type { SealedTokens, StoredTokens } from './auth-tokens.types.js';

/** A pair to store, and the version and the client that it gets. */
export interface PairToStore extends SealedTokens {
  readonly version: string;
  readonly clientId: string | null;
}

/** Another system's copy of a pair. */
export interface PairToImport extends PairToStore {
  /** Epoch seconds; 0 = not known. */
  readonly issuedAt: number;
  /** Whether it may replace a pair with a refresh token when it has none itself. */
  readonly mayDropRefreshToken: boolean;
}

/** Lookups of one kind of row, unread: by one key, by users of one provider, and by any keys. */
export interface Lookups<Row> {
  readonly one: Statement<TokenKey, QueryResultRow>;
  /** With `keycloak_user_id`. */
  readonly ofOneIdp: Statement<{ users: readonly string[]; idp: string }, QueryResultRow>;
  /** With `position`. */
  readonly ofMany: Statement<Columns<TokenKey>, QueryResultRow>;
  readonly read: (row: QueryResultRow) => Row;
}

/** The statements on `auth_tokens`, by what they do. Each is one round trip. */
export interface AuthTokensStatements extends LeaseStatements<TokenKey, SealedTokens, AuthTokensRow> {
  /** Of rows whose access token is known to be good by its expiry: active, with no exchange that may have ended it. */
  readonly accessTokens: Lookups<AccessTokenRow>;
  readonly rows: Lookups<AuthTokensRow>;
  /** Gives the id of the transaction that stored the pair. */
  readonly store: Statement<TokenKey & PairToStore, string>;
  readonly import: Statement<TokenKey & PairToImport, string>;
  readonly delete: Statement<TokenKey, StoredTokens>;
  readonly deleteForRevocation: Statement<TokenKey, true>;
}

/** What tells `auth_tokens` from other tables with leases. @param table its quoted path */
function shapeOf(table: string): LeasedTableShape<TokenKey, SealedTokens, AuthTokensRow> {
  return {
    label: 'tokens',
    content: 'tokens',
    table,
    id: 'id',
    key: [
      { column: 'keycloak_user_id', type: 'text', parameter: 'keycloakUserId' },
      { column: 'identity_provider', type: 'text', parameter: 'idp' },
    ],
    tokens: [
      { column: 'access_token', type: 'text', parameter: 'accessToken' },
      { column: 'refresh_token', type: 'text', parameter: 'refreshToken' },
      { column: 'access_token_expires_at', type: 'bigint', parameter: 'accessTokenExpiresAt' },
      { column: 'refresh_token_expires_at', type: 'bigint', parameter: 'refreshTokenExpiresAt' },
    ],
    columns: TOKEN_COLUMNS,
    read: readRow,
  };
}

/**
 * @param table quoted path of the table
 * @param revocations quoted path of `token_revocations`
 */
export function authTokensStatements(table: string, revocations: string): AuthTokensStatements {
  const shape = shapeOf(table);
  const key = keyCondition(shape, 'stored');
  const columns = `stored.id::text AS row_id, ${leaseColumns('stored')}, ${TOKEN_COLUMNS}`;

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
      text: `SELECT ${selected} FROM ${table} AS stored WHERE ${key} AND ${condition}`,
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

  const pair = (issuedAt: string) => `access_token = $accessToken, refresh_token = $refreshToken,
           access_token_expires_at = $accessTokenExpiresAt, refresh_token_expires_at = $refreshTokenExpiresAt,
           token_version = $version, parent_version = NULL, client_id = $clientId, rejections = 0, issued_at = ${issuedAt},
           ${RESET}`;
  const inserted = (
    issuedAt: string,
  ) => `INSERT INTO ${table} AS stored (keycloak_user_id, identity_provider, access_token,
             refresh_token, access_token_expires_at, refresh_token_expires_at, token_version, client_id, issued_at)
           SELECT $keycloakUserId, $idp, $accessToken, $refreshToken, $accessTokenExpiresAt::bigint,
             $refreshTokenExpiresAt::bigint, $version::bigint, $clientId, ${issuedAt}`;

  const importedAt = 'CASE WHEN $issuedAt::float8 > 0 THEN to_timestamp($issuedAt::float8) ELSE clock_timestamp() END';
  const isImportNewer = `CASE WHEN $issuedAt::float8 > 0 THEN to_timestamp($issuedAt::float8) > stored.issued_at
        OR to_timestamp($issuedAt::float8) = stored.issued_at AND stored.parent_version IS NULL
      ELSE stored.parent_version IS NULL OR stored.status <> 'active' END
    AND ($mayDropRefreshToken::boolean OR $refreshToken <> '' OR stored.refresh_token = '' OR stored.status <> 'active')`;
  const written = 'pg_current_xact_id()::text AS transaction_id';
  const readTransactionId = (row: QueryResultRow) => String(row.transaction_id);

  return {
    ...leaseStatements(shape),

    // The hot path: every column left out here is text that PostgreSQL need not write and Node need not read.
    accessTokens: lookups(
      'find_access_token',
      ACCESS_TOKEN_COLUMNS,
      "stored.status = 'active' AND stored.open_leases = 0",
      readAccessToken,
    ),
    rows: lookups('load', columns, 'true', readRow),

    // The update is first because a refused INSERT … ON CONFLICT spends an identity value: with 2^31 of them, logins
    // alone would use the sequence up. ON CONFLICT is what makes two first stores of one key both succeed.
    store: defineStatement({
      label: 'store',
      action: 'store tokens',
      isRepeatable: false, // by then the pair may be refreshed, and what is repeated is spent
      text: `WITH updated AS (
         UPDATE ${table} AS stored SET ${pair('clock_timestamp()')} WHERE ${key} RETURNING stored.id),
       inserted AS (
         ${inserted('clock_timestamp()')} WHERE NOT EXISTS (SELECT FROM updated)
         ON CONFLICT (keycloak_user_id, identity_provider) DO UPDATE SET ${pair('clock_timestamp()')})
       SELECT ${written}`,
      read: readTransactionId,
    }),

    // An import replaces only what was issued before it (of logins also in the same second, which is all that $issuedAt
    // names), or, where the time of issue is not known, what was not refreshed here since.
    import: defineStatement({
      label: 'import',
      action: 'import tokens',
      isRepeatable: false,
      text: `WITH updated AS (
         UPDATE ${table} AS stored SET ${pair(importedAt)} WHERE ${key} AND ${isImportNewer} RETURNING ${written}),
       inserted AS (
         ${inserted(importedAt)} WHERE NOT EXISTS (SELECT FROM ${table} AS stored WHERE ${key})
         ON CONFLICT (keycloak_user_id, identity_provider) DO UPDATE SET ${pair(importedAt)} WHERE ${isImportNewer}
         RETURNING ${written})
       SELECT transaction_id FROM updated UNION ALL SELECT transaction_id FROM inserted`,
      read: readTransactionId,
    }),

    delete: defineStatement({
      label: 'delete',
      action: 'delete tokens',
      isRepeatable: false, // a second time it would return nothing
      text: `DELETE FROM ${table} AS stored WHERE ${key}
         RETURNING ${TOKEN_COLUMNS}, stored.token_version::text AS token_version`,
      read: readTokens,
    }),

    // One statement, so that no pair is deleted and not noted, or noted and not deleted.
    deleteForRevocation: defineStatement({
      label: 'delete_for_revocation',
      action: 'delete tokens',
      isRepeatable: false,
      text: `WITH deleted AS (
         DELETE FROM ${table} AS stored WHERE ${key} RETURNING stored.access_token, stored.refresh_token, stored.client_id),
       noted AS (
         INSERT INTO ${revocations} (keycloak_user_id, identity_provider, client_id, access_token, refresh_token)
           SELECT $keycloakUserId, $idp, deleted.client_id, deleted.access_token, deleted.refresh_token FROM deleted)
       SELECT FROM deleted`,
      read: () => true,
    }),
  };
}

const ACTION = 'load tokens';

/** Rows of lookups are read where they go: an object between costs each of 100,000 reads a second. */
function unread(row: QueryResultRow): QueryResultRow {
  return row;
}
