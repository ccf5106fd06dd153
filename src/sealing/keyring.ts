import { createHash, hash } from 'node:crypto';

import type { EncryptionKeyOptions, SealingKeyOptions } from './encryption.options.js';
import { FieldBytes } from './field-bytes.js';
import { SecretHolder } from './secret-holder.js';

const SHA256_BLOCK_BYTES = 64;
const SHA256_BYTES = 32;
/** HKDF-Expand ends each of its messages with the number of the message. A row key needs only the first message. */
const FIRST_EXPANSION = Uint8Array.of(1);

/**
 * The key ring of the module, from validated options. The first key seals, every key opens. In a log it prints its key
 * ids and no secret.
 */
export class Keyring extends SecretHolder {
  /** Id of the key that seals. */
  readonly sealingKeyId: string;
  readonly #hmacKeys = new Map<string, HmacKey>();
  readonly #rowKey = Buffer.alloc(SHA256_BYTES);
  readonly #fernetKey: Buffer | undefined;

  constructor(keys: readonly EncryptionKeyOptions[]) {
    super();
    const sealingKeys = keys.filter((key) => isSealingKey(key));
    for (const { id, secret } of sealingKeys) this.#hmacKeys.set(id, hmacKey(Buffer.from(secret, 'base64')));
    this.sealingKeyId = sealingKeys[0]?.id ?? '';
    const legacy = keys.find((key) => 'legacyFernetSecret' in key);
    if (legacy) this.#fernetKey = createHash('sha256').update(legacy.legacyFernetSecret).digest();
  }

  /** Ids of the keys that open sealed texts. */
  get keyIds(): string[] {
    return [...this.#hmacKeys.keys()];
  }

  /** Key of the adopted system's Fernet texts, which is the SHA-256 digest of the secret. */
  get fernetKey(): Buffer | undefined {
    return this.#fernetKey;
  }

  /**
   * Derives the 32-byte key of one row by HKDF-Expand with SHA-256. It is one HMAC, because the extract step may be
   * left out for a secret that is uniformly random. Each row has a key of its own, so AES-GCM's limit of 2^32 random
   * nonces applies to the row and not to the secret.
   *
   * The HMAC is made of two one-shot hashes that return text, which takes 0.9 µs. `createHmac` takes 2.0 µs, because it
   * makes an object with a finalizer for each row. A hash that returns a Buffer takes 2.4 µs, because it allocates
   * outside of the heap.
   *
   * @returns the key, which the next call overwrites, or undefined if the ring has no key of this id
   * @see RFC 5869 section 2.3 and section 3.3, RFC 2104 section 2
   */
  rowKey(keyId: string, keycloakUserId: string, idp: string): Uint8Array | undefined {
    const key = this.#hmacKeys.get(keyId);
    if (!key) return undefined;
    key.outer.write(sha256(key.inner.of(keyId, keycloakUserId, idp)), SHA256_BLOCK_BYTES, 'latin1');
    this.#rowKey.write(sha256(key.outer), 'latin1');
    return this.#rowKey;
  }

  toJSON(): object {
    return { keyIds: this.keyIds };
  }
}

/** The masked blocks of a secret. HMAC puts one of them before the message of each of its two hashes. */
interface HmacKey {
  readonly inner: FieldBytes;
  readonly outer: Buffer;
}

/** The secret is not hashed first, because its 32 bytes are fewer than a block. @see RFC 2104 section 2 */
function hmacKey(secret: Buffer): HmacKey {
  const block = Buffer.concat([secret], SHA256_BLOCK_BYTES);
  const masked = (mask: number) => block.map((byte) => byte ^ mask);
  return {
    inner: new FieldBytes(masked(0x36), FIRST_EXPANSION),
    outer: Buffer.concat([masked(0x5c)], SHA256_BLOCK_BYTES + SHA256_BYTES),
  };
}

function sha256(bytes: Buffer): string {
  return hash('sha256', bytes, 'binary');
}

/** Returns whether a key seals. A legacy key does not. */
export function isSealingKey(key: EncryptionKeyOptions): key is SealingKeyOptions {
  return !('legacyFernetSecret' in key);
}
