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

/** Returns the place of the sealed code verifier of an attempt to link an account. It opens only in its own attempt. */
export function codeVerifierLocation({ keycloakUserId, idp }: TokenKey, stateHash: string): TokenLocation {
  return { table: 'link_attempts', column: `code_verifier ${stateHash}`, keycloakUserId, idp };
}

export function offlineTokenLocation(userId: string): TokenLocation {
  return { table: 'offline_tokens', column: 'offline_token', keycloakUserId: userId, idp: '' };
}
