import { confirm, isCancel } from '@clack/prompts';
import { Option } from 'commander';

import type { CommandCall } from './cli-command.js';
import type { CliContext } from './cli-context.js';
import { CliError } from './cli.errors.js';
import { ExitCode } from './exit-code.js';

/** The option that answers the question of {@link confirmed}. */
export const yesOption = (): Option => new Option('--yes', 'do not ask');

/**
 * Asks the operator on the terminal, unless the call has `--yes`.
 *
 * @param plan what the command will do, as a sentence
 * @throws {@link CliError} when the operator does not confirm, and without a terminal
 */
export async function confirmed(plan: string, { options }: CommandCall, { output, signal }: CliContext): Promise<void> {
  if (options.yes === true) return;
  if (!process.stdin.isTTY || output.stderr.isTTY !== true) {
    throw new CliError(
      `${plan} The command asks before it does that, and there is no terminal.`,
      ExitCode.wrongUse,
      'Give --yes.',
    );
  }
  output.note(plan);
  const answer = await confirm({ message: 'Go on?', initialValue: false, output: output.stderr, signal });
  if (isCancel(answer) || !answer) throw new CliError('Nothing was changed.', ExitCode.failed);
}
