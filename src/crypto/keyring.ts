import { createHash, createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { inspect } from 'node:util';

import type { EncryptionKeyOptions, SealingKeyOptions } from './encryption.options.js';

/**
 * The keys of the module, from validated options. The first key seals, every key opens. Prints its key ids and no
 * secret, however it is logged.
 */
export class Keyring {
  /** Id of the key that seals. */
  readonly sealingKeyId: string;
  readonly #secrets = new Map<string, KeyObject>();
  readonly #fernetKey: Buffer | undefined;

  constructor(keys: readonly EncryptionKeyOptions[]) {
    const sealingKeys = keys.filter((key) => isSealingKey(key));
    for (const { id, secret } of sealingKeys) this.#secrets.set(id, createSecretKey(secret, 'base64'));
    this.sealingKeyId = sealingKeys[0]?.id ?? '';
    const legacy = keys.find((key) => 'legacyFernetSecret' in key);
    if (legacy) this.#fernetKey = createHash('sha256').update(legacy.legacyFernetSecret).digest();
  }

  /** Ids of the keys that open sealed texts. */
  get keyIds(): string[] {
    return [...this.#secrets.keys()];
  }

  /** Key of the adopted system's Fernet texts: the SHA-256 digest of its secret. */
  get fernetKey(): Buffer | undefined {
    return this.#fernetKey;
  }

  /**
   * Derives the 32-byte key of one row by HKDF-Expand with SHA-256, or returns `undefined` for an unknown key id. One
   * HMAC: the secret is uniformly random already, so the extract step may be left out. A key of its own for each row
   * lifts AES-GCM's limit of 2^32 random nonces from the secret to the row.
   *
   * @see RFC 5869 section 2.3 and section 3.3
   */
  rowKey(keyId: string, info: Buffer): Buffer | undefined {
    const secret = this.#secrets.get(keyId);
    return secret && createHmac('sha256', secret).update(info).update(FIRST_BLOCK).digest();
  }

  toJSON(): object {
    return { keyIds: this.keyIds };
  }

  [inspect.custom](): string {
    return `Keyring { keyIds: [${this.keyIds.join(', ')}] }`;
  }
}

const FIRST_BLOCK = Buffer.of(1);

/** Tells a sealing key from a legacy one. */
export function isSealingKey(key: EncryptionKeyOptions): key is SealingKeyOptions {
  return !('legacyFernetSecret' in key);
}
