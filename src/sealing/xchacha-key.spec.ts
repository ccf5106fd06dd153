import { randomBytes } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';

import type { TokenLocation } from './sealed-token.js';
import { SodiumMemory } from './sodium-memory.js';
import { loadSodium, sodium } from './sodium.js';
import { XChaChaKey } from './xchacha-key.js';

await loadSodium();

const SECRET = Buffer.from(Array.from({ length: 32 }, (_, index) => 0x51 ^ (index * 7)));
const HERE: TokenLocation = { table: 'auth_tokens', column: 'access_token', keycloakUserId: '7f3e', idp: 'github' };
const key = new XChaChaKey('2026-11', SECRET);

function everything(): Buffer {
  return Buffer.from(sodium().HEAPU8.buffer);
}

describe('libsodium', () => {
  it('seals as its own test vector says', () => {
    // test/default/aead_xchacha20poly1305.c of libsodium, draft-irtf-cfrg-xchacha-03 appendix A.3.1
    const memory = SodiumMemory.ofProcess();
    memory.reserve(1024);
    const { bytes, start } = memory;
    const message =
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    const [data, nonce, body] = [start + 32, start + 64, start + 128];
    bytes.set(
      Array.from({ length: 32 }, (_, index) => 0x80 + index),
      start,
    );
    bytes.write('50515253c0c1c2c3c4c5c6c7', data, 'hex');
    bytes.write('404142434445464748494a4b4c4d4e4f5051525354555657', nonce, 'hex');
    bytes.write(message, body, 'utf8');
    const { length } = message;
    memory.encrypt(body, length, data, 12, nonce, start);
    expect(bytes.toString('hex', body, body + length + 16)).toBe(
      'bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216' +
        'cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b1' +
        '3b52ec0875924c1c7987947deafd8780acf49',
    );
  });
});

describe('XChaChaKey', () => {
  it('leaves neither the plaintext nor the key in the memory of libsodium', () => {
    for (const size of [6, 40, 63, 64, 65, 100, 1000]) {
      const plaintext = randomBytes(size).toString('base64url').slice(0, size);
      const traces = () =>
        Array.from({ length: size - 5 }, (_, at) => everything().includes(plaintext.slice(at, at + 6)));
      const body = key.seal(plaintext, HERE);
      expect(traces()).not.toContain(true);
      expect(key.open(body, HERE)).toBe(plaintext);
      expect(traces()).not.toContain(true);
      expect(key.open(body, { ...HERE, idp: 'gitlab' })).toBeUndefined();
      expect(traces()).not.toContain(true);
    }
    expect(everything().includes(SECRET)).toBe(false);
  });

  it('seals and opens texts of any length, one after the other', () => {
    for (const size of [0, 1, 4000, 70_000, 5, 2_000_000, 40]) {
      const plaintext = 'ü'.repeat(size);
      expect(key.open(key.seal(plaintext, HERE), HERE)).toBe(plaintext);
    }
  });

  it('goes on when the memory of libsodium has grown for another user of it', () => {
    const body = key.seal('secret', HERE);
    const before = sodium().HEAPU8.buffer;
    const pointers: number[] = [];
    while (sodium().HEAPU8.buffer === before) pointers.push(sodium()._malloc(8 * 1024 * 1024));
    expect(key.open(body, HERE)).toBe('secret');
    expect(key.open(key.seal('again', HERE), HERE)).toBe('again');
    for (const pointer of pointers) sodium()._free(pointer);
  });

  it('does not open what another secret sealed under the same id', () => {
    const other = new XChaChaKey('2026-11', Buffer.alloc(32, 1));
    expect(key.open(other.seal('secret', HERE), HERE)).toBeUndefined();
  });
});
