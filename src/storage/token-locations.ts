import type { TokenLocation } from '../sealing/sealed-token.js';
import type { TokenKey } from '../token-key.js';

/** Where the sealed texts of this module live. Stored texts are bound to these names: changing one makes them unreadable. */
export function authTokenLocation(key: TokenKey, column: 'access_token' | 'refresh_token'): TokenLocation {
  return { table: 'auth_tokens', column, keycloakUserId: key.keycloakUserId, idp: key.idp };
}

export function offlineTokenLocation(userId: string): TokenLocation {
  return { table: 'offline_tokens', column: 'offline_token', keycloakUserId: userId, idp: '' };
}
