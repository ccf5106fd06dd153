import { describeForeignError, foreignErrorName } from '../foreign-error.js';
import { TokensError } from '../tokens-error.js';
import { TokensConfigurationError, TokenStoreUnavailableError } from '../tokens.errors.js';
import { CliError } from './cli.errors.js';
import { ExitCode } from './exit-code.js';

/** What the command line says about an error. It has no value of an option and no message of the host's code. */
export interface ErrorReport {
  readonly name: string;
  readonly message: string;
  readonly remedy?: string;
}

/** SQLSTATEs of a server that cannot serve: a lost connection, no connection left, a shutdown or a start. */
const AWAY = /^(08|53|57P)/;
/** SQLSTATEs of a wrong login, a missing database or schema, missing tables or missing rights. */
const MISCONFIGURED = /^(28|3D|3F|42)/;
const WRONG_USE = new Set([
  'ERR_TOKENS_CONFIGURATION',
  'ERR_TOKENS_USAGE',
  'ERR_TOKENS_INVALID_INPUT',
  'ERR_TOKENS_UNSUPPORTED_PROVIDER',
]);

/** Returns the exit code for an error. */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CliError) return error.exitCode;
  if (error instanceof TokenStoreUnavailableError) {
    const { sqlState } = error;
    if (sqlState === undefined || AWAY.test(sqlState)) return ExitCode.noDatabase;
    return MISCONFIGURED.test(sqlState) ? ExitCode.wrongUse : ExitCode.failed;
  }
  return error instanceof TokensError && WRONG_USE.has(error.code) ? ExitCode.wrongUse : ExitCode.failed;
}

/**
 * Returns what to say about an error. The messages of this package have no secret. The message of another error may
 * have one, for example the URL of a database, so the report has only its name and its code.
 */
export function reportOf(error: unknown): ErrorReport {
  if (error instanceof CliError) {
    return { name: error.name, message: error.message, ...(error.remedy ? { remedy: error.remedy } : {}) };
  }
  if (error instanceof TokensError) return { name: error.name, message: error.message, ...remedyOf(error) };
  return {
    name: foreignErrorName(error),
    message: `The command failed with ${describeForeignError(error)}.`,
    remedy: 'The message is not shown, because it may have a secret. --debug shows where it was thrown.',
  };
}

/**
 * Returns where an error was thrown, and where its causes were, without their messages. A message can have a secret, and
 * so can the source line that Node.js prints for a syntax error.
 */
export function stackOf(error: unknown): string[] {
  const lines: string[] = [];
  for (let each = error, depth = 0; each instanceof Error && depth < 5; each = each.cause, depth++) {
    lines.push(`${depth === 0 ? '' : 'caused by '}${describeForeignError(each)}`);
    const frames = (each.stack ?? '').split('\n').filter((line) => /^ {4}at /.test(line));
    lines.push(...(frames.length > 0 ? frames : ['    (no stack)']));
  }
  return lines.length > 0 ? lines : [describeForeignError(error)];
}

function remedyOf(error: TokensError): { remedy?: string } {
  const isWithoutTables = error instanceof TokenStoreUnavailableError && error.sqlState === '42P01';
  if (isWithoutTables) return { remedy: 'Run "idp-tokens migrate" if this is the right database.' };
  return error instanceof TokensConfigurationError ? { remedy: 'Correct the configuration.' } : {};
}
