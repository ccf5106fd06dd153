import { createHmac } from 'node:crypto';
import { inspect } from 'node:util';

import { describe, expect, it } from '@jest/globals';

import { Keyring } from './keyring.js';

const secret = Buffer.alloc(32, 1).toString('base64');

/** A copy of the row key, because the next row key overwrites it. */
function rowKey(keyring: Keyring, keyId: string, user: string, idp: string): string {
  return Buffer.from(keyring.rowKey(keyId, user, idp) ?? []).toString('hex');
}

function lengthOf(text: string): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(Buffer.byteLength(text));
  return bytes;
}

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

  it('derives the 32-byte key of a row as HKDF-Expand does: one HMAC of the names and the number 1', () => {
    const prk = Buffer.from('077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5', 'hex');
    const keyring = new Keyring([{ id: 'k', secret: prk.toString('base64') }]);
    for (const user of ['ada', 'zoë', '用户', '🙂', 'u'.repeat(255), '世'.repeat(1500)]) {
      const info = ['k', user, 'github'].flatMap((name) => [lengthOf(name), Buffer.from(name)]);
      const expected = createHmac('sha256', prk).update(Buffer.concat(info)).update(Uint8Array.of(1)).digest('hex');
      expect(rowKey(keyring, 'k', user, 'github')).toBe(expected);
    }
  });

  it('gives rows of different names different keys', () => {
    const keyring = new Keyring([{ id: 'k', secret }]);
    const names = [
      ['ada', 'github'],
      ['adag', 'ithub'],
      ['ad', 'agithub'],
      ['', 'adagithub'],
      ['github', 'ada'],
    ] as const;
    expect(new Set(names.map(([user, idp]) => rowKey(keyring, 'k', user, idp))).size).toBe(names.length);
  });

  it('has no row key for an id that is not in the ring, a legacy one included', () => {
    const keyring = new Keyring([
      { id: 'k', secret },
      { id: 'legacy', legacyFernetSecret: 'x' },
    ]);
    for (const id of ['K', 'legacy', '', '__proto__']) expect(keyring.rowKey(id, 'ada', 'github')).toBeUndefined();
  });

  it('prints its key ids and nothing else', () => {
    const keyring = new Keyring([
      { id: 'new', secret },
      { id: 'old', secret },
      { id: 'legacy', legacyFernetSecret: 'x' },
    ]);
    expect(inspect(keyring, { showHidden: true })).toBe("Keyring { keyIds: [ 'new', 'old' ] }");
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
