import { defineStatement, type Statement } from '../database/statement.js';

/** The statements on `offline_tokens`, by what they do. */
export type OfflineTokensStatements = Record<'store' | 'replace' | 'load' | 'delete', Statement>;

/** @param table quoted path of the table */
export function offlineTokensStatements(table: string): OfflineTokensStatements {
  return {
    store: defineStatement(
      'store_offline',
      `INSERT INTO ${table} (user_id, offline_token) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET offline_token = $2, updated_at = clock_timestamp()`,
    ),
    replace: defineStatement(
      'replace_offline',
      `UPDATE ${table} SET offline_token = $3, updated_at = clock_timestamp()
         WHERE user_id = $1 AND offline_token = $2 RETURNING user_id`,
    ),
    load: defineStatement('load_offline', `SELECT offline_token FROM ${table} WHERE user_id = $1`),
    delete: defineStatement('delete_offline', `DELETE FROM ${table} WHERE user_id = $1 RETURNING user_id`),
  };
}
