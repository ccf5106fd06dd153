import { TokensConfigurationError } from 'nestjs-idp-tokens';

import { readCommandLine, USAGE, UsageError } from './command-line.js';
import { runDemo } from './demo.js';
import { KeycloakMissing } from './support/keycloak.js';
import { TourFailure } from './tour/tour-failure.js';

try {
  const commandLine = readCommandLine(process.argv.slice(2), process.env);
  if (commandLine.isHelp) console.log(USAGE);
  else await runDemo(commandLine);
} catch (error) {
  console.error(explain(error));
  process.exitCode = error instanceof UsageError ? 2 : 1;
}

/**
 * Returns the message of an error that the user of the terminal can correct, and the whole error of every other kind.
 */
function explain(error: unknown): unknown {
  if (
    error instanceof UsageError ||
    error instanceof TourFailure ||
    error instanceof KeycloakMissing ||
    error instanceof TokensConfigurationError
  ) {
    return error.message;
  }
  if (
    error instanceof Error &&
    'port' in error &&
    'code' in error &&
    'syscall' in error &&
    error.syscall === 'listen'
  ) {
    const fault = error.code === 'EADDRINUSE' ? 'is taken' : `cannot be listened on (${String(error.code)})`;
    return `Port ${String(error.port)} ${fault}. Choose another one: PORT=${nextPort(error.port)} npm start`;
  }
  return error;
}

function nextPort(port: unknown): number {
  return typeof port === 'number' && port >= 1024 && port < 65_535 ? port + 1 : 3001;
}
