import { inspect } from 'node:util';

import { describe, expect, it } from '@jest/globals';

import { Keyring } from './keyring.js';

const secret = Buffer.alloc(32, 1).toString('base64');

describe('Keyring', () => {
  it('seals with its first sealing key and opens with every one', () => {
    const keyring = new Keyring([
      { id: 'new', secret },
      { id: 'legacy', legacyFernetSecret: 'x' },
      { id: 'old', secret },
    ]);
    expect(keyring.sealingKeyId).toBe('new');
    expect(keyring.keyIds).toEqual(['new', 'old']);
  });

  it('derives the 32-byte key of a row as HKDF-Expand does', () => {
    // RFC 5869, test case 1: PRK and info as given there, the first 32 bytes of OKM.
    const prk = Buffer.from('077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5', 'hex');
    const keyring = new Keyring([{ id: 'k', secret: prk.toString('base64') }]);
    expect(keyring.rowKey('k', Buffer.from('f0f1f2f3f4f5f6f7f8f9', 'hex'))?.toString('hex')).toBe(
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf',
    );
  });

  it('gives rows of different names different keys', () => {
    const keyring = new Keyring([{ id: 'k', secret }]);
    const keys = ['a', 'b', 'ab', ''].map((info) => keyring.rowKey('k', Buffer.from(info))?.toString('hex'));
    expect(new Set(keys).size).toBe(4);
  });

  it('has no row key for an id that is not in the ring, a legacy one included', () => {
    const keyring = new Keyring([
      { id: 'k', secret },
      { id: 'legacy', legacyFernetSecret: 'x' },
    ]);
    for (const id of ['K', 'legacy', '', '__proto__']) expect(keyring.rowKey(id, Buffer.alloc(0))).toBeUndefined();
  });

  it('prints its key ids and nothing else', () => {
    const keyring = new Keyring([
      { id: 'new', secret },
      { id: 'old', secret },
      { id: 'legacy', legacyFernetSecret: 'x' },
    ]);
    expect(inspect(keyring, { showHidden: true })).toBe('Keyring { keyIds: [new, old] }');
    expect(JSON.stringify(keyring)).toBe('{"keyIds":["new","old"]}');
  });

  it('has the SHA-256 digest of the legacy secret as Fernet key, and none without one', () => {
    const keyring = new Keyring([
      { id: 'k', secret },
      { id: 'legacy', legacyFernetSecret: 'abc' },
    ]);
    expect(keyring.fernetKey?.toString('hex')).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', // FIPS 180-2, appendix B.1
    );
    expect(new Keyring([{ id: 'k', secret }]).fernetKey).toBeUndefined();
  });
});
