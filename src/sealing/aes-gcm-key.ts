import { createCipheriv, createDecipheriv, createHash, hkdfSync } from 'node:crypto';

import { randomBytes } from '../random-bytes.js';
import { decodeBase64url } from './base64url.js';
import { mostBytesOf, writeFields } from './fields.js';
import type { TokenLocation } from './sealed-token.js';
import { authenticatedFields, type SealingKey } from './sealing-key.js';

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * AES-256-GCM by OpenSSL, for hosts whose rules demand it. Each row has a key of its own, which HKDF-SHA-256 derives,
 * because GCM allows only 2^32 random nonces of 96 bits under one key.
 *
 * @see RFC 5869; NIST SP 800-38D section 8.3
 */
export class AesGcmKey implements SealingKey {
  readonly algorithm = 'aes-256-gcm';
  readonly #secret: Buffer;

  constructor(
    readonly id: string,
    secret: Buffer,
  ) {
    this.#secret = secret;
  }

  seal(plaintext: string, location: TokenLocation): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(this.algorithm, this.#rowKey(location), nonce);
    cipher.setAAD(bytesOf(authenticatedFields(this.id, location)));
    const body = Buffer.concat([nonce, cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return body.toString('base64url');
  }

  open(body: string, location: TokenLocation): string | undefined {
    const bytes = Buffer.allocUnsafe(body.length);
    const length = decodeBase64url(body, bytes, 0);
    if (length < NONCE_BYTES + TAG_BYTES) return undefined;

    const tagStart = length - TAG_BYTES;
    const nonce = bytes.subarray(0, NONCE_BYTES);
    const decipher = createDecipheriv(this.algorithm, this.#rowKey(location), nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(bytesOf(authenticatedFields(this.id, location)));
    decipher.setAuthTag(bytes.subarray(tagStart, length));
    try {
      const plaintext = decipher.update(bytes.subarray(NONCE_BYTES, tagStart));
      decipher.final();
      return plaintext.toString('utf8');
    } catch {
      return undefined;
    }
  }

  #rowKey({ keycloakUserId, idp, account }: TokenLocation): Uint8Array {
    // HKDF of Node.js takes at most 1,024 bytes of info, and names can be longer.
    const info = createHash('sha256')
      .update(bytesOf([this.id, keycloakUserId, idp, ...(account ? [account] : [])]))
      .digest();
    return new Uint8Array(hkdfSync('sha256', this.#secret, Buffer.alloc(0), info, KEY_BYTES));
  }
}

function bytesOf(fields: readonly string[]): Buffer {
  const bytes = Buffer.allocUnsafe(mostBytesOf(fields));
  return bytes.subarray(0, writeFields(bytes, 0, fields));
}
