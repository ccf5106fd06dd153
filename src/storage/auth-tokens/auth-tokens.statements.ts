import { defineStatement, type Statement } from '../../postgres/statement.js';
import { ACCESS_TOKEN_COLUMNS, ROW_COLUMNS, TOKEN_COLUMNS } from './auth-tokens.row.js';

/** The statements on `auth_tokens`, by what they do. Each is one round trip. */
export type AuthTokensStatements = Record<
  | 'findAccessToken'
  | 'findAccessTokensOfOneIdp'
  | 'findAccessTokensOfMany'
  | 'load'
  | 'loadOfOneIdp'
  | 'loadOfMany'
  | 'store'
  | 'import'
  | 'delete'
  | 'deleteForRevocation'
  | 'acquire'
  | 'commit'
  | 'commitMany'
  | 'supersede'
  | 'release'
  | 'holdOff'
  | 'reject',
  Statement
>;

const KEY = 'keycloak_user_id = $1 AND identity_provider = $2';

/**
 * Many users of one provider. The sub-select hides the array from the planner, which would otherwise plan each call
 * anew for its number of users: measured at 120 µs instead of 96 for one user, 133 instead of 109 for four.
 */
const KEYS = 'keycloak_user_id = ANY((SELECT $1::text[])::text[]) AND identity_provider = $2';

/** What a new pair clears: the state of the refresh that led to it, or of those it makes obsolete. */
const RESET = `lease_id = NULL, lease_expires_at = NULL, open_leases = 0, retry_at = NULL, failure_count = 0,
  suspect_until = NULL, status = 'active', last_error_code = NULL, updated_at = clock_timestamp()`;

/** Parameters 3 to 9: the new pair, its version, the version redeemed for it, and its issue in epoch seconds. */
const REFRESHED_PAIR = `access_token = $3, refresh_token = $4, access_token_expires_at = $5,
  refresh_token_expires_at = $6, token_version = $7, parent_version = $8, issued_at = to_timestamp($9::float8)`;

/**
 * @param table quoted path of the table
 * @param revocations quoted path of `token_revocations`
 */
export function authTokensStatements(table: string, revocations: string): AuthTokensStatements {
  // A transaction of the host may hold the row for as long as it pleases. Waiting for it would hold a connection, which
  // that transaction may itself be waiting for; the caller tries again instead.
  const unlockedRow = `id = (SELECT id FROM ${table} WHERE ${KEY} FOR NO KEY UPDATE NOWAIT)`;

  const importedAt = 'CASE WHEN $8::float8 > 0 THEN to_timestamp($8::float8) ELSE clock_timestamp() END';
  const importedPair = `access_token = $3, refresh_token = $4, access_token_expires_at = $5, refresh_token_expires_at = $6,
    token_version = $7, parent_version = NULL, issued_at = ${importedAt}, ${RESET}`;
  const isImportNewer = `CASE WHEN $8::float8 > 0 THEN to_timestamp($8::float8) > stored.issued_at
        OR to_timestamp($8::float8) = stored.issued_at AND stored.parent_version IS NULL
      ELSE stored.parent_version IS NULL OR stored.status <> 'active' END
    AND ($9::boolean OR $4 <> '' OR stored.refresh_token = '' OR stored.status <> 'active')`;

  // The stored rows of many callers, with the caller's position: $1 users, $2 providers, then an array for each column.
  const asked = (columns: Record<string, string> = {}): string => {
    const arrays = ['text', 'text', ...Object.values(columns)].map((type, n) => `(SELECT $${n + 1}::${type}[])`);
    const names = ['user_id', 'idp', ...Object.keys(columns), 'position'];
    return `unnest(${arrays.join(', ')}) WITH ORDINALITY AS asked (${names.join(', ')})
     JOIN ${table} AS stored ON stored.keycloak_user_id = user_id AND stored.identity_provider = idp`;
  };
  // Skipped, not waited for, is what a transaction of the host holds, and what another process has in its statement: of
  // two statements that waited for each other's rows PostgreSQL would end one.
  const unlocked = (columns: Record<string, string>): string =>
    `WITH unlocked AS MATERIALIZED (
       SELECT id AS row_id, asked.* FROM ${asked(columns)} FOR NO KEY UPDATE OF stored SKIP LOCKED)`;

  return {
    // The hot path: every column left out here is text that PostgreSQL need not write and Node need not read.
    findAccessToken: defineStatement(
      'find_access_token',
      `SELECT ${ACCESS_TOKEN_COLUMNS} FROM ${table} WHERE ${KEY} AND status = 'active'`,
    ),

    findAccessTokensOfOneIdp: defineStatement(
      'find_access_tokens',
      `SELECT keycloak_user_id, ${ACCESS_TOKEN_COLUMNS} FROM ${table} WHERE ${KEYS} AND status = 'active'`,
    ),
    // Any keys. For users of one provider the other way is faster.
    findAccessTokensOfMany: defineStatement(
      'find_access_tokens_of_many',
      `SELECT position, ${ACCESS_TOKEN_COLUMNS} FROM ${asked()} WHERE status = 'active'`,
    ),

    load: defineStatement('load', `SELECT ${ROW_COLUMNS} FROM ${table} WHERE ${KEY}`),
    loadOfOneIdp: defineStatement('load_of_one', `SELECT keycloak_user_id, ${ROW_COLUMNS} FROM ${table} WHERE ${KEYS}`),
    loadOfMany: defineStatement('load_of_many', `SELECT position, ${ROW_COLUMNS} FROM ${asked()}`),

    // The update stands first because a refused INSERT … ON CONFLICT spends an identity value: with 2^31 of them,
    // logins alone would use the sequence up. ON CONFLICT is what makes two first stores of one key both succeed.
    store: defineStatement(
      'store',
      `WITH updated AS (
         UPDATE ${table} SET access_token = $3, refresh_token = $4, access_token_expires_at = $5,
           refresh_token_expires_at = $6, token_version = $7, parent_version = NULL, issued_at = clock_timestamp(), ${RESET}
         WHERE ${KEY} RETURNING id)
       INSERT INTO ${table} (keycloak_user_id, identity_provider, access_token, refresh_token,
           access_token_expires_at, refresh_token_expires_at, token_version, issued_at)
         SELECT $1, $2, $3, $4, $5::bigint, $6::bigint, $7::bigint, clock_timestamp()
         WHERE NOT EXISTS (SELECT FROM updated)
       ON CONFLICT (keycloak_user_id, identity_provider) DO UPDATE SET access_token = $3, refresh_token = $4,
         access_token_expires_at = $5, refresh_token_expires_at = $6, token_version = $7, parent_version = NULL,
         issued_at = clock_timestamp(), ${RESET}`,
    ),

    // Another system's copy of a pair. $8 when it was issued, 0 if nobody knows; $9 whether the refresh token that stands
    // here may go. Replaced is only what was issued before (of logins also in the same second, which is all that $8 names), or,
    // where nobody can tell, what was not refreshed here since.
    import: defineStatement(
      'import',
      `WITH updated AS (
         UPDATE ${table} AS stored SET ${importedPair} WHERE ${KEY} AND ${isImportNewer} RETURNING id),
       inserted AS (
         INSERT INTO ${table} AS stored (keycloak_user_id, identity_provider, access_token, refresh_token,
             access_token_expires_at, refresh_token_expires_at, token_version, issued_at)
           SELECT $1, $2, $3, $4, $5::bigint, $6::bigint, $7::bigint, ${importedAt}
           WHERE NOT EXISTS (SELECT FROM ${table} WHERE ${KEY})
         ON CONFLICT (keycloak_user_id, identity_provider) DO UPDATE SET ${importedPair} WHERE ${isImportNewer}
         RETURNING id)
       SELECT id FROM updated UNION ALL SELECT id FROM inserted`,
    ),

    delete: defineStatement('delete', `DELETE FROM ${table} WHERE ${KEY} RETURNING ${TOKEN_COLUMNS}`),

    // One statement, so that no pair is deleted and not noted, or noted and not deleted.
    deleteForRevocation: defineStatement(
      'delete_for_revocation',
      `WITH deleted AS (DELETE FROM ${table} WHERE ${KEY} RETURNING access_token, refresh_token),
            noted AS (INSERT INTO ${revocations} (keycloak_user_id, identity_provider, access_token, refresh_token)
                        SELECT $1, $2, access_token, refresh_token FROM deleted)
         SELECT FROM deleted`,
    ),

    // For many callers at once. Those who saw a version stale, or rejected: at that version it still is. `may_take_over`:
    // an expired lease also while the access token is valid.
    acquire: defineStatement(
      'acquire',
      `${unlocked({ new_lease_id: 'bigint', lease_ms: 'float8', seen_version: 'bigint', may_take_over: 'boolean' })}
       UPDATE ${table} SET lease_id = new_lease_id, lease_expires_at = now() + lease_ms * interval '1 ms',
           open_leases = least(open_leases + CASE WHEN lease_id = new_lease_id THEN 0 ELSE 1 END, 32767), updated_at = now()
         FROM unlocked
         WHERE id = row_id AND token_version = seen_version AND status = 'active' AND refresh_token <> ''
           AND (lease_id IS NULL OR lease_id = new_lease_id OR lease_expires_at <= now()
             AND (may_take_over OR access_token_expires_at BETWEEN 1 AND extract(epoch FROM now())))
           AND (retry_at IS NULL OR retry_at <= now()) AND (suspect_until IS NULL OR suspect_until <= now())
         RETURNING position, ${ROW_COLUMNS}, failure_count, date_part('epoch', now()) AS granted_at`,
    ),

    // $8 the version that was redeemed. The lease is no condition: whoever got the answer holds the only live token.
    commit: defineStatement(
      'commit',
      `UPDATE ${table} SET ${REFRESHED_PAIR}, ${RESET}
         WHERE ${unlockedRow} AND token_version = $8 RETURNING token_version`,
    ),

    // As commit, for many pairs at once. One that it does not store is not decided yet: its row may only be locked.
    commitMany: defineStatement(
      'commit_many',
      `${unlocked({
        new_access_token: 'text',
        new_refresh_token: 'text',
        new_access_expiry: 'bigint',
        new_refresh_expiry: 'bigint',
        new_version: 'bigint',
        redeemed_version: 'bigint',
        new_issue: 'float8',
      })}
       UPDATE ${table} SET access_token = new_access_token, refresh_token = new_refresh_token,
           access_token_expires_at = new_access_expiry, refresh_token_expires_at = new_refresh_expiry,
           token_version = new_version, parent_version = redeemed_version, issued_at = to_timestamp(new_issue), ${RESET}
         FROM unlocked WHERE id = row_id AND token_version = redeemed_version RETURNING position`,
    ),

    // Two exchanges of one token in the provider's replay window both got a pair: the newer one is live.
    supersede: defineStatement(
      'supersede',
      `UPDATE ${table} SET ${REFRESHED_PAIR}, ${RESET}
         WHERE ${unlockedRow} AND parent_version = $8 AND issued_at < to_timestamp($9::float8)
         RETURNING token_version`,
    ),

    // $4 backoff in ms, NULL when nothing failed at the provider; $5 code of the failure.
    release: defineStatement(
      'release',
      `UPDATE ${table} SET lease_id = NULL, lease_expires_at = NULL, open_leases = greatest(open_leases - 1, 0),
           failure_count = least(failure_count + CASE WHEN $4::float8 IS NULL THEN 0 ELSE 1 END, 32767),
           retry_at = now() + $4::float8 * interval '1 ms', last_error_code = coalesce($5, last_error_code),
           updated_at = now()
         WHERE ${unlockedRow} AND lease_id = $3`,
    ),

    // The lease stays and runs out, because its refresh token may have been redeemed; nobody waits for it meanwhile.
    holdOff: defineStatement(
      'hold_off',
      `UPDATE ${table} SET failure_count = least(failure_count + 1, 32767), retry_at = lease_expires_at,
           last_error_code = $4, updated_at = now()
         WHERE ${unlockedRow} AND lease_id = $3`,
    ),

    // $4 the version that was redeemed, $5 quarantine in ms, $6 code. With a takeover behind it the verdict may be
    // about a pair that another holder already replaced: it is believed only when it comes again after the quarantine.
    reject: defineStatement(
      'reject',
      `UPDATE ${table} SET lease_id = NULL, lease_expires_at = NULL, last_error_code = $6, updated_at = now(),
           status = CASE WHEN open_leases <= 1 OR suspect_until IS NOT NULL
             THEN 'reauthentication_required' ELSE status END,
           suspect_until = CASE WHEN open_leases <= 1 OR suspect_until IS NOT NULL
             THEN NULL ELSE now() + $5 * interval '1 ms' END
         WHERE ${unlockedRow} AND lease_id = $3 AND token_version = $4
         RETURNING status`,
    ),
  };
}
