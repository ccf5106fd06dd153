import { getFips } from 'node:crypto';

import { faultsOf, instantiate } from '../options-validation.js';
import { EncryptionSettings, LegacyFernetKeySettings, SealingKeySettings } from './encryption.options.js';

/**
 * Returns everything that is wrong with the keys of the encryption, one sentence for each fault. A sentence never
 * contains a part of a secret.
 */
export function encryptionFaults(plain: unknown, path: string, isFips = getFips() === 1): string[] {
  const options = instantiate(EncryptionSettings, plain);
  const faults = faultsOf(options, path);
  if (!Array.isArray(options.keys)) return faults;

  const keys = options.keys.map((key: unknown) =>
    isLegacy(key) ? instantiate(LegacyFernetKeySettings, key) : instantiate(SealingKeySettings, key),
  );
  keys.forEach((key, position) => {
    faults.push(...faultsOf(key, `${path}.keys[${position}]`));
    if (isFips && key instanceof SealingKeySettings && key.algorithm === undefined) {
      faults.push(`${path}.keys[${position}] needs algorithm: 'aes-256-gcm', because Node.js runs in FIPS mode`);
    }
    if (keys.findIndex(({ id }) => id === key.id) < position) {
      faults.push(`${path}.keys[${position}].id is used twice: give each key an id of its own`);
    }
  });
  if (keys[0] instanceof LegacyFernetKeySettings) {
    faults.push(
      `${path}.keys[0] cannot be a legacyFernetSecret, because the first key seals: put a key with a secret first`,
    );
  }
  if (keys.filter((key) => key instanceof LegacyFernetKeySettings).length > 1) {
    faults.push(`${path}.keys can hold one legacyFernetSecret only, because Fernet texts do not name their key`);
  }
  return faults;
}

function isLegacy(key: unknown): boolean {
  return typeof key === 'object' && key !== null && 'legacyFernetSecret' in key;
}
