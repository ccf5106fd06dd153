import type { Writable } from 'node:stream';

import { exitCodeOf, reportOf, stackOf } from './error-report.js';
import { ExitCode } from './exit-code.js';
import { DEFAULT_COLUMNS, printable, wrap } from './text-layout.js';

/** What a command found or did. */
export interface CommandOutcome {
  /** Whether the exit code is 0. If not, the command found something, or it did not do all that it was asked for. */
  readonly ok: boolean;
  /** Default: 0 if it is ok, otherwise 1. */
  readonly exitCode?: ExitCode;
  /** What `--json` prints as `result`. */
  readonly result: object;
  /** What is printed without `--json`, for lines of this width. */
  readonly text: (columns: number) => string;
}

/** A stream, and its width if it is a terminal. */
export type OutputStream = Writable & { readonly isTTY?: boolean; readonly columns?: number };

/**
 * Writes the result of a command to standard output, as text or as one JSON object: `{ command, ok, result }` or
 * `{ command, ok: false, error: { name, message, remedy } }`. Everything else goes to standard error.
 */
export class Output {
  constructor(
    private readonly stdout: OutputStream,
    readonly stderr: OutputStream,
    readonly isJson: boolean,
    private readonly isDebug: boolean,
    private readonly environment: NodeJS.ProcessEnv = process.env,
  ) {}

  /** Writes the outcome of a command, and returns the exit code. */
  finish(command: string, { ok, exitCode, result, text }: CommandOutcome): ExitCode {
    if (this.isJson) this.#print({ command, ok, result });
    else this.stdout.write(`${printable(text(this.#columnsOf(this.stdout)))}\n`);
    return exitCode ?? (ok ? ExitCode.done : ExitCode.failed);
  }

  /** Writes what is to say about an error, and returns the exit code. */
  fail(command: string, error: unknown): ExitCode {
    const report = reportOf(error);
    if (this.isJson) this.#print({ command, ok: false, error: report });
    else {
      this.note(`idp-tokens ${command}: ${report.message}`);
      if (report.remedy) this.note(report.remedy);
    }
    this.trace(error);
    return exitCodeOf(error);
  }

  /** With `--debug`, writes where an error was thrown to standard error. */
  trace(error: unknown): void {
    if (this.isDebug) for (const line of stackOf(error)) this.stderr.write(`${line}\n`);
  }

  /** Writes lines for the operator to standard error. */
  note(text: string): void {
    this.stderr.write(`${wrap(printable(text), this.#columnsOf(this.stderr), '  ')}\n`);
  }

  #print(value: object): void {
    this.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
  }

  #columnsOf(stream: OutputStream): number {
    const columns = stream.columns ?? Number(this.environment.COLUMNS);
    return columns > 0 ? Math.max(20, columns) : DEFAULT_COLUMNS;
  }
}
