import { defineStatement, type Statement } from '../../postgres/statement.js';

/** The statements on `offline_tokens`, by what they do. */
export type OfflineTokensStatements = Record<
  'store' | 'storeFirst' | 'replace' | 'load' | 'delete' | 'acquire' | 'release',
  Statement
>;

/** @param table quoted path of the table */
export function offlineTokensStatements(table: string): OfflineTokensStatements {
  const noLease = 'lease_id = NULL, lease_expires_at = NULL';
  // As in auth_tokens: who waited for a transaction of the host would hold a connection as long as it pleases.
  const unlockedRow = `user_id = (SELECT user_id FROM ${table} WHERE user_id = $1 FOR NO KEY UPDATE NOWAIT)`;

  return {
    store: defineStatement(
      'store_offline',
      `INSERT INTO ${table} (user_id, offline_token) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET offline_token = $2, ${noLease}, updated_at = clock_timestamp()`,
    ),
    storeFirst: defineStatement(
      'store_first_offline',
      `INSERT INTO ${table} (user_id, offline_token) VALUES ($1, $2) ON CONFLICT (user_id) DO NOTHING`,
    ),

    // The lease is no condition: whoever got the answer holds the only live token.
    replace: defineStatement(
      'replace_offline',
      `UPDATE ${table} SET offline_token = $3, ${noLease}, updated_at = clock_timestamp()
         WHERE ${unlockedRow} AND offline_token = $2 RETURNING user_id`,
    ),
    load: defineStatement('load_offline', `SELECT offline_token FROM ${table} WHERE user_id = $1`),
    delete: defineStatement('delete_offline', `DELETE FROM ${table} WHERE user_id = $1 RETURNING user_id`),

    // $2 the text that was loaded, $3 lease id, $4 lease in ms.
    acquire: defineStatement(
      'acquire_offline',
      `UPDATE ${table} SET lease_id = $3, lease_expires_at = now() + $4 * interval '1 ms'
         WHERE user_id = (SELECT user_id FROM ${table} WHERE user_id = $1 FOR NO KEY UPDATE SKIP LOCKED)
           AND offline_token = $2 AND (lease_id IS NULL OR lease_id = $3 OR lease_expires_at <= now())
         RETURNING user_id`,
    ),

    release: defineStatement(
      'release_offline',
      `UPDATE ${table} SET ${noLease} WHERE ${unlockedRow} AND lease_id = $2`,
    ),
  };
}
