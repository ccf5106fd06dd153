import { beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { TokenCipher, TokenDecryptionError, type TokenLocation } from '../../src/index.js';
import { Keyring } from '../../src/sealing/keyring.js';
import { loadSodium } from '../../src/sealing/sodium.js';
import { FUZZ } from './fuzz.js';

/** As many characters in a row of a secret count as a part of it. */
const PART = 8;
const ALPHABET = Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_');
const SECRETS = [37, 74].map((byte) => Buffer.from(Array.from({ length: 32 }, (_, index) => byte ^ (index * 7))));
const PRINTED_SECRETS = SECRETS.flatMap((secret) => [secret.toString('base64'), secret.toString('hex')]);
const LEGACY_SECRET = 'the-secret-of-the-adopted-system';

const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
  fc.string({ minLength: 20, maxLength: 200 }),
);
const name = fc.oneof(
  { weight: 3, arbitrary: fc.stringMatching(/^[a-z0-9_-]{1,12}$/) },
  fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }),
);
const location: fc.Arbitrary<TokenLocation> = fc.record({
  table: fc.constantFrom('auth_tokens', 'offline_tokens', 'token_revocations'),
  column: fc.constantFrom('access_token', 'refresh_token', 'offline_token'),
  keycloakUserId: name,
  idp: fc.oneof(name, fc.constant('')),
});
/** A position in a text, as a fraction of its length. */
const place = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
/** The ways to alter a text. Each gets another sealed text too, to take pieces from it. */
const alteration: fc.Arbitrary<(text: string, other: string) => string> = fc.oneof(
  fc.tuple(place, place).map(
    ([from, to]) =>
      (text: string) =>
        text.slice(at(text, from), at(text, to)),
  ),
  fc.tuple(place, place).map(
    ([from, to]) =>
      (text: string) =>
        text.slice(0, at(text, from)) + text.slice(at(text, to)),
  ),
  fc.tuple(place, fc.string({ unit: 'binary', maxLength: 3 })).map(
    ([from, piece]) =>
      (text: string) =>
        text.slice(0, at(text, from)) + piece + text.slice(at(text, from) + 1),
  ),
  fc.tuple(place, fc.constantFrom('A', 'B', '_', '-', '=', '.', '+', '/', ' ', '\n', '\0', '\u0142')).map(
    ([from, piece]) =>
      (text: string) =>
        text.slice(0, at(text, from)) + piece + text.slice(at(text, from)),
  ),
  fc.tuple(place, fc.nat({ max: 7 })).map(
    ([from, bit]) =>
      (text: string) =>
        withBitFlipped(text, from, bit),
  ),
  fc.tuple(place, place).map(([to, from]) => (text: string, other: string) => {
    return text.slice(0, at(text, to)) + other.slice(at(other, from));
  }),
  fc.tuple(place, place, place).map(([first, second, third]) => (text: string, other: string) => {
    const [from, to] = [at(other, Math.min(first, second)), at(other, Math.max(first, second))];
    return text.slice(0, at(text, third)) + other.slice(from, to) + text.slice(at(text, third));
  }),
  // A character with the same low byte, which Node.js decodes alike, and a last character with other unused bits.
  place.map((from) => (text: string) => {
    const twin = String.fromCharCode(text.charCodeAt(at(text, from)) + 0x100);
    return text.slice(0, at(text, from)) + twin + text.slice(at(text, from) + 1);
  }),
  fc.constantFrom(...ALPHABET).map((last) => (text: string) => text.slice(0, -1) + last),
  fc.constantFrom(
    (text: string) => text.toUpperCase(),
    (text: string) => `${text}=`,
    (text: string) => text + text,
    (text: string) => text.replace('.first.', '.second.'),
    (text: string) => text.replace('v1.', 'v2.'),
    (text: string) => Array.from(text).reverse().join(''),
    (_: string, other: string) => other,
  ),
);

function at(text: string, fraction: number): number {
  return Math.floor(fraction * text.length);
}

/** Flips a bit of the bytes after the key id. */
function withBitFlipped(text: string, fraction: number, bit: number): string {
  const [format = '', keyId = '', body = ''] = text.split('.');
  const bytes = Buffer.from(body, 'base64url');
  const position = Math.min(bytes.length - 1, Math.floor(fraction * bytes.length));
  bytes.writeUInt8(bytes.readUInt8(position) ^ (1 << bit), position);
  return `${format}.${keyId}.${bytes.toString('base64url')}`;
}

function isSame(one: TokenLocation, other: TokenLocation): boolean {
  return (['table', 'column', 'keycloakUserId', 'idp'] as const).every((field) => one[field] === other[field]);
}

/** Returns whether a text has a part of a secret. A short secret has none, because it is in many texts by chance. */
function hasPartOf(text: string, secret: string): boolean {
  for (let start = 0; start + PART <= secret.length; start++) {
    if (text.includes(secret.slice(start, start + PART))) return true;
  }
  return false;
}

describe.each(['xchacha20-poly1305', 'aes-256-gcm'] as const)('With %s, a text', (algorithm) => {
  let cipher: TokenCipher;
  let withoutLegacyKey: TokenCipher;

  beforeAll(async () => {
    await loadSodium();
    const [first, second] = SECRETS.map((secret) => secret.toString('base64'));
    const keys = [
      { id: 'first', secret: first ?? '', algorithm },
      { id: 'second', secret: second ?? '', algorithm },
    ];
    cipher = new TokenCipher(new Keyring([...keys, { id: 'legacy', legacyFernetSecret: LEGACY_SECRET }]));
    withoutLegacyKey = new TokenCipher(new Keyring(keys));
  });

  /** Expects that a text does not open, and that its error repeats nothing of it, its plaintext and the keys. */
  function expectRefusal(text: string, where: TokenLocation, plaintext = '', opener = cipher): void {
    let opened: string;
    try {
      opened = opener.open(text, where);
    } catch (error) {
      expect(error).toBeInstanceOf(TokenDecryptionError);
      const { message, keyId = '', cause, code } = error as TokenDecryptionError;
      expect({ code, cause }).toEqual({ code: 'ERR_TOKENS_DECRYPTION', cause: undefined });
      // The error names the user and the provider, and the key id where the text has one.
      const rest = message
        .replace(`user "${where.keycloakUserId}"`, '')
        .replace(`identity provider "${where.idp}"`, '')
        .replace(`key "${keyId}"`, '');
      for (const secret of [...PRINTED_SECRETS, LEGACY_SECRET, plaintext, text]) {
        if (hasPartOf(rest, secret))
          throw new Error(`${JSON.stringify(message)} has a part of ${JSON.stringify(secret)}`);
      }
      expect([...PRINTED_SECRETS, plaintext].filter((secret) => hasPartOf(keyId, secret))).toEqual([]);
      return;
    }
    throw new Error(`${JSON.stringify(text)} opened as ${JSON.stringify(opened)}`);
  }

  it('that was sealed opens to its plaintext in its place', () => {
    fc.assert(
      fc.property(anyText, location, (plaintext, where) => {
        const sealed = cipher.seal(plaintext, where);
        expect(sealed).toMatch(/^v1\.first\.[A-Za-z0-9_-]+$/);
        expect(cipher.open(sealed, where)).toBe(plaintext);
      }),
      FUZZ,
    );
  });

  it('that was sealed opens in no other place', () => {
    fc.assert(
      fc.property(
        anyText,
        location,
        location,
        fc.constantFrom('all', 'shifted', 'one'),
        (plaintext, here, other, how) => {
          const { keycloakUserId, idp } = here;
          const shifted = { keycloakUserId: keycloakUserId.slice(0, -1), idp: keycloakUserId.slice(-1) + idp };
          const there = { all: other, shifted: { ...here, ...shifted }, one: { ...here, idp: other.idp } }[how];
          fc.pre(!isSame(here, there));
          expectRefusal(cipher.seal(plaintext, here), there, plaintext);
        },
      ),
      FUZZ,
    );
  });

  it('that was cut, flipped or spliced does not open', () => {
    fc.assert(
      fc.property(anyText, anyText, location, alteration, (plaintext, otherPlaintext, here, alter) => {
        const sealed = cipher.seal(plaintext, here);
        const other = cipher.seal(otherPlaintext, { ...here, keycloakUserId: `${here.keycloakUserId}-2` });
        const altered = alter(sealed, other);
        fc.pre(altered !== sealed);
        expectRefusal(altered, here, plaintext);
      }),
      FUZZ,
    );
  });

  it('that was never sealed does not open', () => {
    const body = fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes).toString('base64url'));
    const forged = fc.tuple(
      fc.constantFrom('v1', 'v2', 'V1', ''),
      fc.constantFrom('first', 'second', 'legacy', 'third', ''),
      body,
    );
    const fernet = body.map((text) => `gAAAA${text}`);
    fc.assert(
      fc.property(
        fc.oneof(
          anyText,
          forged.map((parts) => parts.join('.')),
          fernet,
          body,
        ),
        location,
        (text, where) => {
          expectRefusal(text, where);
          expectRefusal(text, where, '', withoutLegacyKey);
        },
      ),
      FUZZ,
    );
  });
});
