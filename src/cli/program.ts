import { Command, CommanderError, Option } from 'commander';

import type { CliCommand, CommandCall } from './cli-command.js';
import { CliContext } from './cli-context.js';
import { CliError } from './cli.errors.js';
import { COMMANDS } from './commands.js';
import { loadConfiguration } from './configuration.js';
import { ExitCode } from './exit-code.js';
import { Output, type OutputStream } from './output.js';
import type { Signals } from './signals.js';

/** What the command line needs of its process. */
export interface Surroundings {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly environment: NodeJS.ProcessEnv;
  readonly folder: string;
  readonly signals: Signals;
}

interface CommonOptions extends Record<string, unknown> {
  readonly config?: string;
  readonly json?: true;
  readonly debug?: true;
}

const GROUPS: Readonly<Record<string, string>> = { keys: 'The encryption keys' };

/**
 * Runs one call of the command line, and returns its exit code.
 *
 * @param words the arguments, without the program
 */
export async function run(words: readonly string[], surroundings: Surroundings): Promise<ExitCode> {
  const { stdout, stderr, environment } = surroundings;
  let exitCode: ExitCode = ExitCode.done;
  const outputOf = (isJson: boolean, isDebug: boolean) => new Output(stdout, stderr, isJson, isDebug, environment);
  const program = programOf(async (command, call, { config, json, debug }) => {
    exitCode = await execute(command, call, config, outputOf(json === true, debug === true), surroundings);
  });
  for (const each of [program, ...program.commands, ...program.commands.flatMap(({ commands }) => commands)]) {
    each.exitOverride().configureOutput({
      writeOut: (text) => stdout.write(text),
      // With --json the error is on standard output, in the shape of every error.
      writeErr: (text) => words.includes('--json') || stderr.write(text),
      getOutHelpWidth: () => Math.max(40, stdout.columns ?? 80),
      getErrHelpWidth: () => Math.max(40, stderr.columns ?? 80),
    });
  }
  try {
    await program.parseAsync([...words], { from: 'user' });
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return ExitCode.done; // --help
    if (words.includes('--json')) {
      const message = error.message.replace(/^error: /, '').split('\n')[0] ?? '';
      const remedy = 'See "idp-tokens --help".';
      outputOf(true, false).fail('', new CliError(message, ExitCode.wrongUse, remedy));
    }
    return ExitCode.wrongUse;
  }
}

type Executor = (command: CliCommand, call: CommandCall, options: CommonOptions) => Promise<void>;

function programOf(executor: Executor): Command {
  const program = new Command('idp-tokens')
    .description('Operates the tokens that nestjs-idp-tokens stores.')
    .showHelpAfterError('See "idp-tokens --help", and "idp-tokens COMMAND --help" for examples.')
    .addHelpText('after', '\nExit codes: 0 done, 1 something was found or failed, 2 wrong use, 3 no database.');
  for (const command of COMMANDS) {
    const [first = '', second] = command.name.split(' ');
    const parent = second === undefined ? program : groupOf(program, first);
    const built = parent.command(second ?? first).description(command.summary);
    for (const [name, description] of Object.entries(command.arguments ?? {})) built.argument(name, description);
    for (const option of command.options ?? []) built.addOption(option);
    built
      .addOption(new Option('--config <file>', 'configuration file (default: idp-tokens.config.js, .mjs, .cjs or .ts)'))
      .addOption(new Option('--json', 'print one JSON object'))
      .addOption(new Option('--debug', 'print where an error was thrown'))
      .addHelpText('after', `\nExamples:\n${command.examples.map((example) => `  $ ${example}`).join('\n')}`)
      .action(async (...given: unknown[]) => {
        const options = built.opts<CommonOptions>();
        const values = given.slice(0, built.registeredArguments.length).filter((value) => typeof value === 'string');
        await executor(command, { arguments: values, options }, options);
      });
  }
  return program;
}

function groupOf(program: Command, name: string): Command {
  const group = program.commands.find((each) => each.name() === name);
  return group ?? program.command(name).description(GROUPS[name] ?? name);
}

async function execute(
  command: CliCommand,
  call: CommandCall,
  file: string | undefined,
  output: Output,
  { environment, folder, signals }: Surroundings,
): Promise<ExitCode> {
  let context: CliContext | undefined;
  try {
    const configuration =
      command.needs === 'nothing'
        ? undefined
        : await signals.interrupting(loadConfiguration({ file, folder, environment }, command.needs));
    context = new CliContext(configuration, output, signals);
    const running = command.run(context, call);
    const outcome = await (command.endsBySignal ? running : signals.interrupting(running));
    return output.finish(command.name, outcome);
  } catch (error) {
    return output.fail(command.name, error);
  } finally {
    await signals.deadline(context?.close());
  }
}
