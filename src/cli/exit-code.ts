/** What the exit code of the command line says. */
export const ExitCode = {
  /** The command did what it was asked for. */
  done: 0,
  /** The command found something that needs the operator, or it failed. */
  failed: 1,
  /** The arguments, the configuration or an id are wrong. */
  wrongUse: 2,
  /** No database answered. */
  noDatabase: 3,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];
