import { once } from 'node:events';
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';

import { CliError } from './cli.errors.js';
import { ExitCode } from './exit-code.js';

/** How long the end of the connections may take, in milliseconds. */
const CLOSE_MS = 2000;

/** SIGINT and SIGTERM of the process. The first one asks the command to end, and the second one ends the process. */
export class Signals {
  readonly #controller = new AbortController();

  constructor(process: NodeJS.Process) {
    for (const name of ['SIGINT', 'SIGTERM'] as const) {
      process.on(name, () => {
        if (this.#controller.signal.aborted) process.exit(ExitCode.failed);
        this.#controller.abort();
      });
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /**
   * Waits for work, and no longer than until the first signal. Work that ends by itself at the signal settles first,
   * because it says more.
   *
   * @throws {@link CliError} when a signal came first
   */
  async interrupting<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#controller;
    const interruption = async (): Promise<never> => {
      if (!signal.aborted) await once(signal, 'abort');
      await turn();
      throw new CliError('The command was interrupted.', ExitCode.failed, 'Run it again.');
    };
    return Promise.race([work, interruption()]);
  }

  /** Waits for the end of the connections, but not for a server that does not answer. */
  async deadline(closing: Promise<void> | undefined): Promise<void> {
    await Promise.race([closing, delay(CLOSE_MS, undefined, { ref: false })]);
  }
}
