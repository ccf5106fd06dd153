/**
 * While fresh tokens are read, refreshes start in groups, because those that start together share statements. Measured
 * with a thousand stale tokens: readers keep 0.7 of their throughput, 0.5 in groups of 8 every 12 ms.
 */
const GROUP_SIZE = 16;
const GROUP_EVERY_MS = 32;

/**
 * Spreads the starts of refreshes. When many tokens expire together, readers of fresh tokens would otherwise stand
 * behind all of their refreshes, in the queue of the connection pool and in the event loop: their throughput fell to a
 * thousandth. While nobody reads, one refresh starts in each turn of the event loop.
 */
export class RefreshPace {
  readonly #waiting: ((mayStart: boolean) => void)[] = [];
  #lastCallAt = -Infinity;
  #lastStartAt = -Infinity;
  #isScheduled = false;

  /**
   * @param isReading whether somebody reads fresh tokens at this moment
   * @param longestWaitMs how long after the last call all may have to wait: the more wait, the larger are the groups
   * @param stopping lets nothing start any more when it aborts
   */
  constructor(
    private readonly isReading: () => boolean,
    private readonly longestWaitMs: number,
    private readonly stopping: AbortSignal,
  ) {
    stopping.addEventListener('abort', () => {
      for (const refuse of this.#waiting.splice(0)) refuse(false);
    });
  }

  /** Settles when the caller's refresh may start, in the order of the calls; false when it must not any more. */
  turn(): Promise<boolean> {
    return new Promise((resolve) => {
      if (this.stopping.aborted) resolve(false);
      else this.#waiting.push(resolve);
      this.#lastCallAt = performance.now();
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isScheduled || this.#waiting.length === 0) return;
    this.#isScheduled = true;
    const pauseMs = this.#lastStartAt + GROUP_EVERY_MS - performance.now();
    const start = () => {
      this.#isScheduled = false;
      this.#lastStartAt = performance.now();
      for (const begin of this.#waiting.splice(0, this.isReading() ? this.#groupSize() : 1)) begin(true);
      this.#schedule();
    };
    if (pauseMs >= 1 && this.isReading()) setTimeout(start, pauseMs);
    else setImmediate(start);
  }

  #groupSize(): number {
    const leftMs = this.#lastCallAt + this.longestWaitMs - performance.now();
    const groupsLeft = Math.max(1, Math.floor(leftMs / GROUP_EVERY_MS));
    return Math.max(GROUP_SIZE, Math.ceil(this.#waiting.length / groupsLeft));
  }
}
