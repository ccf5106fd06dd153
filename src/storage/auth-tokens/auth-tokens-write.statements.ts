import type { QueryResultRow } from 'pg';

import { defineStatement, noColumns, type Statement } from '../../postgres/statement.js';
import type { AccountKey } from '../../token-key.js';
import type { Columns } from '../leases/lease.statements.js';
import { keyCondition, RESET, type Stamp } from '../leases/leased-table-shape.js';
import { ACCESS_TOKEN_DEAD } from '../leases/leased.entity.js';
import type { RowTokens, ScopedTokens } from '../stored-tokens.js';
import {
  isHeldElsewhere,
  KEY_COLUMNS,
  KEY_CONDITION,
  lockedRows,
  readTokens,
  TOKEN_COLUMNS,
} from './auth-tokens-row.js';
import { lacksRefreshToken, ownValue, storedPair, type Value } from './stored-pair.js';

/** What an import knows of the copy that another system has of a pair. */
export interface ImportRules {
  /** Epoch seconds; 0 = not known. */
  readonly issuedAt: number;
  /** Whether the copy may replace a pair with a refresh token when it has none itself. */
  readonly mayDropRefreshToken: boolean;
  /** Whether the host asked for this import. Only then does it connect a disconnected account again. */
  readonly isExplicit: boolean;
}

/** The answer to the end of a connection. */
export interface Disconnection {
  /** Whether the statement had an effect. False while an automatic import of the pair is in an open transaction. */
  readonly isFree: boolean;
  readonly isDeleted: boolean;
}

/** Which grants of a provider become active again. A condition that is null does not count. */
export interface Reactivation {
  readonly idp: string;
  readonly userIds: readonly string[] | null;
  readonly accounts: readonly string[] | null;
  readonly endedAfter: Date | null;
  readonly errorCode: string | null;
}

/** A pair to store, with everything that the statement needs. */
export type PairToStore = AccountKey &
  ScopedTokens &
  Stamp & {
    /** Whether a pair without a refresh token keeps the stored refresh token. */
    readonly keepsRefreshToken: boolean;
  };

/** A store does not say whose the tokens are at the provider. */
const NO_ACCOUNT = { subject: 'NULL', accountName: 'NULL' };

/** The statements that store and delete pairs in `auth_tokens`. Each is one round trip. */
export interface AuthTokensWrites {
  /** Returns the token version that the row has now, and the id of the transaction that stored the pair. */
  readonly store: Statement<PairToStore, { readonly version: string; readonly transactionId: string }>;
  /** Replaces many pairs, and gives the positions of those that it replaced. */
  readonly storeMany: Statement<Columns<PairToStore>, { readonly position: number }>;
  /** Returns the id of the transaction that stored the pair, and whether there was no row before. */
  readonly import: Statement<
    AccountKey & ScopedTokens & Stamp & ImportRules,
    { readonly transactionId: string; readonly isNew: boolean }
  >;
  readonly delete: Statement<AccountKey, RowTokens>;
  /** `isRevocable` tells whether the provider can revoke the pair. */
  readonly deleteForRevocation: Statement<AccountKey & { readonly isRevocable: boolean }, Disconnection>;
  /** Deletes a pair of this version if the user has disconnected the account. Returns true if it did. */
  readonly deleteDisconnected: Statement<AccountKey & { readonly version: string }, true>;
  /** Returns the number of grants that are active again. */
  readonly reactivate: Statement<Reactivation, number>;
}

/** The condition of the rows that a {@link Reactivation} makes active, of the alias `stored`. */
export const REACTIVATED = `stored.identity_provider = $idp AND stored.status <> 'active' AND stored.refresh_token <> ''
             AND ($userIds::text[] IS NULL OR stored.keycloak_user_id = ANY($userIds::text[]))
             AND ($accounts::text[] IS NULL OR stored.account = ANY($accounts::text[]))
             AND ($endedAfter::timestamptz IS NULL OR stored.updated_at >= $endedAfter::timestamptz)
             AND ($errorCode::text IS NULL OR stored.last_error_code = $errorCode::text)`;

/**
 * @param table quoted path of the table
 * @param revocations quoted path of `token_revocations`
 * @param disconnected quoted path of `disconnected_accounts`
 */
export function authTokensWrites(table: string, revocations: string, disconnected: string): AuthTokensWrites {
  const noteCondition = keyCondition({ key: KEY_COLUMNS }, 'note');
  // The end of a connection has this lock alone, and automatic imports share it. So neither of them misses the other one
  // while its transaction is open.
  const lockKey = "hashtextextended($keycloakUserId::text || ' ' || $idp::text || ' ' || $account::text, 0)";
  // A login can bring an access token alone. Then the row keeps its refresh token. While an exchange is open, the row
  // also keeps its version and the state of the refresh, because the exchange stores the only live refresh token by this
  // version.
  const isKept = (value: Value): string => {
    const lacks = lacksRefreshToken(value('refresh_token', 'refreshToken'), value('client_id', 'clientId'));
    return `${value('keeps_refresh_token', 'keepsRefreshToken')} AND ${lacks}`;
  };
  const ownStoredPair = storedPair(ownValue, isKept(ownValue), NO_ACCOUNT);
  const inserted = (
    issuedAt: string,
  ) => `INSERT INTO ${table} AS stored (keycloak_user_id, identity_provider, account, access_token,
             refresh_token, access_token_expires_at, refresh_token_expires_at, scopes, token_version, client_id, issued_at)
           SELECT $keycloakUserId, $idp, $account, $accessToken, $refreshToken, $accessTokenExpiresAt::bigint,
             $refreshTokenExpiresAt::bigint, $scopes, $version::bigint, $clientId, ${issuedAt}`;

  const importedAt = 'CASE WHEN $issuedAt::float8 > 0 THEN to_timestamp($issuedAt::float8) ELSE clock_timestamp() END';
  const importedPair = `access_token = $accessToken, refresh_token = $refreshToken,
           access_token_expires_at = $accessTokenExpiresAt, refresh_token_expires_at = $refreshTokenExpiresAt,
           scopes = $scopes, subject = NULL, account_name = NULL, token_version = $version, parent_version = NULL, client_id = $clientId, rejections = 0,
           issued_at = ${importedAt}, ${RESET}`;
  const isImportNewer = `CASE WHEN $issuedAt::float8 > 0 THEN to_timestamp($issuedAt::float8) > stored.issued_at
        OR to_timestamp($issuedAt::float8) = stored.issued_at AND stored.parent_version IS NULL
      ELSE stored.parent_version IS NULL OR stored.status <> 'active' END
    AND ($mayDropRefreshToken::boolean OR NOT (${lacksRefreshToken('$refreshToken', '$clientId::text')}))`;
  const written = 'pg_current_xact_id()::text AS transaction_id';
  const readTransactionId = (row: QueryResultRow) => String(row.transaction_id);

  return {
    // The statement updates first, because a refused INSERT … ON CONFLICT spends an identity value. There are 2^31
    // values, and logins alone would use them up. ON CONFLICT lets two first stores of one key both succeed.
    store: defineStatement({
      label: 'store',
      action: 'store tokens',
      isRepeatable: false, // by the second try the pair may be refreshed, and the statement would store a spent one
      text: `WITH updated AS (
         UPDATE ${table} AS stored SET ${ownStoredPair} WHERE ${KEY_CONDITION} RETURNING stored.token_version),
       inserted AS (
         ${inserted('clock_timestamp()')} WHERE NOT EXISTS (SELECT FROM updated)
         ON CONFLICT (keycloak_user_id, identity_provider, account) DO UPDATE SET ${ownStoredPair} RETURNING stored.token_version)
       SELECT token_version::text AS token_version, ${written} FROM (TABLE updated UNION ALL TABLE inserted) AS stored`,
      read: (row) => ({ version: String(row.token_version), transactionId: readTransactionId(row) }),
    }),

    // The statement replaces the pairs of many callers. It skips locked rows and does not insert, so two of these
    // statements never wait for each other. The statement `store` stores the pairs that this one did not store.
    storeMany: defineStatement({
      label: 'store_many',
      action: 'store tokens',
      isRepeatable: false,
      text: `WITH unlocked AS MATERIALIZED (
         SELECT stored.id AS row_id, asked.*, ${isKept((column) => `asked.new_${column}`)} AS is_kept
           FROM unnest((SELECT $keycloakUserId::text[]), (SELECT $idp::text[]), (SELECT $account::text[]),
             (SELECT $accessToken::text[]), (SELECT $refreshToken::text[]), (SELECT $accessTokenExpiresAt::bigint[]),
             (SELECT $refreshTokenExpiresAt::bigint[]), (SELECT $scopes::text[]), (SELECT $version::bigint[]),
             (SELECT $clientId::text[]), (SELECT $keepsRefreshToken::boolean[]))
             WITH ORDINALITY AS asked (keycloak_user_id, identity_provider, account, new_access_token, new_refresh_token,
               new_access_token_expires_at, new_refresh_token_expires_at, new_scopes, new_version, new_client_id,
               new_keeps_refresh_token, position)
           JOIN ${table} AS stored ON stored.keycloak_user_id = asked.keycloak_user_id
             AND stored.identity_provider = asked.identity_provider AND stored.account = asked.account FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE ${table} AS stored SET ${storedPair((column) => `unlocked.new_${column}`, 'unlocked.is_kept', NO_ACCOUNT)}
         FROM unlocked WHERE stored.id = unlocked.row_id RETURNING unlocked.position`,
      read: (row) => ({ position: Number(row.position) }),
    }),

    // An import replaces a pair that was issued earlier. It also replaces a pair of the same second that was not
    // refreshed here, because `$issuedAt` has whole seconds only. If the time of issue is not known, it replaces a pair
    // that was not refreshed here, or whose grant has ended. A copy without a refresh token replaces an active pair
    // with one only if `$mayDropRefreshToken` is true.
    //
    // An import that the host did not ask for does not insert a pair while there is a note that the user disconnected
    // the account, or while a transaction writes this note. The statement decides this, because the user may disconnect
    // the account while Keycloak answers.
    import: defineStatement({
      label: 'import',
      action: 'import tokens',
      isRepeatable: false,
      text: `WITH reconnected AS (
         DELETE FROM ${disconnected} AS note WHERE ${noteCondition} AND $isExplicit::boolean),
       updated AS (
         UPDATE ${table} AS stored SET ${importedPair} WHERE ${KEY_CONDITION} AND ${isImportNewer} RETURNING ${written}),
       inserted AS (
         ${inserted(importedAt)} WHERE NOT EXISTS (SELECT FROM ${table} AS stored WHERE ${KEY_CONDITION})
           AND ($isExplicit::boolean OR pg_try_advisory_xact_lock_shared(${lockKey})
             AND NOT EXISTS (SELECT FROM ${disconnected} AS note WHERE ${noteCondition}))
         ON CONFLICT (keycloak_user_id, identity_provider, account) DO UPDATE SET ${importedPair} WHERE ${isImportNewer}
         RETURNING ${written})
       SELECT transaction_id, false AS is_new FROM updated UNION ALL SELECT transaction_id, true FROM inserted`,
      read: (row) => ({ transactionId: readTransactionId(row), isNew: row.is_new as boolean }),
    }),

    delete: defineStatement({
      label: 'delete',
      action: 'delete tokens',
      isRepeatable: false, // the second try would return nothing
      // A note that is older than the pair has no meaning. Without the pair it would have one again.
      text: `WITH stored AS (
         DELETE FROM ${table} AS stored WHERE ${KEY_CONDITION}
           RETURNING ${TOKEN_COLUMNS}, stored.token_version::text AS token_version),
       forgotten AS (
         DELETE FROM ${disconnected} AS note WHERE ${noteCondition} AND EXISTS (SELECT FROM stored))
       SELECT ${TOKEN_COLUMNS}, stored.token_version FROM stored`,
      read: readTokens,
    }),

    // One statement deletes and notes, because two statements could delete a pair without the notes, or write the notes
    // without the deletion. The note of the disconnected account does not need a pair, because an import may be under
    // way. The statement does not wait for the lock, because a transaction of a host can hold it for any time.
    deleteForRevocation: defineStatement({
      label: 'delete_for_revocation',
      action: 'delete tokens',
      isRepeatable: false,
      text: `WITH lock AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(${lockKey}) AS is_free),
       locked AS MATERIALIZED (
         ${lockedRows(table, { onlyIf: ' AND (SELECT lock.is_free FROM lock)', othersIf: '$isRevocable::boolean' })}),
       deleted AS (
         DELETE FROM ${table} AS stored USING locked WHERE stored.id = locked.id AND locked.account = $account
           RETURNING stored.access_token, stored.refresh_token, stored.client_id, stored.subject),
       noted AS (
         INSERT INTO ${revocations} (keycloak_user_id, identity_provider, account, client_id, access_token, refresh_token)
           SELECT $keycloakUserId, $idp, $account, deleted.client_id, deleted.access_token, deleted.refresh_token FROM deleted
             WHERE $isRevocable::boolean AND NOT ${isHeldElsewhere('deleted')}),
       disconnected AS (
         INSERT INTO ${disconnected} AS note (keycloak_user_id, identity_provider, account)
           SELECT $keycloakUserId, $idp, $account FROM lock WHERE lock.is_free
           ON CONFLICT (keycloak_user_id, identity_provider, account) DO UPDATE SET disconnected_at = now())
       SELECT lock.is_free, EXISTS (SELECT FROM deleted) AS is_deleted FROM lock`,
      read: (row) => ({ isFree: row.is_free as boolean, isDeleted: row.is_deleted as boolean }),
    }),

    // The second look of an automatic import that inserted a pair. The first one may have missed a note that was
    // committed meanwhile.
    deleteDisconnected: defineStatement({
      label: 'delete_disconnected',
      action: 'delete tokens',
      isRepeatable: true,
      text: `DELETE FROM ${table} AS stored WHERE ${KEY_CONDITION} AND stored.token_version = $version
           AND EXISTS (SELECT FROM ${disconnected} AS note WHERE ${noteCondition}) RETURNING stored.id`,
      read: noColumns,
    }),

    // A dead access token ended the grant without a verdict of the provider. The module does not serve this token and
    // does not ask it again, so the provider decides about the refresh token.
    reactivate: defineStatement({
      label: 'reactivate',
      action: 'make grants active again',
      isRepeatable: false, // the second try would return 0
      text: `WITH reactivated AS (
         UPDATE ${table} AS stored SET status = 'active', quarantined_until = NULL, retry_at = NULL, failure_count = 0,
             failure_kind = NULL, last_error_code = NULL, rejections = 0, updated_at = clock_timestamp(),
             open_leases = CASE WHEN stored.last_error_code = '${ACCESS_TOKEN_DEAD}'
               THEN greatest(stored.open_leases, 1) ELSE stored.open_leases END,
             first_leased_at = CASE WHEN stored.last_error_code = '${ACCESS_TOKEN_DEAD}'
               THEN coalesce(stored.first_leased_at, now()) ELSE stored.first_leased_at END,
             access_token_rejected = stored.access_token_rejected
               OR coalesce(stored.last_error_code = '${ACCESS_TOKEN_DEAD}', false)
           WHERE ${REACTIVATED}
           RETURNING stored.id)
       SELECT count(*)::integer AS reactivated FROM reactivated`,
      read: (row) => Number(row.reactivated),
    }),
  };
}
