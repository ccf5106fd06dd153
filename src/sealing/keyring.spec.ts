import { inspect } from 'node:util';

import { describe, expect, it } from '@jest/globals';

import { Keyring } from './keyring.js';
import { loadSodium } from './sodium.js';

const secret = Buffer.alloc(32, 1).toString('base64');

await loadSodium();

describe('Keyring', () => {
  it('seals with its first sealing key and opens with every one', () => {
    const keyring = new Keyring([
      { id: 'new', secret },
      { id: 'legacy', legacyFernetSecret: 'x' },
      { id: 'old', secret },
    ]);
    expect(keyring.sealingKey.id).toBe('new');
    expect(keyring.keyIds).toEqual(['new', 'old']);
  });

  it('has a key by its id only, and no legacy one', () => {
    const keyring = new Keyring([
      { id: 'k', secret },
      { id: 'legacy', legacyFernetSecret: 'x' },
    ]);
    expect(keyring.find('k')).toBe(keyring.sealingKey);
    for (const id of ['K', 'legacy', '', '__proto__']) expect(keyring.find(id)).toBeUndefined();
  });

  it('seals with the algorithm of each key', () => {
    const keyring = new Keyring([
      { id: 'fast', secret },
      { id: 'same', secret, algorithm: 'xchacha20-poly1305' },
      { id: 'fips', secret, algorithm: 'aes-256-gcm' },
    ]);
    const algorithms = keyring.keyIds.map((id) => keyring.find(id)?.algorithm);
    expect(algorithms).toEqual(['xchacha20-poly1305', 'xchacha20-poly1305', 'aes-256-gcm']);
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
