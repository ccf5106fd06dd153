import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

import { Injectable } from '@nestjs/common';

import { TokenDecryptionError } from '../tokens.errors.js';
import { KEY_ID } from './encryption.options.js';
import { openFernet } from './fernet.js';
import { Keyring } from './keyring.js';
import type { SealedToken, TokenLocation } from './sealed-token.js';

const FORMAT = 'v1';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const ALGORITHM = 'aes-256-gcm';

/**
 * Seals tokens with AES-256-GCM under a key of their row and opens them again. Synchronous and stateless: about 5 µs a
 * text on one core, against 35–60 µs for the same in JWE.
 *
 * A sealed text is `v1.<keyId>.<base64url(nonce | ciphertext | tag)>`. The key id in the text decides which key opens
 * it; nothing is tried out, and a plaintext is never taken for its own decryption.
 */
@Injectable()
export class TokenCipher {
  constructor(private readonly keyring: Keyring) {}

  /** Encrypts a token for one place in the database with the first key of the ring. */
  seal(plaintext: string, location: TokenLocation): SealedToken {
    const keyId = this.keyring.sealingKeyId;
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(ALGORITHM, this.#rowKey(keyId, location), nonce);
    cipher.setAAD(associatedData(keyId, location));
    const body = Buffer.concat([nonce, cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return `${FORMAT}.${keyId}.${body.toString('base64url')}` as SealedToken;
  }

  /**
   * Decrypts a text that was sealed for this place, or a Fernet text of an adopted database.
   *
   * @throws {@link TokenDecryptionError} when the key is not in the ring (`keyId` says which), or when the text was
   * altered, cut, or sealed for another row, user, provider or column, or is no sealed text at all
   */
  open(text: string, location: TokenLocation): string {
    const [format, keyId, body, ...rest] = text.split('.');
    if (format !== FORMAT || !keyId || !KEY_ID.test(keyId) || !body || rest.length > 0) {
      return this.#openLegacy(text, location);
    }

    const bytes = Buffer.from(body, 'base64url');
    const key = this.#rowKey(keyId, location);
    const isComplete = bytes.length >= NONCE_BYTES + TAG_BYTES && bytes.toString('base64url') === body;
    if (!isComplete) throw unreadable(location, 'is cut short or altered', keyId);

    const decipher = createDecipheriv(ALGORITHM, key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
    decipher.setAAD(associatedData(keyId, location));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    try {
      const start = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES), undefined, 'utf8');
      return start + decipher.final('utf8');
    } catch {
      throw unreadable(
        location,
        `does not open with key "${keyId}": altered, moved, or the key has another secret`,
        keyId,
      );
    }
  }

  #rowKey(keyId: string, { keycloakUserId, idp }: TokenLocation): Buffer {
    const key = this.keyring.rowKey(keyId, lengthPrefixed(keyId, keycloakUserId, idp));
    if (key) return key;
    throw new TokenDecryptionError(
      `A stored token names the encryption key "${keyId}", which is not in encryption.keys ` +
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

function associatedData(keyId: string, { table, column, keycloakUserId, idp }: TokenLocation): Buffer {
  return lengthPrefixed(FORMAT, keyId, table, column, keycloakUserId, idp);
}

/** Joins fields so that no two lists of fields give the same bytes: each is preceded by its length in 4 bytes. */
function lengthPrefixed(...fields: string[]): Buffer {
  const size = fields.reduce((sum, field) => sum + 4 + Buffer.byteLength(field), 0);
  const bytes = Buffer.allocUnsafe(size);
  let position = 0;
  for (const field of fields) {
    const written = bytes.write(field, position + 4, 'utf8');
    bytes.writeUInt32BE(written, position);
    position += 4 + written;
  }
  return bytes;
}

function unreadable(location: TokenLocation, fault: string, keyId?: string): TokenDecryptionError {
  const { table, column, keycloakUserId, idp } = location;
  return new TokenDecryptionError(
    `The text in ${table}.${column} of user "${keycloakUserId}"${idp && `, identity provider "${idp}",`} ${fault}. ` +
      'Restore the row or the key, or let the user connect the account again.',
    keyId,
  );
}
