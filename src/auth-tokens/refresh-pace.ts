/**
 * How long a refresh keeps its distance to the one before while fresh tokens are read, in milliseconds. A refresh takes
 * about a millisecond of the event loop in all; readers keep 0.4 of their throughput at 3 ms, 0.6 at 5 ms.
 */
const DISTANCE_MS = 4;

/**
 * Spreads the starts of refreshes. When many tokens expire together, readers of fresh tokens would otherwise stand
 * behind all of their refreshes, in the queue of the connection pool and in the event loop: their throughput fell to a
 * thousandth. While nobody reads, one refresh starts in each turn of the event loop.
 */
export class RefreshPace {
  readonly #waiting: ((mayStart: boolean) => void)[] = [];
  #lastStartAt = -Infinity;
  #isScheduled = false;
  #hasEnded = false;

  /**
   * @param isReading whether somebody reads fresh tokens at this moment
   * @param longestWaitMs how long a refresh may wait for its turn, however many wait: then they keep less distance
   */
  constructor(
    private readonly isReading: () => boolean,
    private readonly longestWaitMs: number,
  ) {}

  /** Settles when the caller's refresh may start, in the order of the calls; false when it must not any more. */
  turn(): Promise<boolean> {
    return new Promise((resolve) => {
      if (this.#hasEnded) resolve(false);
      else this.#waiting.push(resolve);
      this.#schedule();
    });
  }

  /** Lets nothing start any more. */
  end(): void {
    this.#hasEnded = true;
    for (const refuse of this.#waiting.splice(0)) refuse(false);
  }

  #schedule(): void {
    if (this.#isScheduled || this.#waiting.length === 0) return;
    this.#isScheduled = true;
    const wantedMs = Math.min(DISTANCE_MS, this.longestWaitMs / this.#waiting.length);
    const distanceMs = this.#lastStartAt + wantedMs - performance.now();
    const start = () => {
      this.#isScheduled = false;
      this.#lastStartAt = performance.now();
      this.#waiting.shift()?.(true);
      this.#schedule();
    };
    if (distanceMs >= 1 && this.isReading()) setTimeout(start, distanceMs);
    else setImmediate(start);
  }
}
