import { hasSealed } from '../sealing/check-text.js';
import type { Keyring } from '../sealing/keyring.js';
import type { RegisteredKey } from '../storage/token-keys/token-keys.statements.js';

/**
 * Returns everything that makes a key ring unfit for the tokens of a database, one sentence for each fault. A sentence
 * names the key id and what to do, and no secret.
 *
 * @param table quoted path of the table of the registered keys
 */
export function registryFaults(keyring: Keyring, registered: readonly RegisteredKey[], table: string): string[] {
  return registered.flatMap(({ id, checkText, retiredAt }) => {
    const key = keyring.find(id);
    if (!key) return retiredAt ? [] : [missing(id, table)];
    const faults = hasSealed(key, checkText) ? [] : [otherSecret(id, key.algorithm)];
    return retiredAt && key === keyring.sealingKey ? [...faults, retiredFirst(id, retiredAt)] : faults;
  });
}

function missing(id: string, table: string): string {
  return (
    `key "${id}" has sealed tokens in this database, and encryption.keys does not have it. Add it again, after the ` +
    'first key. Before you remove a key, run "idp-tokens keys reseal" and "idp-tokens keys retire", or call reseal() and ' +
    'retire() of TokenKeyRotation. If the secret is lost, so are ' +
    `its tokens: UPDATE ${table} SET retired_at = now() WHERE id = '${id}' lets the application boot without it.`
  );
}

function otherSecret(id: string, algorithm: string): string {
  return (
    `key "${id}" of encryption.keys (${algorithm}) has another secret or another algorithm than the key "${id}" that has ` +
    'sealed tokens in this database. Correct its secret or its algorithm, and give a new secret an id of its own.'
  );
}

function retiredFirst(id: string, retiredAt: Date): string {
  return (
    `key "${id}" is retired since ${retiredAt.toISOString()}, and it is the first of encryption.keys. Put another key ` +
    'first, because the first key seals.'
  );
}
