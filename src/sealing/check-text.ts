import type { SealedToken, TokenLocation } from './sealed-token.js';
import { FORMAT, type SealingKey } from './sealing-key.js';

/** What a key seals when it is registered. It is no secret. */
const CHECK = 'nestjs-idp-tokens';

/** Returns a fixed text, sealed by a key. Only the same secret with the same algorithm opens it. */
export function sealCheckText(key: SealingKey): SealedToken {
  return `${prefixOf(key.id)}${key.seal(CHECK, checkTextLocation(key.id))}` as SealedToken;
}

/** Returns whether a key has sealed this check text. */
export function hasSealed(key: SealingKey, checkText: string): boolean {
  const prefix = prefixOf(key.id);
  return checkText.startsWith(prefix) && key.open(checkText.slice(prefix.length), checkTextLocation(key.id)) === CHECK;
}

/** Returns how every text begins that a key has sealed. */
export function prefixOf(keyId: string): string {
  return `${FORMAT}.${keyId}.`;
}

function checkTextLocation(keyId: string): TokenLocation {
  return { table: 'token_keys', column: 'check_text', keycloakUserId: keyId, idp: '' };
}
