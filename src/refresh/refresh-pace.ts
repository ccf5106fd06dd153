/**
 * Number of refreshes that start together while callers read fresh tokens. They share statements. Measured with a
 * thousand stale tokens, readers keep 0.7 of their throughput. With groups of 8 every 12 ms they keep 0.5.
 */
const GROUP_SIZE = 16;
const GROUP_EVERY_MS = 32;

/**
 * Spreads the starts of refreshes. When many tokens expire together, their refreshes fill the queue of the connection
 * pool and the event loop. Without the pace, readers of fresh tokens waited for all of these refreshes, and their
 * throughput fell to a thousandth. While no caller reads fresh tokens, one refresh starts in each turn of the event
 * loop.
 */
export class RefreshPace {
  readonly #waiting: ((mayStart: boolean) => void)[] = [];
  #lastCallAt = -Infinity;
  #lastStartAt = -Infinity;
  #isScheduled = false;

  /**
   * @param isReading whether callers read fresh tokens at this moment
   * @param longestWaitMs time within which all waiting refreshes start after the last call, in milliseconds; the more
   * of them wait, the larger are the groups
   * @param stopping when it aborts, no refresh starts any more
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

  /**
   * Resolves to true when the caller's refresh may start, in the order of the calls. Resolves to false once `stopping`
   * aborted.
   */
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
