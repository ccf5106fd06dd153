import type { CliCommand } from './cli-command.js';
import { doctorCommand } from './commands/doctor.command.js';
import { keysGenerateCommand } from './commands/keys-generate.command.js';
import { keysStatusCommand } from './commands/keys-status.command.js';

/** Every command, in the order of `--help`. */
export const COMMANDS: readonly CliCommand[] = [keysGenerateCommand, keysStatusCommand, doctorCommand];
