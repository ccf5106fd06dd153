import { createInterface } from 'node:readline/promises';

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
 * @throws {@link CliError} when the operator does not confirm, at a signal or the end of the input, and without a terminal
 */
export async function confirmed(plan: string, { options }: CommandCall, context: CliContext): Promise<void> {
  if (options.yes === true) return;
  const { output } = context;
  if (!process.stdin.isTTY || output.stderr.isTTY !== true) {
    throw new CliError(
      `${plan} The command asks before it does that, and there is no terminal.`,
      ExitCode.wrongUse,
      'Give --yes.',
    );
  }
  output.note(plan);
  const answer = await answerTo('Go on? [y/N] ', context);
  if (answer === undefined) output.stderr.write('\n'); // the cursor is behind the question
  if (!/^\s*y(es)?\s*$/i.test(answer ?? '')) throw new CliError('Nothing was changed.', ExitCode.failed);
}

/** Returns the line that the operator types; undefined at a signal and at the end of the input. */
async function answerTo(question: string, { output, signal }: CliContext): Promise<string | undefined> {
  // The terminal edits the line itself. So Ctrl-C is a SIGINT, and the terminal is in order however the process ends.
  const lines = createInterface({ input: process.stdin, output: output.stderr, terminal: false });
  const ended = new Promise<undefined>((resolve) => {
    lines.once('close', () => {
      resolve(undefined);
    });
  });
  try {
    return await Promise.race([lines.question(question, { signal }), ended]);
  } catch (error) {
    if (error instanceof Error && error.name === 'AbortError') return undefined;
    throw error;
  } finally {
    lines.close();
  }
}
