import { createCipheriv, createHash, createHmac } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';

import { openFernet } from './fernet.js';

/** generate.json of the Fernet specification. */
const SPEC = {
  key: Buffer.from('cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=', 'base64url'),
  token: 'gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==',
};

/** Makes a text with an authentic signature. Its payload can be wrong on purpose. */
function signed(payload: Buffer, version = 0x80, iv = IV): string {
  const content = Buffer.concat([Buffer.of(version, 0, 0, 0, 0, 0x1d, 0xc0, 0x9e, 0xb0), iv, payload]);
  const mac = createHmac('sha256', SPEC.key.subarray(0, 16)).update(content).digest();
  return Buffer.concat([content, mac]).toString('base64url');
}

/** Encrypts whole blocks and adds no padding. */
function encrypted(blocks: Buffer): Buffer {
  const cipher = createCipheriv('aes-128-cbc', SPEC.key.subarray(16), IV).setAutoPadding(false);
  return Buffer.concat([cipher.update(blocks), cipher.final()]);
}

const IV = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
const HELLO = encrypted(Buffer.from('hello'.padEnd(16, '\x0b'), 'latin1'));

describe('openFernet', () => {
  it('opens the text of the specification, with or without its padding', () => {
    expect(openFernet(SPEC.token, SPEC.key)).toBe('hello');
    expect(openFernet(SPEC.token.replaceAll('=', ''), SPEC.key)).toBe('hello');
  });

  it('opens a text whose key is the digest of a secret, made by the Python implementation', () => {
    // cryptography 48: Fernet(urlsafe_b64encode(sha256(b'jwt-secret-of-the-old-system'))).encrypt_at_time(…, 1700000000)
    const key = createHash('sha256').update('jwt-secret-of-the-old-system').digest();
    const text =
      'gAAAAABlU_EAfQOTKlA4Cd1o0ka-G9I1Zb0YtgWMpyp1tqmIuCmTNvNVs1ncxbBz2p0pfpnqhzZp-nIkf05XI3UMlf9Pl4ICvQmJjcm3mOyrtNcc25SuLvg=';
    expect(openFernet(text, key)).toBe('ghr_alte-Erneuerung-ü');
  });

  it('does not open with another key', () => {
    expect(openFernet(SPEC.token, Buffer.alloc(32, 1))).toBeUndefined();
    const otherSigningHalf = Buffer.concat([Buffer.alloc(16, 1), SPEC.key.subarray(16)]);
    expect(openFernet(SPEC.token, otherSigningHalf)).toBeUndefined();
  });

  it('does not open a text with any single byte changed', () => {
    const bytes = Buffer.from(SPEC.token, 'base64url');
    for (let position = 0; position < bytes.length; position++) {
      const altered = Buffer.from(bytes);
      altered.writeUInt8(altered.readUInt8(position) ^ 1, position);
      expect(openFernet(altered.toString('base64url'), SPEC.key)).toBeUndefined();
    }
  });

  it.each([
    ['of another version', signed(HELLO, 0x81)],
    ['with another initialisation vector, so that the padding is wrong', signed(HELLO, 0x80, Buffer.alloc(16))],
    ['with a padding of zero bytes', signed(encrypted(Buffer.alloc(16, 0)))],
    ['with a padding longer than a block', signed(encrypted(Buffer.alloc(16, 17)))],
    ['without a payload', signed(Buffer.alloc(0))],
    ['with a payload shorter than a block', signed(HELLO.subarray(0, 15))],
    ['with a payload that is no multiple of the block', signed(Buffer.concat([HELLO, Buffer.of(1)]))],
  ])('does not open a text with a valid signature %s', (_, text) => {
    expect(signed(HELLO)).toBe(SPEC.token.replaceAll('=', ''));
    expect(openFernet(text, SPEC.key)).toBeUndefined();
  });

  it('does not open anything that is no Fernet text', () => {
    for (const text of ['', 'gAAAA', 'hello', 'ghu_16C7e42F292c6912E7710c838347Ae178B4a', `${SPEC.token}\n`]) {
      expect(openFernet(text, SPEC.key)).toBeUndefined();
    }
  });
});
