import { inspect } from 'node:util';

import { describe, expect, it } from '@jest/globals';

import { TokenDecryptionError } from '../tokens.errors.js';
import type { EncryptionKeyOptions } from './encryption.options.js';
import { Keyring } from './keyring.js';
import type { TokenLocation } from './sealed-token.js';
import { loadSodium } from './sodium.js';
import { TokenCipher } from './token-cipher.js';

const SECRET = 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=';
const PLAINTEXT = 'ghu_16C7e42F292c6912E7710c838347Ae178B4a';
/** The same plaintext under both algorithms, sealed by programs that share no code with this one. The fields of the associated data have 4-byte lengths before them. */
const ALGORITHMS = [
  {
    // `@noble/ciphers` 1: xchacha20poly1305 with the bytes 0 to 31 as key and the nonce a0 a1 … b7.
    name: 'xchacha20-poly1305',
    key: { id: '2026-11', secret: SECRET },
    sealed:
      'v1.2026-11.oKGio6SlpqeoqaqrrK2ur7CxsrO0tba3IoR_QoZr55sEWx_PQwmRow2Trh7vMf3oLSOz1N-QygGQ4psYfgRIrWlQICEMWdv0zTF8wDmExdw',
    nonceBytes: 24,
  },
  {
    // Python's `cryptography` 48: HKDF(SHA256, 32, salt=None, info) of the bytes 0 to 31 with the SHA-256 of the fields as info, AESGCM with the nonce a0 a1 … ab.
    name: 'aes-256-gcm',
    key: { id: '2026-11', secret: SECRET, algorithm: 'aes-256-gcm' },
    sealed: 'v1.2026-11.oKGio6SlpqeoqaqrDj-dTwwBs9OvbxtrLKqxlvjtwsQBqergpbJLSYieyYBOEspZD0sLQKtQTlKOtWTwNLgfTZN03dE',
    nonceBytes: 12,
  },
] as const;
/**
 * Made with Python's `cryptography` 48: Fernet(urlsafe_b64encode(sha256(secret))).encrypt_at_time(text, 1700000000).
 */
const FERNET = {
  secret: 'jwt-secret-of-the-old-system',
  text: 'gAAAAABlU_EAfQOTKlA4Cd1o0ka-G9I1Zb0YtgWMpyp1tqmIuCmTNvNVs1ncxbBz2p0pfpnqhzZp-nIkf05XI3UMlf9Pl4ICvQmJjcm3mOyrtNcc25SuLvg=',
  plaintext: 'ghr_alte-Erneuerung-ü',
};
const OTHER_KEY = { id: '2025-03', secret: Buffer.alloc(32, 7).toString('base64') };
const LEGACY_KEY = { id: 'legacy', legacyFernetSecret: FERNET.secret };
const HERE: TokenLocation = {
  table: 'auth_tokens',
  column: 'access_token',
  keycloakUserId: '7f3e',
  idp: 'github',
};

function cipherWith(...keys: EncryptionKeyOptions[]): TokenCipher {
  return new TokenCipher(new Keyring(keys));
}

await loadSodium();

/** All texts of a value that a log line can contain. */
function printed(value: unknown): string {
  const fields = value instanceof Error ? [value.message, value.stack] : [];
  return [...fields, String(value), JSON.stringify(value), inspect(value, { depth: 9, showHidden: true })].join('\n');
}

describe.each(ALGORITHMS)('With $name', ({ key: KEY, sealed: SEALED, nonceBytes }) => {
  const VECTOR = { sealed: SEALED, plaintext: PLAINTEXT };

  it('opens what was sealed before there were accounts in the place of the default account, and nowhere else', () => {
    const cipher = cipherWith(KEY);
    expect(cipher.open(SEALED, { ...HERE, account: '' })).toBe(PLAINTEXT);
    expect(() => cipher.open(SEALED, { ...HERE, account: 'work' })).toThrow(/"github", account "work", does not open/);
    const ofWork = cipher.seal(PLAINTEXT, { ...HERE, account: 'work' });
    expect(cipher.open(ofWork, { ...HERE, account: 'work' })).toBe(PLAINTEXT);
    for (const account of [undefined, '', 'wor', 'home']) {
      expect(() => cipher.open(ofWork, { ...HERE, account })).toThrow(/does not open/);
    }
  });
  const cipher = cipherWith(KEY);

  /** The error of a text that does not open. The test fails if the text opens. */
  function refusal(text: string, { with: opener = cipher, at = HERE } = {}): TokenDecryptionError {
    let opened: string;
    try {
      opened = opener.open(text, at);
    } catch (error) {
      expect(error).toBeInstanceOf(TokenDecryptionError);
      return error as TokenDecryptionError;
    }
    throw new Error(`opened as ${JSON.stringify(opened)}`);
  }

  /** The base64url part of a sealed text, as bytes. */
  function bytesOf(sealed: string): Buffer {
    return Buffer.from(sealed.split('.')[2] ?? '', 'base64url');
  }

  function withBytes(bytes: Buffer): string {
    return `v1.${KEY.id}.${bytes.toString('base64url')}`;
  }

  describe('TokenCipher.seal', () => {
    it.each([
      ['one character', 'x'],
      ['nothing', ''],
      ['a space', ' '],
      ['characters of one to four bytes', 'aü€😀\u0000\n"\\'],
      ['64 KiB', 'ghu_'.repeat(16 * 1024)],
      ['64 KiB of four-byte characters', '😀'.repeat(16 * 1024)],
      ['a text that looks sealed', VECTOR.sealed],
    ])('makes a text that opens to what was sealed: %s', (_, plaintext) => {
      const sealed = cipher.seal(plaintext, HERE);
      expect(sealed).toMatch(/^v1\.2026-11\.[A-Za-z0-9_-]+$/);
      expect(cipher.open(sealed, HERE)).toBe(plaintext);
    });

    it('adds a nonce and a tag of 16 bytes and hides the plaintext', () => {
      const bytes = bytesOf(cipher.seal(VECTOR.plaintext, HERE));
      expect(bytes).toHaveLength(nonceBytes + VECTOR.plaintext.length + 16);
      expect(bytes.includes(VECTOR.plaintext)).toBe(false);
    });

    it('seals for the longest names that a row can have', () => {
      const longest = { ...HERE, keycloakUserId: '漢'.repeat(255), idp: '漢'.repeat(255) };
      expect(cipher.open(cipher.seal(VECTOR.plaintext, longest), longest)).toBe(VECTOR.plaintext);
    });

    it('never uses a nonce twice', () => {
      const nonces = Array.from({ length: 5000 }, () =>
        bytesOf(cipher.seal(VECTOR.plaintext, HERE)).subarray(0, nonceBytes).toString('hex'),
      );
      expect(new Set(nonces).size).toBe(nonces.length);
    });

    it('seals with the first key of the ring that can', () => {
      expect(cipherWith(OTHER_KEY, KEY).seal('x', HERE)).toMatch(/^v1\.2025-03\./);
      expect(cipherWith(KEY, OTHER_KEY, LEGACY_KEY).seal('x', HERE)).toMatch(/^v1\.2026-11\./);
    });
  });

  describe('TokenCipher.open', () => {
    it('opens a text that another implementation of the format sealed', () => {
      expect(cipher.open(VECTOR.sealed, HERE)).toBe(VECTOR.plaintext);
    });

    it('opens with any key of the ring, by the key id in the text', () => {
      expect(cipherWith(OTHER_KEY, LEGACY_KEY, KEY).open(VECTOR.sealed, HERE)).toBe(VECTOR.plaintext);
    });

    it('refuses a text with any single bit of any byte changed', () => {
      const bytes = bytesOf(VECTOR.sealed);
      for (let position = 0; position < bytes.length; position++) {
        for (const bit of [1, 2, 4, 8, 16, 32, 64, 128]) {
          const altered = Buffer.from(bytes);
          altered.writeUInt8(altered.readUInt8(position) ^ bit, position);
          refusal(withBytes(altered));
        }
      }
    });

    it('refuses a text with any single character replaced', () => {
      for (let position = 0; position < VECTOR.sealed.length; position++) {
        for (const character of ['A', '_', '.', '~', ' ', 'ü', '\u0142', '\u012b', '\u4e41']) {
          if (VECTOR.sealed[position] === character) continue;
          refusal(VECTOR.sealed.slice(0, position) + character + VECTOR.sealed.slice(position + 1));
        }
      }
    });

    it('refuses a text cut at any length, from either end, and one that was lengthened', () => {
      for (let length = 0; length < VECTOR.sealed.length; length++) {
        refusal(VECTOR.sealed.slice(0, length));
        refusal(VECTOR.sealed.slice(-length - 1, -1));
      }
      const bytes = bytesOf(VECTOR.sealed);
      for (let length = 0; length < bytes.length; length++) refusal(withBytes(bytes.subarray(0, length)));
      refusal(withBytes(Buffer.concat([bytes, Buffer.of(0)])));
      refusal(`${VECTOR.sealed}.`);
      refusal(`${VECTOR.sealed}.${VECTOR.sealed}`);
    });

    it.each<[string, Partial<TokenLocation>]>([
      ['another user', { keycloakUserId: '7f3f' }],
      ['another provider', { idp: 'gitlab' }],
      ['another table', { table: 'offline_tokens' }],
      ['another column', { column: 'refresh_token' }],
      ['a user whose id differs in case', { keycloakUserId: '7F3E' }],
      ['no provider', { idp: '' }],
    ])('refuses a text that was moved to %s', (_, elsewhere) => {
      const at = { ...HERE, ...elsewhere };
      expect(refusal(VECTOR.sealed, { at }).message).toContain(
        `${at.table}.${at.column} of user "${at.keycloakUserId}"`,
      );
    });

    it.each<[string, Partial<TokenLocation>, Partial<TokenLocation>]>([
      ['user and provider', { keycloakUserId: 'ab', idp: 'c' }, { keycloakUserId: 'a', idp: 'bc' }],
      ['user and no provider', { keycloakUserId: 'ab', idp: '' }, { keycloakUserId: '', idp: 'ab' }],
      ['table and column', { table: 'ab', column: 'c' }, { table: 'a', column: 'bc' }],
      ['column and user', { column: 'ab', keycloakUserId: 'c' }, { column: 'a', keycloakUserId: 'bc' }],
      ['user with a separator', { keycloakUserId: 'a\0\0\0\u0001b', idp: 'c' }, { keycloakUserId: 'a', idp: 'b\0c' }],
    ])('does not confuse places whose names joined are the same: %s', (_, sealedAt, openedAt) => {
      const sealed = cipher.seal('secret', { ...HERE, ...sealedAt });
      expect(cipher.open(sealed, { ...HERE, ...sealedAt })).toBe('secret');
      refusal(sealed, { at: { ...HERE, ...openedAt } });
    });

    it('does not confuse a key id and a user whose joined names are the same', () => {
      const sealed = cipherWith({ ...KEY, id: 'k1' }).seal('secret', { ...HERE, keycloakUserId: '2' });
      const opener = cipherWith({ ...KEY, id: 'k' });
      refusal(sealed.replace('v1.k1.', 'v1.k.'), { with: opener, at: { ...HERE, keycloakUserId: '12' } });
    });

    it('names the missing key and the keys there are when the ring lacks the key of the text', () => {
      const error = refusal(VECTOR.sealed, { with: cipherWith(OTHER_KEY, { ...KEY, id: 'spare' }) });
      expect(error).toMatchObject({ keyId: '2026-11', code: 'ERR_TOKENS_DECRYPTION', retryable: false });
      expect(error.message).toContain('"2026-11", which is not in encryption.keys (2025-03, spare)');
    });

    it('does not try the other keys of the ring, nor a key of the same secret under another id', () => {
      expect(refusal(VECTOR.sealed, { with: cipherWith({ ...KEY, id: '2026-12' }) }).keyId).toBe('2026-11');
      refusal(VECTOR.sealed.replace('2026-11', '2026-12'), { with: cipherWith(KEY, { ...KEY, id: '2026-12' }) });
    });

    it('says that the secret may be another when a key of the right id does not open', () => {
      const error = refusal(VECTOR.sealed, { with: cipherWith({ ...OTHER_KEY, id: '2026-11' }) });
      expect(error.keyId).toBe('2026-11');
      expect(error.message).toContain('the key has another secret');
    });

    it('takes the names of object members for unknown key ids', () => {
      for (const id of ['__proto__', 'constructor', 'toString']) {
        expect(refusal(VECTOR.sealed.replace('2026-11', id)).keyId).toBe(id);
      }
    });

    it.each([
      ['of GitHub', 'ghu_16C7e42F292c6912E7710c838347Ae178B4a'],
      ['of GitLab', 'glpat-0123456789abcdefghij'],
      ['with two dots', 'a.b.c'],
      ['of the shape of a JWT', 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl'],
      ['that begins like a sealed text', 'v1.x.y'],
      ['that begins like a sealed text of a known key', 'v1.2026-11.plaintext'],
      ['that ends like a sealed text', '.2026-11.plaintext'],
      ['of an old GitHub installation', 'v1.1f699f1069f60xxx'],
      ['of many dots', 'v1.2026-11.a.b.c'],
      ['of one dot', '.'],
      ['of dots', '..'],
      ['without a body', 'v1.2026-11.'],
      ['without a key id', 'v1..oKGio6SlpqeoqaqrKbdNQs4ZKBv1jkNqfIlEwfze7j'],
      ['that is empty', ''],
    ])('never takes a plaintext for its own decryption: one %s', (_, plaintext) => {
      refusal(plaintext);
      refusal(plaintext, { with: cipherWith(KEY, LEGACY_KEY) });
    });

    it('refuses base64url that is not the one spelling of its bytes', () => {
      const bytes = bytesOf(cipher.seal('12345678901', HERE)); // a whole number of groups has no spare bits
      const sealed = cipher.seal('1234567890', HERE); // one byte less leaves two spare bits
      const last = sealed.at(-1) ?? '';
      const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
      const neighbour = alphabet[alphabet.indexOf(last) + 1] ?? '';
      expect(bytesOf(sealed.slice(0, -1) + neighbour)).toEqual(bytesOf(sealed)); // the same bytes
      refusal(sealed.slice(0, -1) + neighbour);

      for (const spelling of [bytes.toString('base64url') + '=', bytes.toString('base64url') + '\n']) {
        refusal(`v1.${KEY.id}.${spelling}`);
      }
      const withSymbols = Buffer.concat([Buffer.alloc(3, 255), bytesOf(VECTOR.sealed).subarray(3)]);
      refusal(`v1.${KEY.id}.${withSymbols.toString('base64')}`);
      refusal(VECTOR.sealed.replaceAll('_', '/').replaceAll('-', '+').replace('2026+11', KEY.id));
      refusal(`${VECTOR.sealed.slice(0, 40)} ${VECTOR.sealed.slice(40)}`);
    });

    it('opens a Fernet text of the legacy key, wherever it stands', () => {
      const legacy = cipherWith(KEY, LEGACY_KEY);
      expect(legacy.open(FERNET.text, HERE)).toBe(FERNET.plaintext);
      expect(legacy.open(FERNET.text, { ...HERE, keycloakUserId: 'another' })).toBe(FERNET.plaintext);
    });

    it('opens a Fernet text only while a legacy key is in the ring', () => {
      expect(refusal(FERNET.text).message).toContain('is not a sealed text');
    });

    it('refuses a Fernet text of another legacy secret', () => {
      const opener = cipherWith(KEY, { ...LEGACY_KEY, legacyFernetSecret: 'another secret' });
      expect(refusal(FERNET.text, { with: opener }).message).toContain('nor a Fernet text of the legacy key');
    });

    it('refuses a Fernet text with any single character replaced, and one cut at any length', () => {
      const opener = cipherWith(KEY, LEGACY_KEY);
      const text = FERNET.text.replace(/=+$/, '');
      for (let position = 0; position < text.length - 1; position++) {
        const other = text[position] === 'A' ? 'B' : 'A';
        refusal(text.slice(0, position) + other + text.slice(position + 1), { with: opener });
        refusal(text.slice(0, position), { with: opener });
      }
    });
  });

  describe('What logs can show of the encryption', () => {
    const secrets = [KEY, OTHER_KEY].flatMap(({ secret }) => {
      const bytes = Buffer.from(secret, 'base64');
      return [secret, bytes.toString('hex'), bytes.toString('base64url'), bytes.toString('latin1')];
    });
    const keyring = new Keyring([KEY, OTHER_KEY, LEGACY_KEY]);

    it.each([
      ['the keyring', keyring],
      ['the cipher', new TokenCipher(keyring)],
      ['an object that holds them', { cipher: new TokenCipher(keyring), keys: [keyring] }],
    ])('holds no secret: %s', (_, value) => {
      const text = printed(value);
      for (const secret of [...secrets, FERNET.secret]) expect(text).not.toContain(secret);
      expect(text).not.toMatch(/<Buffer|Uint8Array/);
      expect(text).toContain('2026-11');
    });

    it.each<[string, string, Partial<TokenLocation>, EncryptionKeyOptions[]]>([
      ['of a moved text', VECTOR.sealed, { column: 'refresh_token' }, [KEY]],
      ['of a missing key', VECTOR.sealed, {}, [OTHER_KEY]],
      ['of a wrong secret', VECTOR.sealed, {}, [{ ...OTHER_KEY, id: '2026-11' }]],
      ['of a cut text', VECTOR.sealed.slice(0, 60), {}, [KEY]],
      ['of a plaintext', VECTOR.plaintext, {}, [KEY]],
      ['of a plaintext beside a legacy key', VECTOR.plaintext, {}, [KEY, LEGACY_KEY]],
      ['of a Fernet text', FERNET.text, {}, [KEY]],
    ])('holds neither secret, plaintext nor ciphertext: the error %s', (_, text, elsewhere, keys) => {
      const error = refusal(text, { with: cipherWith(...keys), at: { ...HERE, ...elsewhere } });
      const shown = printed(error);
      for (const secret of [...secrets, FERNET.secret, VECTOR.plaintext, FERNET.plaintext, FERNET.text]) {
        expect(shown).not.toContain(secret);
      }
      expect(shown).not.toContain(VECTOR.sealed.slice(15, 40));
      expect(error.cause).toBeUndefined();
    });

    it('does not repeat what stands in the place of a key id and cannot be one', () => {
      for (const notAnId of ['ghu_16C7e42F292c6912E7710c838347Ae178B4a/+', `x${'y'.repeat(64)}`, 'line\nbreak']) {
        const error = refusal(VECTOR.sealed.replace('2026-11', notAnId));
        expect(printed(error)).not.toContain(notAnId);
        expect(error.keyId).toBeUndefined();
      }
    });
  });
});

describe('A ring with two algorithms', () => {
  const [fast, fips] = ALGORITHMS;
  const secret = OTHER_KEY.secret;

  it('opens each text by the algorithm of its key', () => {
    const ring = cipherWith(fast.key, { id: 'fips', secret, algorithm: 'aes-256-gcm' });
    const old = cipherWith({ id: 'fips', secret, algorithm: 'aes-256-gcm' }).seal('old', HERE);
    expect(ring.open(old, HERE)).toBe('old');
    expect(ring.open(fast.sealed, HERE)).toBe(PLAINTEXT);
    expect(ring.seal('new', HERE)).toMatch(/^v1\.2026-11\./);
  });

  it.each([
    ['XChaCha20-Poly1305 by a key for AES-256-GCM', fast.sealed, fips.key],
    ['AES-256-GCM by a key for XChaCha20-Poly1305', fips.sealed, fast.key],
  ])('refuses a text of %s of the same id and secret, and names the algorithm', (_, sealed, key) => {
    let message = '';
    try {
      cipherWith(key).open(sealed, HERE);
    } catch (error) {
      if (!(error instanceof TokenDecryptionError)) throw error;
      message = error.message;
    }
    expect(message).toContain('has another secret or another algorithm');
    expect(message).toContain(`with key "2026-11" (${key === fips.key ? 'aes-256-gcm' : 'xchacha20-poly1305'})`);
  });
});
