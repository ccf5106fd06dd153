import type { TokenKey } from '../../token-key.js';
import { leaseStatements, type LeaseStatements } from '../leases/lease.statements.js';
import { type AuthTokensRow, readRow, TOKEN_COLUMNS } from './auth-tokens-row.js';
import type { SealedTokens } from './stored-tokens.js';

/**
 * Returns the statements that lease rows of `auth_tokens` and end their leases.
 *
 * @param table quoted path of the table
 */
export function authTokensLeases(table: string): LeaseStatements<TokenKey, SealedTokens, AuthTokensRow> {
  return leaseStatements({
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
  });
}
