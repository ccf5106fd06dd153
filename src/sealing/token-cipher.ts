import { Injectable } from '@nestjs/common';

import { accountInWords } from '../token-key.js';
import { TokenDecryptionError } from '../tokens.errors.js';
import { KEY_ID } from './encryption.options.js';
import { openFernet } from './fernet.js';
import { Keyring } from './keyring.js';
import type { SealedToken, TokenLocation } from './sealed-token.js';
import { FORMAT, type SealingKey } from './sealing-key.js';

const PREFIX = `${FORMAT}.`;

/**
 * Seals tokens for one place in the database and opens them. It is synchronous and keeps no text.
 *
 * A sealed text is `v1.<keyId>.<base64url(nonce | ciphertext | tag)>`. The key id in the text decides which key opens
 * it, and the key decides by which algorithm: XChaCha20-Poly1305, or AES-256-GCM where its options say so. The cipher
 * never tries other keys, and it never returns a plaintext that it was given.
 */
@Injectable()
export class TokenCipher {
  constructor(private readonly keyring: Keyring) {}

  /** Seals a token for one place in the database, with the first key of the key ring. */
  seal(plaintext: string, location: TokenLocation): SealedToken {
    const key = this.keyring.sealingKey;
    return `${PREFIX}${key.id}.${key.seal(plaintext, location)}` as SealedToken;
  }

  /**
   * Opens a text that was sealed for this place, or a Fernet text of an adopted database.
   *
   * @throws {@link TokenDecryptionError} when the key is not in the key ring (the error has its `keyId`), when the text
   * was altered, cut, or sealed for another row, user, provider, account or column, or when it is no sealed text
   */
  open(text: string, location: TokenLocation): string {
    const keyIdEnd = text.indexOf('.', PREFIX.length);
    if (!text.startsWith(PREFIX) || keyIdEnd < 0) return this.#openLegacy(text, location);

    const keyId = text.slice(PREFIX.length, keyIdEnd);
    const key = this.keyring.find(keyId) ?? this.#missing(keyId, location);
    const plaintext = key.open(text.slice(keyIdEnd + 1), location);
    if (plaintext !== undefined) return plaintext;
    throw unreadable(
      location,
      `does not open with key "${keyId}" (${key.algorithm}), because it was altered, cut or moved, or because the key ` +
        'has another secret or another algorithm',
      keyId,
    );
  }

  #missing(keyId: string, location: TokenLocation): SealingKey {
    if (!KEY_ID.test(keyId)) throw unreadable(location, 'is cut short or altered');
    throw new TokenDecryptionError(
      `The text in ${place(location)} names the encryption key "${keyId}", which is not in encryption.keys ` +
        `(${this.keyring.keyIds.join(', ')}). Add that key again, after the first one.`,
      keyId,
    );
  }

  #openLegacy(text: string, location: TokenLocation): string {
    const key = this.keyring.fernetKey;
    const plaintext = key && openFernet(text, key);
    if (plaintext !== undefined) return plaintext;
    throw unreadable(location, key ? 'is neither sealed nor a Fernet text of the legacy key' : 'is not a sealed text');
  }
}

function place(location: TokenLocation): string {
  const { table, column, keycloakUserId, idp } = location;
  const provider = idp && `, identity provider "${idp}"${accountInWords(location)},`;
  return `${table}.${column} of user "${keycloakUserId}"${provider}`;
}

function unreadable(location: TokenLocation, fault: string, keyId?: string): TokenDecryptionError {
  return new TokenDecryptionError(
    `The text in ${place(location)} ${fault}. ` +
      'Restore the row or the key, or let the user connect the account again.',
    keyId,
  );
}
