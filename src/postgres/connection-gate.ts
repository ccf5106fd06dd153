/**
 * Lets a bounded number of callers ask the pool for a connection. No caller can remove its request from the queue of
 * pg's pool. Without the gate, the requests of hundreds of callers that gave up would stay in the queue, and the pool
 * would serve each of them in the end.
 */
export class ConnectionGate {
  #free: number;
  readonly #waiting = new Set<() => void>();

  /** @param size how many callers may ask at the same time */
  constructor(size: number) {
    this.#free = size;
  }

  /**
   * Returns whether the caller may ask at once. If it may, it must call {@link leave} afterwards. The method returns no
   * promise, because every statement calls it.
   */
  tryEnter(): boolean {
    if (this.#free === 0) return false;
    this.#free--;
    return true;
  }

  /**
   * Resolves to true when the caller may ask, and to false after `timeoutMs` without a place. If the caller may ask, it
   * must call {@link leave} afterwards.
   */
  async enter(timeoutMs: number): Promise<boolean> {
    if (this.tryEnter()) return true;
    return new Promise((resolve) => {
      const enter = () => {
        clearTimeout(timer);
        resolve(true);
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(enter);
        resolve(false);
      }, timeoutMs);
      this.#waiting.add(enter);
    });
  }

  /** Gives the place to the caller that has waited longest. */
  leave(): void {
    const [next] = this.#waiting;
    if (!next) {
      this.#free++;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
