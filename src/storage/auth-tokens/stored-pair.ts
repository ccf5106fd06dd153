import { CLEAR_STATE } from '../leases/leased-table-shape.js';

/** Returns the SQL of a value to store, by its column and by its parameter. */
export type Value = (column: string, parameter: string) => string;

const TYPES: Partial<Record<string, string>> = {
  accessTokenExpiresAt: '::bigint',
  refreshTokenExpiresAt: '::bigint',
  version: '::bigint',
  refreshToken: '::text',
  clientId: '::text',
  scopes: '::text',
  keepsRefreshToken: '::boolean',
};

/** Returns the parameter of a statement that stores one pair, with its type. */
export const ownValue: Value = (_, parameter) => `$${parameter}${TYPES[parameter] ?? ''}`;

/**
 * SQL: whether the new pair has no refresh token, and the stored one has a refresh token that may be alive. The refresh
 * token of another client does not count, because the module never sends it.
 */
export function lacksRefreshToken(refreshToken: string, clientId: string): string {
  return `${refreshToken} = '' AND stored.refresh_token <> '' AND stored.status = 'active'
             AND coalesce(stored.client_id = ${clientId}, true)`;
}

/**
 * Returns the assignments of an UPDATE that replaces a pair.
 *
 * @param value returns the SQL of each new value
 * @param kept SQL: whether the row keeps its refresh token. While an exchange is open, the row then also keeps its
 * version and the state of the refresh, because the exchange stores the only live refresh token by this version
 * @param account SQL of the account at the provider
 */
export function storedPair(
  value: Value,
  kept: string,
  { subject, accountName }: { readonly subject: string; readonly accountName: string },
): string {
  const unless = (condition: string) => (column: string, replacement: string) =>
    `${column} = CASE WHEN ${condition} THEN stored.${column} ELSE ${replacement} END`;
  const unlessKept = unless(kept);
  const unlessUnderWay = unless(`stored.open_leases > 0 AND ${kept}`);
  const isNamed = subject !== 'NULL';
  const { access_token_rejected: isRejected, ...state } = CLEAR_STATE;
  return [
    `access_token = ${value('access_token', 'accessToken')}`,
    `access_token_expires_at = ${value('access_token_expires_at', 'accessTokenExpiresAt')}`,
    `scopes = ${value('scopes', 'scopes')}`,
    isNamed ? `subject = ${subject}, account_name = ${accountName}` : unlessKept('subject', subject),
    ...(isNamed ? [] : [unlessKept('account_name', accountName)]),
    unlessKept('refresh_token', value('refresh_token', 'refreshToken')),
    unlessKept('refresh_token_expires_at', value('refresh_token_expires_at', 'refreshTokenExpiresAt')),
    unlessUnderWay('token_version', value('version', 'version')),
    unlessKept('parent_version', 'NULL'),
    unlessKept('client_id', value('client_id', 'clientId')),
    ...Object.entries(state).map(([column, cleared]) => unlessUnderWay(column, cleared)),
    `access_token_rejected = ${isRejected}, rejections = 0, issued_at = clock_timestamp(), updated_at = clock_timestamp()`,
  ].join(', ');
}
