import 'reflect-metadata';

import type { Writable } from 'node:stream';

import { describeForeignError } from '../foreign-error.js';
import { ExitCode } from './exit-code.js';
import type { OutputStream } from './output.js';
import { run } from './program.js';
import { Signals } from './signals.js';

/**
 * Runs the command line in this process, and ends the process, because a configuration file of the host may have opened
 * what keeps a process alive.
 */
export async function runProcess(process: NodeJS.Process): Promise<never> {
  const stdout = ownStdout(process);
  // A reader such as `head` may have closed the stream. The command still ends with its own exit code.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      process.stderr.write(`idp-tokens: ${describeForeignError(error)}, outside of the command\n`);
      process.exit(ExitCode.failed);
    });
  }
  const exitCode = await run(process.argv.slice(2), {
    stdout,
    stderr: process.stderr,
    environment: process.env,
    folder: process.cwd(),
    signals: new Signals(process),
  });
  await Promise.all([flushed(stdout), flushed(process.stderr)]);
  process.exit(exitCode);
}

/**
 * Returns standard output for the command alone. What other code writes there goes to standard error: a configuration
 * file may print, and a program that reads the JSON would not understand that.
 */
function ownStdout(process: NodeJS.Process): OutputStream {
  const { stdout, stderr } = process;
  const write = stdout.write.bind(stdout);
  const own = Object.create(stdout, { write: { value: write } }) as OutputStream;
  stdout.write = stderr.write.bind(stderr);
  return own;
}

function flushed(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => {
      resolve();
    });
  });
}
