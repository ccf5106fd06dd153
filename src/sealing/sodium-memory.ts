import { TokensConfigurationError } from '../tokens.errors.js';
import { type Sodium, sodium } from './sodium.js';

const FIRST_CAPACITY = 16 * 1024;
const BLOCK_BYTES = 64;
const TAG_BYTES = 16;
/** A text of 63 bytes, and its tag under the key and the nonce of zeros, which `@noble/ciphers` made. */
const PROBE = 'nestjs-idp-tokens looks for the copies of this text in memory.!';
const PROBE_TAG = '5697cecf78f0e548e102800601b5ebd6';

/**
 * The part of the memory of libsodium in which this process seals and opens. All keys share it, because their calls are
 * synchronous.
 */
export class SodiumMemory {
  static #ofProcess: SodiumMemory | undefined;

  readonly #sodium: Sodium;
  /** The position of the first byte. */
  start = 0;
  #capacity = 0;
  #bytes: Buffer;
  readonly #copies: readonly number[];

  private constructor() {
    this.#sodium = sodium();
    this.#bytes = Buffer.from(this.#sodium.HEAPU8.buffer);
    this.reserve(FIRST_CAPACITY);
    this.#copies = this.#findCopies();
  }

  /** @throws {@link TokensConfigurationError} when libsodium could not be loaded */
  static ofProcess(): SodiumMemory {
    return (this.#ofProcess ??= new SodiumMemory());
  }

  /** The whole memory of libsodium. Ask again after each {@link reserve}. */
  get bytes(): Buffer {
    return this.#bytes;
  }

  /** Encrypts a message in place. Its tag of 16 bytes follows it. All arguments but the lengths are positions. */
  encrypt(message: number, length: number, data: number, dataLength: number, nonce: number, key: number): void {
    const { _crypto_aead_xchacha20poly1305_ietf_encrypt: encrypt } = this.#sodium;
    encrypt(message, 0, message, length, 0, data, dataLength, 0, 0, nonce, key);
  }

  /** Decrypts a message in place, whose `length` includes its tag. Returns whether it is authentic. */
  decrypt(message: number, length: number, data: number, dataLength: number, nonce: number, key: number): boolean {
    const { _crypto_aead_xchacha20poly1305_ietf_decrypt: decrypt } = this.#sodium;
    return decrypt(message, 0, 0, message, length, 0, data, dataLength, 0, nonce, key) === 0;
  }

  /** Overwrites bytes with zeros, and the copies of a message that libsodium has left on its stack. */
  wipe(start: number, end: number): void {
    this.#bytes.fill(0, start, end);
    for (const copy of this.#copies) this.#bytes.fill(0, copy, copy + BLOCK_BYTES);
  }

  /** Makes sure that there are so many bytes from {@link start} on. What they held before is not kept. */
  reserve(size: number): void {
    if (size > this.#capacity) {
      const capacity = 2 ** Math.ceil(Math.log2(size));
      const start = this.#sodium._malloc(capacity);
      if (start === 0) throw new RangeError(`libsodium has no memory for a text of ${size} bytes.`);
      if (this.start !== 0) this.#sodium._free(this.start);
      this.start = start;
      this.#capacity = capacity;
    }
    // The memory moves when it grows, also for a call of the host.
    const { buffer } = this.#sodium.HEAPU8;
    if (this.#bytes.buffer !== buffer) this.#bytes = Buffer.from(buffer);
  }

  /**
   * Seals a text and opens it, to see that libsodium does what this module expects of its C functions. ChaCha20 copies
   * the last block of a message to the stack, if it is not whole, and leaves it there. Its position is the same for each
   * `open`, because the stack is empty before.
   */
  #findCopies(): number[] {
    const { start } = this;
    const bytes = this.#bytes;
    const message = start + BLOCK_BYTES;
    const tag = message + PROBE.length;
    bytes.fill(0, start, message); // the key and the nonce
    bytes.write(PROBE, message, 'latin1');
    this.encrypt(message, PROBE.length, start, 0, start, start);
    const isRightTag = bytes.toString('hex', tag, tag + TAG_BYTES) === PROBE_TAG;
    const isAuthentic = this.decrypt(message, PROBE.length + TAG_BYTES, start, 0, start, start);
    if (!isRightTag || !isAuthentic || bytes.toString('latin1', message, tag) !== PROBE) {
      throw new TokensConfigurationError(
        'libsodium-wrappers does not seal as nestjs-idp-tokens expects. Install the version that its package.json names.',
      );
    }
    const copies: number[] = [];
    for (let at = bytes.indexOf(PROBE, 0, 'latin1'); at >= 0; at = bytes.indexOf(PROBE, at + 1, 'latin1')) {
      if (at !== message) copies.push(at);
    }
    bytes.fill(0, message, tag + TAG_BYTES);
    for (const copy of copies) bytes.fill(0, copy, copy + BLOCK_BYTES);
    return copies;
  }
}
