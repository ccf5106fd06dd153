import { randomBytes } from 'node:crypto';

import { beforeAll, describe, expect, it } from '@jest/globals';

import { sealCheckText } from '../sealing/check-text.js';
import type { SealingKeyOptions } from '../sealing/encryption.options.js';
import { Keyring } from '../sealing/keyring.js';
import { loadSodium } from '../sealing/sodium.js';
import type { RegisteredKey } from '../storage/token-keys/token-keys.statements.js';
import { registryFaults as faultsOf } from './registry-faults.js';

function newKey(id: string, algorithm?: SealingKeyOptions['algorithm']): SealingKeyOptions {
  return { id, secret: randomBytes(32).toString('base64'), algorithm };
}

/** Returns the row by which a process with this key has registered it. */
function registered(key: SealingKeyOptions, retiredAt: Date | null = null): RegisteredKey {
  return { id: key.id, checkText: sealCheckText(new Keyring([key]).sealingKey), retiredAt };
}

function registryFaults(keyring: Keyring, rows: readonly RegisteredKey[]): string[] {
  return faultsOf(keyring, rows, '"app"."token_keys"');
}

const retiredAt = new Date('2026-01-02T03:04:05Z');

beforeAll(loadSodium);

describe('registryFaults', () => {
  const first = newKey('first');
  const second = newKey('second');

  it('finds none in a new database, and none for keys that are as they were registered', () => {
    expect(registryFaults(new Keyring([first, second]), [])).toEqual([]);
    expect(registryFaults(new Keyring([first, second]), [registered(first), registered(second)])).toEqual([]);
    expect(registryFaults(new Keyring([second, first]), [registered(first), registered(second)])).toEqual([]);
  });

  it('names a key that is missing, with what to do', () => {
    expect(registryFaults(new Keyring([first]), [registered(first), registered(second)])).toEqual([
      expect.stringMatching(
        /^key "second" .* Add it again, after the first key\. .* UPDATE "app"\."token_keys" SET .* WHERE id = 'second'/,
      ),
    ]);
  });

  it('does without a key that is retired, and lets it open', () => {
    expect(registryFaults(new Keyring([first]), [registered(first), registered(second, retiredAt)])).toEqual([]);
    expect(registryFaults(new Keyring([first, second]), [registered(second, retiredAt)])).toEqual([]);
  });

  it('refuses a retired key in first place', () => {
    expect(registryFaults(new Keyring([second, first]), [registered(first), registered(second, retiredAt)])).toEqual([
      'key "second" is retired since 2026-01-02T03:04:05.000Z, and it is the first of encryption.keys. Put another key ' +
        'first, because the first key seals.',
    ]);
  });

  it.each([
    ['another secret', { ...newKey('second') }],
    ['another algorithm', { ...second, algorithm: 'aes-256-gcm' as const }],
  ])('refuses a key with %s than the registered one, also a retired one', (_, other) => {
    for (const row of [registered(second), registered(second, retiredAt)]) {
      expect(registryFaults(new Keyring([first, other]), [row])).toEqual([
        expect.stringMatching(/^key "second" .* has another secret or another algorithm .* an id of its own\.$/),
      ]);
    }
  });

  it('refuses a check text that another key has sealed, or that is for another id', () => {
    const asSecond = { ...registered(first), id: 'second' };
    const moved = { ...registered({ ...second, id: 'moved' }), id: 'second' };
    for (const row of [asSecond, moved, { ...registered(second), checkText: '' }]) {
      expect(registryFaults(new Keyring([first, second]), [row])).toHaveLength(1);
    }
  });

  it('names every fault, and no secret', () => {
    const other = newKey('second');
    const third = newKey('third');
    const faults = registryFaults(new Keyring([other, first]), [
      registered(second, retiredAt),
      registered(third),
      registered(first),
    ]);
    expect(faults.map((fault) => /^key "(\w+)"/.exec(fault)?.[1])).toEqual(['second', 'second', 'third']);
    for (const { secret } of [first, second, other, third]) expect(faults.join()).not.toContain(secret);
  });
});
