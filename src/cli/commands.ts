import type { CliCommand } from './cli-command.js';
import { doctorCommand } from './commands/doctor.command.js';
import { forgetCommand } from './commands/forget.command.js';
import { keysGenerateCommand } from './commands/keys-generate.command.js';
import { keysResealCommand } from './commands/keys-reseal.command.js';
import { keysRetireCommand } from './commands/keys-retire.command.js';
import { keysStatusCommand } from './commands/keys-status.command.js';
import { migrateCommand } from './commands/migrate.command.js';
import { reactivateCommand } from './commands/reactivate.command.js';
import { revokeCommand } from './commands/revoke.command.js';
import { showCommand } from './commands/show.command.js';
import { statusCommand } from './commands/status.command.js';

/** Every command, in the order of `--help`. */
export const COMMANDS: readonly CliCommand[] = [
  migrateCommand,
  statusCommand,
  showCommand,
  revokeCommand,
  forgetCommand,
  reactivateCommand,
  keysGenerateCommand,
  keysStatusCommand,
  keysResealCommand,
  keysRetireCommand,
  doctorCommand,
];
