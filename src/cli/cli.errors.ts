import type { ExitCode } from './exit-code.js';

/** An error of the command line. Neither its message nor its remedy has the value of an option. */
export class CliError extends Error {
  /** @param remedy what to do, in one or more sentences */
  constructor(
    message: string,
    readonly exitCode: ExitCode,
    readonly remedy?: string,
  ) {
    super(message);
    this.name = new.target.name;
  }
}
