import type { TokenKeyRotation } from '../key-rotation/token-key-rotation.js';
import { TokensUsageError } from '../tokens.errors.js';

/** Returns a rotation of keys that refuses every call, because the tokens in memory have one random key. */
export function rotationForTesting(): Pick<TokenKeyRotation, keyof TokenKeyRotation> {
  const refuse = () =>
    Promise.reject(
      new TokensUsageError(
        'TokensTestingModule has no database, so it has no keys to rotate. Replace TokenKeyRotation by ' +
          'overrideProvider, or test this code with TokensModule on PostgreSQL.',
      ),
    );
  return { status: refuse, reseal: refuse, retire: refuse };
}
