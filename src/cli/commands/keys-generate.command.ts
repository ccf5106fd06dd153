import { randomBytes } from 'node:crypto';

import { Option } from 'commander';

import { KEY_ID, type SealingKeyOptions } from '../../sealing/encryption.options.js';
import type { CliCommand } from '../cli-command.js';
import { CliError } from '../cli.errors.js';
import { ExitCode } from '../exit-code.js';
import { keyForEnvironment } from '../keys-of-environment.js';

const DEFAULT_ALGORITHM = 'xchacha20-poly1305';

/** Prints a new key. It is the only command whose output has a secret. It needs no configuration and stores nothing. */
export const keysGenerateCommand: CliCommand = {
  name: 'keys generate',
  summary: 'Print a new encryption key. The output is a secret.',
  options: [
    new Option('--id <id>', 'the key id (default: the date and four random digits)'),
    new Option('--algorithm <algorithm>', 'what the key seals with')
      .choices([DEFAULT_ALGORITHM, 'aes-256-gcm'])
      .default(DEFAULT_ALGORITHM),
  ],
  examples: ['idp-tokens keys generate --id 2026-12', 'idp-tokens keys generate --algorithm aes-256-gcm --json'],
  needs: 'nothing',
  run: (_, { options }) => {
    const id = typeof options.id === 'string' ? options.id : newId();
    if (!KEY_ID.test(id)) {
      throw new CliError('The key id is wrong.', ExitCode.wrongUse, 'Use 1 to 64 letters, digits, "-" or "_".');
    }
    const key: SealingKeyOptions = {
      id,
      secret: randomBytes(32).toString('base64'),
      ...(options.algorithm === 'aes-256-gcm' ? { algorithm: options.algorithm } : {}),
    };
    const environment = keyForEnvironment(key);
    const algorithm = key.algorithm ? `, algorithm: '${key.algorithm}'` : '';
    const option = `{ id: '${key.id}', secret: '${key.secret}'${algorithm} }`;
    return Promise.resolve({
      ok: true,
      result: { ...key, environment },
      // Not wrapped, because the operator copies the lines.
      text: () => `TOKENS_KEYS entry:\n  ${environment}\nencryption.keys entry:\n  ${option}`,
    });
  },
};

function newId(): string {
  return `${new Date().toISOString().slice(0, 10)}-${randomBytes(2).toString('hex')}`;
}
