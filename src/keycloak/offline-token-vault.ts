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

  /**
   * Seals the content of a stored text anew, by the first key of the key ring. The text keeps its form, also that of a
   * host which stores the sealed text alone.
   *
   * @throws {@link TokenDecryptionError} when the stored text does not open
   */
  reseal(userId: string, stored: string): string {
    const location = offlineTokenLocation(userId);
    const { sealed, embed } = formOf(stored);
    return embed(this.cipher.seal(this.cipher.open(sealed, location), location));
  }

  /** Returns whether two stored texts have the same content, although it may be sealed twice. */
  isSame(userId: string, stored: string, other: string): boolean {
    if (stored === other) return true;
    const location = offlineTokenLocation(userId);
    try {
      const [content, otherContent] = [stored, other].map((text) => this.cipher.open(formOf(text).sealed, location));
      return content === otherContent;
    } catch (error) {
      if (error instanceof TokenDecryptionError) return false;
      throw error;
    }
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

/** Returns the sealed text that a stored text contains, and a function that puts another one in its place. */
export function formOf(stored: string): { readonly sealed: string; readonly embed: (anew: string) => string } {
  const sealed = textField(stored, 'tokens');
  if (sealed === undefined) return { sealed: stored, embed: (anew) => anew };
  return { sealed, embed: (anew) => JSON.stringify({ ...objectOf(stored), tokens: anew }) };
}

/** Returns a text field of a JSON object; undefined if there is no such field. */
function textField(json: string, field: string): string | undefined {
  const value: unknown = Reflect.get(objectOf(json), field);
  return typeof value === 'string' ? value : undefined;
}

function objectOf(json: string): object {
  try {
    const parsed: unknown = JSON.parse(json);
    return typeof parsed === 'object' && parsed !== null ? parsed : {};
  } catch {
    return {};
  }
}
