import { TokensConfigurationError } from '../tokens.errors.js';

/**
 * The C functions of libsodium that the module calls. Pointers are positions in `HEAPU8`, and a length of 64 bits is two
 * numbers.
 */
export interface Sodium {
  readonly HEAPU8: Uint8Array;
  readonly _malloc: (size: number) => number;
  readonly _free: (pointer: number) => void;
  readonly _crypto_aead_xchacha20poly1305_ietf_encrypt: (
    ciphertext: number,
    ciphertextLength: number,
    message: number,
    messageLength: number,
    messageLengthHigh: number,
    data: number,
    dataLength: number,
    dataLengthHigh: number,
    secretNonce: number,
    nonce: number,
    key: number,
  ) => number;
  readonly _crypto_aead_xchacha20poly1305_ietf_decrypt: (
    message: number,
    messageLength: number,
    secretNonce: number,
    ciphertext: number,
    ciphertextLength: number,
    ciphertextLengthHigh: number,
    data: number,
    dataLength: number,
    dataLengthHigh: number,
    nonce: number,
    key: number,
  ) => number;
}

let loaded: Sodium | undefined;
let failure = 'it is not loaded. Let the application boot first';

/**
 * Loads libsodium, once in a process. Never rejects, because a ring whose keys all have another algorithm needs no
 * libsodium: {@link sodium} says what failed.
 */
export async function loadSodium(): Promise<void> {
  if (loaded) return;
  if (!('WebAssembly' in globalThis)) {
    failure = 'this runtime has no WebAssembly. Start Node.js without --jitless and --no-expose-wasm';
    return;
  }
  try {
    // libsodium starts as soon as it is imported, and a process without WebAssembly would end.
    const { default: libsodium } = await import('libsodium-wrappers');
    await libsodium.ready;
    const raw: unknown = Reflect.get(libsodium, 'libsodium');
    if (isSodium(raw)) loaded = raw;
    else failure = 'libsodium-wrappers has no XChaCha20-Poly1305. Install the version that nestjs-idp-tokens asks for';
  } catch (error) {
    failure = `libsodium did not start (${String(error)}). Check the memory of the process`;
  }
}

/**
 * Returns libsodium, which {@link loadSodium} has loaded before.
 *
 * @throws {@link TokensConfigurationError} when it could not be loaded
 */
export function sodium(): Sodium {
  if (loaded) return loaded;
  throw new TokensConfigurationError(
    `XChaCha20-Poly1305 needs libsodium, but ${failure}, or give every key algorithm: 'aes-256-gcm'.`,
  );
}

function isSodium(raw: unknown): raw is Sodium {
  const functions = [
    '_malloc',
    '_free',
    '_crypto_aead_xchacha20poly1305_ietf_encrypt',
    '_crypto_aead_xchacha20poly1305_ietf_decrypt',
  ];
  return (
    typeof raw === 'object' &&
    raw !== null &&
    ArrayBuffer.isView(Reflect.get(raw, 'HEAPU8')) &&
    functions.every((name) => typeof Reflect.get(raw, name) === 'function')
  );
}
