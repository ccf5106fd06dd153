import { defineStatement, noColumns, type Statement } from '../../postgres/statement.js';
import type { AccountKey } from '../../token-key.js';

/** The statements on `disconnected_accounts`. Those on `auth_tokens` write it too. */
export interface DisconnectedAccountsStatements {
  readonly find: Statement<AccountKey, true>;
  readonly deleteOfUser: Statement<Pick<AccountKey, 'keycloakUserId'>, true>;
}

/** @param table quoted path of the table */
export function disconnectedAccountsStatements(table: string): DisconnectedAccountsStatements {
  return {
    find: defineStatement({
      label: 'find_disconnected',
      action: 'look for a disconnected account',
      isRepeatable: true,
      text: `SELECT FROM ${table} AS note
         WHERE note.keycloak_user_id = $keycloakUserId AND note.identity_provider = $idp
           AND note.account = $account`,
      read: noColumns,
    }),

    deleteOfUser: defineStatement({
      label: 'delete_disconnected_of_user',
      action: 'delete the notes of a user',
      isRepeatable: true,
      text: `DELETE FROM ${table} AS note WHERE note.keycloak_user_id = $keycloakUserId`,
      read: noColumns,
    }),
  };
}
