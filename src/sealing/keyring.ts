import { createHash } from 'node:crypto';

import { AesGcmKey } from './aes-gcm-key.js';
import type { EncryptionKeyOptions, SealingKeyOptions } from './encryption.options.js';
import type { SealingKey } from './sealing-key.js';
import { SecretHolder } from './secret-holder.js';
import { XChaChaKey } from './xchacha-key.js';

/**
 * The key ring of the module, from validated options. The first key seals, every key opens. In a log it prints its key
 * ids and no secret.
 */
export class Keyring extends SecretHolder {
  /** The key that seals. */
  readonly sealingKey: SealingKey;
  readonly #keys = new Map<string, SealingKey>();
  readonly #fernetKey: Buffer | undefined;
  /** Id of the key that opens the Fernet texts of the adopted system. */
  readonly fernetKeyId: string | undefined;

  /** @throws {@link TokensConfigurationError} when a key needs libsodium, and it could not be loaded */
  constructor(keys: readonly EncryptionKeyOptions[]) {
    super();
    for (const key of keys) if (isSealingKey(key)) this.#keys.set(key.id, sealingKeyOf(key));
    const [first] = this.#keys.values();
    if (!first) throw new TypeError('A key ring needs a key that seals.');
    this.sealingKey = first;
    const legacy = keys.find((key) => 'legacyFernetSecret' in key);
    if (legacy) this.#fernetKey = createHash('sha256').update(legacy.legacyFernetSecret).digest();
    this.fernetKeyId = legacy?.id;
  }

  /** Ids of the keys that open sealed texts. */
  get keyIds(): string[] {
    return [...this.#keys.keys()];
  }

  /** Key of the adopted system's Fernet texts, which is the SHA-256 digest of the secret. */
  get fernetKey(): Buffer | undefined {
    return this.#fernetKey;
  }

  /** The key with this id; undefined when the ring has none. */
  find(keyId: string): SealingKey | undefined {
    return this.#keys.get(keyId);
  }

  toJSON(): object {
    return { keyIds: this.keyIds };
  }
}

function sealingKeyOf({ id, secret, algorithm }: SealingKeyOptions): SealingKey {
  const bytes = Buffer.from(secret, 'base64');
  return algorithm === 'aes-256-gcm' ? new AesGcmKey(id, bytes) : new XChaChaKey(id, bytes);
}

/** Returns whether a key seals. A legacy key does not. */
export function isSealingKey(key: EncryptionKeyOptions): key is SealingKeyOptions {
  return !('legacyFernetSecret' in key);
}
