import type { IdpToken } from '../../src/index.js';
import { until } from './until.js';

const PAUSE_MS = 20;

/**
 * Asks for the token of a user again and again in several applications, and asks the provider whether each token
 * works.
 */
export class TokenWatch {
  /** The tokens that did not work when a caller got them. */
  readonly dead = new Set<string>();
  readonly handedOut = new Set<string>();
  /** All errors, in their order. `at` is in milliseconds from the beginning. */
  readonly errors: { code?: string; retryAfterMs?: number; at: number }[] = [];
  /** Milliseconds from the beginning until a caller first got each token. */
  readonly firstAt = new Map<string, number>();
  readonly #startedAt = performance.now();
  readonly #callers: Promise<void>[];
  #isOver = false;

  constructor(
    asks: readonly (() => Promise<IdpToken>)[],
    private readonly isAlive: (accessToken: string) => Promise<boolean>,
  ) {
    this.#callers = asks.map((ask) => this.#keepAsking(ask));
  }

  /** Waits until a caller got another token than the old one. Returns the milliseconds from the beginning. */
  async served(oldAccessToken: string, timeoutMs = 20_000): Promise<number> {
    const isNew = () => [...this.handedOut].some((each) => each !== oldAccessToken);
    await until(isNew, timeoutMs);
    const [first = Infinity] = [...this.firstAt].flatMap(([token, at]) => (token === oldAccessToken ? [] : [at]));
    return first;
  }

  /** Waits until a caller got an error with this code. Returns the milliseconds from the beginning. */
  async told(code: string, timeoutMs = 20_000): Promise<number> {
    await until(() => this.errors.some((error) => error.code === code), timeoutMs);
    return this.errors.find((error) => error.code === code)?.at ?? Infinity;
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#callers);
  }

  async #keepAsking(ask: () => Promise<IdpToken>): Promise<void> {
    while (!this.#isOver) {
      try {
        const { accessToken } = await ask();
        if (!this.firstAt.has(accessToken)) this.firstAt.set(accessToken, performance.now() - this.#startedAt);
        this.handedOut.add(accessToken);
        if (!(await this.isAlive(accessToken))) this.dead.add(accessToken);
      } catch (error) {
        const { code, retryAfterMs } = error as { code?: string; retryAfterMs?: number };
        this.errors.push({ code, retryAfterMs, at: performance.now() - this.#startedAt });
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}
