/**
 * Lets a bounded number of callers ask the pool for a connection. A request cannot be taken back from the queue of pg's
 * pool, so callers who give up would stay in it by hundreds, and each would be served a connection in the end.
 */
export class ConnectionGate {
  #free: number;
  readonly #waiting = new Set<() => void>();

  /** @param size how many may ask at the same time */
  constructor(size: number) {
    this.#free = size;
  }

  /** Whether the caller may ask at once, who then must {@link leave}. Without a promise, because every statement comes by. */
  tryEnter(): boolean {
    if (this.#free === 0) return false;
    this.#free--;
    return true;
  }

  /** Resolves to true when the caller may ask, who then must {@link leave}; to false when it had to wait too long. */
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

  /** Hands the place to the caller who has waited longest. */
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
