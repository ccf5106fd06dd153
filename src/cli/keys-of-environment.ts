import type { SealingKeyOptions } from '../sealing/encryption.options.js';
import { CliError } from './cli.errors.js';
import { ExitCode } from './exit-code.js';

const ALGORITHMS = ['xchacha20-poly1305', 'aes-256-gcm'] as const;

/**
 * Reads `TOKENS_KEYS`: `id:base64,id:base64`, the sealing key first. A key of another algorithm than the default one has
 * it as a third part.
 *
 * @throws {@link CliError} that names the position of a wrong entry, and no part of it
 */
export function keysOfEnvironment(text: string): SealingKeyOptions[] {
  return text
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '')
    .map((entry, position) => {
      const [id, secret, algorithm, ...rest] = entry.split(':');
      const known = ALGORITHMS.find((each) => each === algorithm);
      if (!id || !secret || rest.length > 0 || (algorithm !== undefined && !known)) {
        throw new CliError(
          `Entry ${position + 1} of TOKENS_KEYS is no key.`,
          ExitCode.wrongUse,
          'Give TOKENS_KEYS the form id:base64,id:base64, the sealing key first, with :aes-256-gcm behind the secret of a ' +
            'key of this algorithm. "idp-tokens keys generate" prints a new key in this form.',
        );
      }
      return { id, secret, ...(known ? { algorithm: known } : {}) };
    });
}

/** Returns a key in the form of `TOKENS_KEYS`. */
export function keyForEnvironment({ id, secret, algorithm }: SealingKeyOptions): string {
  return [id, secret, ...(algorithm && algorithm !== 'xchacha20-poly1305' ? [algorithm] : [])].join(':');
}
