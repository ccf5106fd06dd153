import { createLogUpdate } from 'log-update';

import type { ResealProgress } from '../key-rotation/reseal-walk.js';
import type { Output } from './output.js';
import { DEFAULT_COLUMNS } from './text-layout.js';

/** The time between two lines about one table where no bar can be drawn, in milliseconds. */
const LINE_INTERVAL_MS = 5000;
const LONGEST_BAR = 30;

/**
 * Shows how far a reseal is, on standard error: as a bar on a terminal, and elsewhere as lines. It neither reads the
 * terminal nor catches a signal, so Ctrl-C stays a SIGINT for the command.
 */
export class ProgressLines {
  readonly #isTerminal: boolean;
  readonly #update: ReturnType<typeof createLogUpdate>;
  #last: ResealProgress | undefined;
  #shownAt = -Infinity;

  constructor(private readonly output: Output) {
    this.#isTerminal = output.stderr.isTTY === true;
    this.#update = createLogUpdate(output.stderr, { showCursor: true });
  }

  /** Shows the progress of one table. Is called after each batch. */
  show(progress: ResealProgress): void {
    if (this.#last && this.#last.table !== progress.table) this.#finishTable(this.#last);
    this.#last = progress;
    if (this.#isTerminal) {
      this.#update(barOf(progress, this.output.stderr.columns ?? DEFAULT_COLUMNS));
      return;
    }
    const now = performance.now();
    if (now - this.#shownAt < LINE_INTERVAL_MS) return;
    this.#shownAt = now;
    this.output.note(lineOf(progress));
  }

  /** Shows the last progress for good. */
  end(): void {
    if (this.#last) this.#finishTable(this.#last);
    this.#last = undefined;
  }

  #finishTable(progress: ResealProgress): void {
    this.#shownAt = -Infinity;
    if (this.#isTerminal) this.#update.clear();
    this.output.note(`${progress.table}: looked at ${progress.done} rows`);
  }
}

function lineOf({ table, done, estimated }: ResealProgress): string {
  return `${table}: ${done} of ${estimated === null ? 'an unknown number of' : `about ${estimated}`} rows`;
}

/** Returns one line that fits the terminal. */
function barOf(progress: ResealProgress, columns: number): string {
  const { done, estimated } = progress;
  const line = lineOf(progress);
  const room = Math.min(LONGEST_BAR, columns - line.length - 8);
  if (estimated === null || room < 5) return line.slice(0, columns - 1);
  const share = Math.min(1, done / estimated);
  const filled = Math.round(share * room);
  return `${line} ${'█'.repeat(filled)}${'░'.repeat(room - filled)} ${Math.floor(share * 100)}%`;
}
