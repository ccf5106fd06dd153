import { defineStatement, noColumns, type Statement } from '../../postgres/statement.js';
import type { SealedToken } from '../../sealing/sealed-token.js';
import type { AccountKey } from '../../token-key.js';
import type { Stamp } from '../leases/leased-table-shape.js';
import type { SealedTokens } from '../stored-tokens.js';

/**
 * The two tokens of a deleted pair, and the OAuth client to which the provider issued them. Only this client can revoke
 * them.
 */
export type Revocation = AccountKey & Pick<SealedTokens, 'accessToken' | 'refreshToken'> & Pick<Stamp, 'clientId'>;

/** A revocation that this process has taken up. */
export interface ClaimedRevocation extends Revocation {
  readonly id: string;
  /** How often a process took the pair up, this time included. */
  readonly attempts: number;
}

/** The sealed tokens of a pair that is still to be revoked. */
export type PendingTokens = Pick<Revocation, 'accessToken' | 'refreshToken'>;

/** Which revocations a process takes up. */
export interface RevocationClaim {
  /** The providers at which the process can revoke. */
  readonly revocable: readonly string[];
  /** The providers that get no further request now. */
  readonly busy: readonly string[];
  readonly limit: number;
}

/** The statements on `token_revocations`, named by what they do. */
export interface TokenRevocationsStatements {
  readonly add: Statement<Revocation, true>;
  readonly claim: Statement<RevocationClaim, ClaimedRevocation>;
  readonly postpone: Statement<{ id: string; delayMs: number; errorCode: string }, true>;
  readonly remove: Statement<{ id: string }, true>;
  /** Returns the tokens of a key that are still to be revoked. */
  readonly findPending: Statement<AccountKey, PendingTokens>;
}

/** @param table quoted path of the table */
export function tokenRevocationsStatements(table: string): TokenRevocationsStatements {
  return {
    add: defineStatement({
      label: 'add_revocation',
      action: 'note tokens for revocation',
      isRepeatable: false,
      text: `INSERT INTO ${table} (keycloak_user_id, identity_provider, account, client_id, access_token, refresh_token)
        VALUES ($keycloakUserId, $idp, $account, $clientId, $accessToken, $refreshToken)`,
      read: noColumns,
    }),

    // The statement also takes up every due row that is older than 30 days, of any provider that is not busy, because
    // the process reports and removes a row that no process could revoke. It postpones each
    // row that it takes up. If the process dies, another process takes the row up after the backoff, which is 30 s at
    // first and doubles with each claim up to an hour. The process holds no lock while it calls the provider.
    claim: defineStatement({
      label: 'claim_revocations',
      action: 'take up revocations',
      isRepeatable: true,
      text: `UPDATE ${table} AS stored SET attempts = stored.attempts + 1,
           next_attempt_at = now() + least(30 * 2 ^ stored.attempts, 3600) * interval '1 second'
         WHERE stored.id IN (SELECT due.id FROM ${table} AS due WHERE due.next_attempt_at <= now()
             AND (due.identity_provider = ANY($revocable::text[]) OR due.created_at < now() - interval '30 days')
             AND due.identity_provider <> ALL($busy::text[])
           ORDER BY due.next_attempt_at LIMIT $limit FOR UPDATE SKIP LOCKED)
         RETURNING stored.id::text AS id, stored.keycloak_user_id, stored.identity_provider, stored.account,
           stored.client_id, stored.access_token, stored.refresh_token, stored.attempts`,
      read: (row) => ({
        id: String(row.id),
        attempts: Number(row.attempts),
        keycloakUserId: String(row.keycloak_user_id),
        idp: String(row.identity_provider),
        account: String(row.account),
        clientId: row.client_id as string | null,
        accessToken: row.access_token as SealedToken,
        refreshToken: row.refresh_token as SealedToken | '',
      }),
    }),

    postpone: defineStatement({
      label: 'postpone_revocation',
      action: 'postpone a revocation',
      isRepeatable: true,
      text: `UPDATE ${table} AS stored SET last_error_code = $errorCode,
           next_attempt_at = greatest(stored.next_attempt_at, now() + $delayMs::float8 * interval '1 ms')
         WHERE stored.id = $id`,
      read: noColumns,
    }),

    remove: defineStatement({
      label: 'remove_revocation',
      action: 'remove a revocation',
      isRepeatable: true,
      text: `DELETE FROM ${table} AS stored WHERE stored.id = $id`,
      read: noColumns,
    }),

    // No index serves the statement. Only an import from Keycloak executes it, after a request to the broker, and the
    // outbox has few rows unless a provider is away.
    findPending: defineStatement({
      label: 'find_pending_revocations',
      action: 'look for tokens that are to be revoked',
      isRepeatable: true,
      text: `SELECT stored.access_token, stored.refresh_token FROM ${table} AS stored
         WHERE stored.keycloak_user_id = $keycloakUserId AND stored.identity_provider = $idp
           AND stored.account = $account`,
      read: (row) => ({
        accessToken: row.access_token as SealedToken,
        refreshToken: row.refresh_token as SealedToken | '',
      }),
    }),
  };
}
