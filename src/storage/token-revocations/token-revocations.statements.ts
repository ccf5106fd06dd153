import { defineStatement, type Statement } from '../../postgres/statement.js';

/** The statements on `token_revocations`, by what they do. */
export type TokenRevocationsStatements = Record<'add' | 'claim' | 'postpone' | 'remove', Statement>;

/** @param table quoted path of the table */
export function tokenRevocationsStatements(table: string): TokenRevocationsStatements {
  return {
    add: defineStatement(
      'add_revocation',
      `INSERT INTO ${table} (keycloak_user_id, identity_provider, access_token, refresh_token) VALUES ($1, $2, $3, $4)`,
    ),

    // $1 the providers that this process can revoke at, $2 how many. What no process could revoke for 30 days comes too, to
    // be reported and removed. Claiming postpones: if the process dies, another takes the rows up after the backoff, which
    // doubles from 30 s with each claim up to an hour. No lock is held while the provider is called.
    claim: defineStatement(
      'claim_revocations',
      `UPDATE ${table} SET attempts = attempts + 1,
           next_attempt_at = now() + least(30 * 2 ^ attempts, 3600) * interval '1 second'
         WHERE id IN (SELECT id FROM ${table} WHERE next_attempt_at <= now()
           AND (identity_provider = ANY($1::text[]) OR created_at < now() - interval '30 days') ORDER BY next_attempt_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING id::text AS id, keycloak_user_id, identity_provider, access_token, refresh_token, attempts`,
    ),

    // $2 milliseconds that the provider asked to wait; $3 code of the failure.
    postpone: defineStatement(
      'postpone_revocation',
      `UPDATE ${table} SET last_error_code = $3,
           next_attempt_at = greatest(next_attempt_at, now() + $2::float8 * interval '1 ms') WHERE id = $1`,
    ),

    remove: defineStatement('remove_revocation', `DELETE FROM ${table} WHERE id = $1`),
  };
}
