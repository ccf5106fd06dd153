import { randomBytes } from '../random-bytes.js';
import { decodeBase64url } from './base64url.js';
import { mostBytesOf, writeFields } from './fields.js';
import type { TokenLocation } from './sealed-token.js';
import { authenticatedFields, type SealingKey } from './sealing-key.js';
import { SodiumMemory } from './sodium-memory.js';

const KEY_BYTES = 32;
const NONCE_BYTES = 24;
const TAG_BYTES = 16;

/**
 * XChaCha20-Poly1305 by libsodium. One key seals any number of texts, because random nonces of 192 bits do not repeat.
 *
 * A call works in place in the memory of libsodium, which has the key, the authenticated fields and the body one after
 * the other. It overwrites the key, the plaintext and the copies of it with zeros before it returns.
 *
 * @see draft-irtf-cfrg-xchacha-03
 */
export class XChaChaKey implements SealingKey {
  readonly algorithm = 'xchacha20-poly1305';
  readonly #secret: Buffer;
  readonly #memory: SodiumMemory;

  /** @throws {@link TokensConfigurationError} when libsodium could not be loaded */
  constructor(
    readonly id: string,
    secret: Buffer,
  ) {
    this.#secret = secret;
    this.#memory = SodiumMemory.ofProcess();
  }

  seal(plaintext: string, location: TokenLocation): string {
    const fields = authenticatedFields(this.id, location);
    const nonce = this.#prepare(fields, NONCE_BYTES + 3 * plaintext.length + TAG_BYTES);
    const { bytes, start } = this.#memory;
    const data = start + KEY_BYTES;
    const message = nonce + NONCE_BYTES;
    bytes.set(randomBytes(NONCE_BYTES), nonce);
    const length = bytes.write(plaintext, message, 'utf8');
    bytes.set(this.#secret, start);
    this.#memory.encrypt(message, length, data, nonce - data, nonce, start);
    this.#memory.wipe(start, data);
    return bytes.toString('base64url', nonce, message + length + TAG_BYTES);
  }

  open(body: string, location: TokenLocation): string | undefined {
    const fields = authenticatedFields(this.id, location);
    const nonce = this.#prepare(fields, body.length);
    const { bytes, start } = this.#memory;
    const data = start + KEY_BYTES;
    const message = nonce + NONCE_BYTES;
    const length = decodeBase64url(body, bytes, nonce) - NONCE_BYTES;
    if (length < TAG_BYTES) return undefined;
    bytes.set(this.#secret, start);
    const isAuthentic = this.#memory.decrypt(message, length, data, nonce - data, nonce, start);
    const plaintext = isAuthentic ? bytes.toString('utf8', message, message + length - TAG_BYTES) : undefined;
    this.#memory.wipe(start, data);
    if (isAuthentic) bytes.fill(0, message, message + length);
    return plaintext;
  }

  /** Writes the authenticated fields after the place of the key. Returns their end, where the body has its bytes. */
  #prepare(fields: readonly string[], bodyBytes: number): number {
    const memory = this.#memory;
    memory.reserve(KEY_BYTES + mostBytesOf(fields) + bodyBytes);
    return writeFields(memory.bytes, memory.start + KEY_BYTES, fields);
  }
}
