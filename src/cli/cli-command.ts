import type { Option } from 'commander';

import type { CliContext } from './cli-context.js';
import type { CommandOutcome } from './output.js';

/** What a command needs of the configuration. Each need includes the needs before it. */
export type Need = 'nothing' | 'database' | 'keys' | 'providers';

/** The arguments and options of one call of a command. */
export interface CommandCall {
  readonly arguments: readonly string[];
  /** By their names in camel case. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** One command of the command line. */
export interface CliCommand {
  /** One or two words. */
  readonly name: string;
  readonly summary: string;
  /** The arguments in the form of commander, such as `<user> [idp]`, each with what it is. */
  readonly arguments?: Readonly<Record<string, string>>;
  readonly options?: readonly Option[];
  /** Calls, for `--help`. */
  readonly examples: readonly string[];
  readonly needs: Need;
  /** Whether the command itself ends soon when `context.signal` aborts. If not, the process ends. */
  readonly endsBySignal?: boolean;
  run(context: CliContext, call: CommandCall): Promise<CommandOutcome>;
}
