import type { AccountKey } from '../../token-key.js';
import { leaseStatements, type LeaseStatements } from '../leases/lease.statements.js';
import type { ScopedTokens } from '../stored-tokens.js';
import { type AuthTokensRow, KEY_COLUMNS, readRow, ROW_COLUMNS } from './auth-tokens-row.js';

/**
 * Returns the statements that lease rows of `auth_tokens` and end their leases.
 *
 * @param table quoted path of the table
 */
export function authTokensLeases(table: string): LeaseStatements<AccountKey, ScopedTokens, AuthTokensRow> {
  return leaseStatements({
    label: 'tokens',
    content: 'tokens',
    table,
    id: 'id',
    key: KEY_COLUMNS,
    tokens: [
      { column: 'access_token', type: 'text', parameter: 'accessToken' },
      { column: 'refresh_token', type: 'text', parameter: 'refreshToken' },
      { column: 'access_token_expires_at', type: 'bigint', parameter: 'accessTokenExpiresAt' },
      { column: 'refresh_token_expires_at', type: 'bigint', parameter: 'refreshTokenExpiresAt' },
      { column: 'scopes', type: 'text', parameter: 'scopes' },
    ],
    droppedRefreshToken: { refresh_token: "''", refresh_token_expires_at: '0' },
    columns: ROW_COLUMNS,
    read: readRow,
  });
}
