import { createLocalJWKSet, type JWK } from 'jose';

import { parseFields } from '../oauth-http/answer-fields.js';

/**
 * The algorithms of bearer tokens: only those with a public key. If one with a shared secret were allowed, an attacker
 * could sign with the public key as the secret.
 */
export const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];

/** `jose` verifies by no shorter key. @see RFC 7518 section 3.3 */
const MIN_RSA_BITS = 2048;

/**
 * Returns the members of a key set that can verify a token, after an attempt to import each of them. It leaves out all
 * others: keys for encryption, private keys, unknown kinds of keys and broken ones.
 *
 * @see RFC 7517 section 5
 */
export async function verifyingKeysIn(body: string): Promise<object[]> {
  const members = parseFields(body)?.keys;
  if (!Array.isArray(members)) return [];
  // Without duplicates, because jose uses no key if several have the id that the token names.
  const distinct = [...new Map(members.map((member: JWK) => [JSON.stringify(member), member])).values()];
  const canVerify = await Promise.all(distinct.map((member) => isVerifying(member)));
  return distinct.filter((_, index) => canVerify[index]);
}

async function isVerifying(member: JWK): Promise<boolean> {
  const imported = importer(member);
  if (!imported) return false;
  for (const alg of ALGORITHMS.filter((each) => member.alg === undefined || member.alg === each)) {
    try {
      const { algorithm } = await imported({ alg, kid: member.kid });
      return !('modulusLength' in algorithm) || Number(algorithm.modulusLength) >= MIN_RSA_BITS;
    } catch {
      // The key is not for this algorithm, or it is broken.
    }
  }
  return false;
}

/** Returns what imports a key for an algorithm; undefined if it is no key. */
function importer(member: JWK): ReturnType<typeof createLocalJWKSet> | undefined {
  try {
    return createLocalJWKSet({ keys: [member] });
  } catch {
    return undefined;
  }
}
