import type { QueryResultRow } from 'pg';

import { defineStatement, noColumns, type Statement } from '../../postgres/statement.js';
import { leaseStatements, type LeaseStatements } from '../leases/lease.statements.js';
import { leaseColumns, type LeasedRow, readLeasedRow } from '../leases/leased-row.js';
import { type LeasedTableShape, RESET, type Stamp } from '../leases/leased-table-shape.js';

/** Names the row of a user. */
export interface OfflineTokenKey {
  readonly userId: string;
}

/** The sealed text of a row. */
export interface SealedOfflineToken {
  readonly offlineToken: string;
}

/** Which stored token a call replaces: that of this text, or that of this version, whose text may be sealed anew. */
export interface LoadedOfflineToken {
  readonly loaded: string;
  readonly loadedVersion: string | null;
}

/** The row has no access token, and only Keycloak knows the expiry of the offline token. */
export const ONLY_A_REFRESH_TOKEN = {
  hasRefreshToken: true,
  refreshTokenValidForSeconds: Infinity,
  accessTokenValidForSeconds: 0,
};

/** A stored offline token with the state of its refresh. */
export type OfflineTokenRow = LeasedRow & SealedOfflineToken & typeof ONLY_A_REFRESH_TOKEN;

/** The statements on `offline_tokens`, named by what they do. Each is one round trip. */
export interface OfflineTokensStatements extends LeaseStatements<OfflineTokenKey, SealedOfflineToken, OfflineTokenRow> {
  readonly load: Statement<OfflineTokenKey, OfflineTokenRow>;
  /** Returns the id of the transaction that stored the token. */
  readonly store: Statement<OfflineTokenKey & SealedOfflineToken & Stamp, string>;
  readonly storeFirst: Statement<OfflineTokenKey & SealedOfflineToken & Stamp, true>;
  readonly replace: Statement<OfflineTokenKey & SealedOfflineToken & Stamp & LoadedOfflineToken, true>;
  readonly delete: Statement<OfflineTokenKey, true>;
}

/** @param table quoted path of the table */
export function offlineTokensStatements(table: string): OfflineTokensStatements {
  const shape: LeasedTableShape<OfflineTokenKey, SealedOfflineToken, OfflineTokenRow> = {
    label: 'offline',
    content: 'an offline token',
    table,
    id: 'user_id',
    key: [{ column: 'user_id', type: 'text', parameter: 'userId' }],
    tokens: [{ column: 'offline_token', type: 'text', parameter: 'offlineToken' }],
    columns: 'stored.offline_token',
    read: readRow,
  };
  const token = `offline_token = $offlineToken, token_version = $version, parent_version = NULL, client_id = $clientId,
           issued_at = clock_timestamp(), ${RESET}`;
  const insert = `INSERT INTO ${table} AS stored (user_id, offline_token, token_version, client_id)
           VALUES ($userId, $offlineToken, $version, $clientId)`;

  return {
    ...leaseStatements(shape),

    load: defineStatement({
      label: 'load_offline',
      action: 'load an offline token',
      isRepeatable: true,
      text: `SELECT stored.user_id AS row_id, ${leaseColumns('stored')}, stored.offline_token
        FROM ${table} AS stored WHERE stored.user_id = $userId`,
      read: readRow,
    }),

    store: defineStatement({
      label: 'store_offline',
      action: 'store an offline token',
      isRepeatable: false, // by the second try the token may be redeemed, and would be stored as a spent one
      text: `${insert} ON CONFLICT (user_id) DO UPDATE SET ${token} RETURNING pg_current_xact_id()::text AS transaction_id`,
      read: (row) => String(row.transaction_id),
    }),

    storeFirst: defineStatement({
      label: 'store_first_offline',
      action: 'store an offline token',
      isRepeatable: true,
      text: `${insert} ON CONFLICT (user_id) DO NOTHING`,
      read: noColumns,
    }),

    replace: defineStatement({
      label: 'replace_offline',
      action: 'replace an offline token',
      isRepeatable: true, // the second try has no effect, because the row has another text and another version
      text: `UPDATE ${table} AS stored SET ${token}
        WHERE stored.user_id = (SELECT own.user_id FROM ${table} AS own WHERE own.user_id = $userId
            FOR NO KEY UPDATE NOWAIT)
          AND (stored.offline_token = $loaded OR stored.token_version = $loadedVersion::bigint) RETURNING stored.user_id`,
      read: noColumns,
    }),

    delete: defineStatement({
      label: 'delete_offline',
      action: 'delete an offline token',
      isRepeatable: false, // the second try finds nothing, and the caller would get false
      text: `DELETE FROM ${table} AS stored WHERE stored.user_id = $userId RETURNING stored.user_id`,
      read: noColumns,
    }),
  };
}

function readRow(row: QueryResultRow): OfflineTokenRow {
  return { ...readLeasedRow(row), ...ONLY_A_REFRESH_TOKEN, offlineToken: String(row.offline_token) };
}
