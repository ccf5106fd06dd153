import { Injectable } from '@nestjs/common';

import { TokenCipher } from '../sealing/token-cipher.js';
import { offlineTokenLocation } from '../storage/token-locations.js';
import { checkToken, checkUserId } from '../token-input.js';
import { TokenDecryptionError } from '../tokens.errors.js';

/**
 * Seals offline tokens and opens them, in the form of the adopted system: `{"tokens": sealed {"refresh_token": …}}`.
 */
@Injectable()
export class OfflineTokenVault {
  constructor(private readonly cipher: TokenCipher) {}

  seal(userId: string, offlineToken: string): string {
    const location = offlineTokenLocation(checkUserId(userId));
    const payload = JSON.stringify({ refresh_token: checkToken(offlineToken, 'The offline token') });
    return JSON.stringify({ tokens: this.cipher.seal(payload, location) });
  }

  /** @throws {@link TokenDecryptionError} when the stored text does not open */
  open(userId: string, stored: string): string {
    const sealed = textField(stored, 'tokens');
    const payload = sealed && this.cipher.open(sealed, offlineTokenLocation(userId));
    const offlineToken = payload && textField(payload, 'refresh_token');
    if (offlineToken) return offlineToken;
    throw new TokenDecryptionError(
      `The offline token of user "${userId}" is not stored in the form {"tokens": …}. Let the user log in again.`,
    );
  }
}

/** Returns a text field of a JSON object; undefined if there is no such field. */
function textField(json: string, field: string): string | undefined {
  try {
    const parsed: unknown = JSON.parse(json);
    const value: unknown = typeof parsed === 'object' && parsed !== null ? Reflect.get(parsed, field) : undefined;
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}
