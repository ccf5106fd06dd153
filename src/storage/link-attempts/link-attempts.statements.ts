import { defineStatement, noColumns, type Statement } from '../../postgres/statement.js';
import type { SealedToken } from '../../sealing/sealed-token.js';
import type { AccountKey } from '../../token-key.js';

/** An attempt to link an account, as it is stored. */
export interface StoredAttempt extends AccountKey {
  readonly stateHash: string;
  /** With a space between two scopes. */
  readonly scopes: string;
  readonly codeVerifier: SealedToken;
  readonly returnTo: string | null;
  readonly replacesAccount: boolean;
}

/** An attempt to add, and the limits that the statement keeps. */
export interface NewAttempt extends StoredAttempt {
  readonly lifetimeSeconds: number;
  /** How many other attempts of the user stay. The statement deletes the oldest ones. */
  readonly othersOfUser: number;
}

/** Who finishes which attempt. */
export interface AttemptClaim {
  readonly stateHash: string;
  readonly keycloakUserId: string;
  /** The provider whose answer arrived; null if the caller does not know it. */
  readonly idp: string | null;
}

/** What became of a claim. `takenAt` is in epoch seconds of the database. There is no answer for a state that no attempt has. */
export type ClaimedAttempt =
  | { readonly kind: 'taken'; readonly attempt: StoredAttempt; readonly isExpired: boolean; readonly takenAt: number }
  /** Another user began the attempt, or at another provider. The attempt stays. */
  | { readonly kind: 'other_user' | 'other_provider'; readonly idp: string };

/** The statements on `link_attempts`, named by what they do. */
export interface LinkAttemptsStatements {
  /** Returns when the attempt expires. */
  readonly add: Statement<NewAttempt, Date>;
  readonly take: Statement<AttemptClaim, ClaimedAttempt>;
  readonly deleteOfUser: Statement<Pick<AccountKey, 'keycloakUserId'>, true>;
}

/** How many expired attempts of all users one statement deletes at most. */
const EXPIRED_AT_ONCE = 100;

/** @param table quoted path of the table */
export function linkAttemptsStatements(table: string): LinkAttemptsStatements {
  return {
    // The statement keeps the table small by itself. It deletes expired attempts of all users, more than it adds, and
    // the oldest attempts of the user beyond the limit. It skips locked rows, so two of these statements never wait for
    // each other.
    add: defineStatement({
      label: 'add_link_attempt',
      action: 'begin to link an account',
      isRepeatable: true, // no other attempt has the state
      text: `WITH expired AS (
         DELETE FROM ${table} AS stored WHERE stored.state_hash IN (
           SELECT old.state_hash FROM ${table} AS old WHERE old.expires_at <= now()
             ORDER BY old.expires_at LIMIT ${EXPIRED_AT_ONCE} FOR UPDATE SKIP LOCKED)),
       surplus AS (
         DELETE FROM ${table} AS stored WHERE stored.state_hash IN (
           SELECT old.state_hash FROM ${table} AS old WHERE old.state_hash IN (
               SELECT own.state_hash FROM ${table} AS own
                 WHERE own.keycloak_user_id = $keycloakUserId AND own.expires_at > now()
                 ORDER BY own.created_at DESC, own.state_hash OFFSET $othersOfUser::integer)
             FOR UPDATE SKIP LOCKED))
       INSERT INTO ${table} AS stored (state_hash, keycloak_user_id, identity_provider, account, scopes, code_verifier,
           return_to, replaces_account, created_at, expires_at)
         VALUES ($stateHash, $keycloakUserId, $idp, $account, $scopes, $codeVerifier, $returnTo, $replacesAccount,
           clock_timestamp(), now() + $lifetimeSeconds::integer * interval '1 second')
         ON CONFLICT (state_hash) DO UPDATE SET expires_at = excluded.expires_at
         RETURNING date_part('epoch', stored.expires_at) AS expires_at`,
      read: (row) => new Date(Number(row.expires_at) * 1000),
    }),

    // Of two statements with one state, the second one waits for the first one and then finds no row. The attempt of
    // another user stays, because a user who learns a state could otherwise end the attempt of the user who began.
    take: defineStatement({
      label: 'take_link_attempt',
      action: 'finish linking an account',
      isRepeatable: false, // the second try finds nothing
      text: `WITH taken AS (
         DELETE FROM ${table} AS stored WHERE stored.state_hash = $stateHash
             AND stored.keycloak_user_id = $keycloakUserId AND coalesce(stored.identity_provider = $idp, true)
           RETURNING stored.*, stored.expires_at <= now() AS is_expired)
       SELECT true AS is_taken, taken.state_hash, taken.keycloak_user_id, taken.identity_provider, taken.account,
           taken.scopes, taken.code_verifier, taken.return_to, taken.replaces_account, taken.is_expired,
           date_part('epoch', clock_timestamp()) AS taken_at FROM taken
       UNION ALL
       SELECT false, NULL, CASE WHEN other.keycloak_user_id = $keycloakUserId THEN other.keycloak_user_id END,
           other.identity_provider, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM ${table} AS other
         WHERE other.state_hash = $stateHash AND NOT (other.keycloak_user_id = $keycloakUserId
           AND coalesce(other.identity_provider = $idp, true))`,
      read: (row): ClaimedAttempt => {
        const idp = String(row.identity_provider);
        if (row.is_taken !== true) {
          return { kind: row.keycloak_user_id === null ? 'other_user' : 'other_provider', idp };
        }
        return {
          kind: 'taken',
          isExpired: row.is_expired as boolean,
          takenAt: Number(row.taken_at),
          attempt: {
            stateHash: String(row.state_hash),
            keycloakUserId: String(row.keycloak_user_id),
            idp,
            account: String(row.account),
            scopes: String(row.scopes),
            codeVerifier: row.code_verifier as SealedToken,
            returnTo: row.return_to as string | null,
            replacesAccount: row.replaces_account as boolean,
          },
        };
      },
    }),

    deleteOfUser: defineStatement({
      label: 'delete_link_attempts_of_user',
      action: 'delete the attempts of a user to link accounts',
      isRepeatable: true,
      text: `DELETE FROM ${table} AS stored WHERE stored.keycloak_user_id = $keycloakUserId`,
      read: noColumns,
    }),
  };
}
