import type { TokenLocation } from '../sealing/sealed-token.js';
import type { TokenKey } from '../token-key.js';

/**
 * Returns the place of a sealed text of `auth_tokens`. A sealed text opens only in the place for which it was sealed,
 * so a new name of a table or a column makes the stored texts unreadable.
 */
export function authTokenLocation(key: TokenKey, column: 'access_token' | 'refresh_token'): TokenLocation {
  const { keycloakUserId, idp, account } = key;
  return { table: 'auth_tokens', column, keycloakUserId, idp, account };
}

export function offlineTokenLocation(userId: string): TokenLocation {
  return { table: 'offline_tokens', column: 'offline_token', keycloakUserId: userId, idp: '' };
}
