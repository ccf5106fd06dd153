import type { IdpToken } from '../../src/index.js';
import { until } from './until.js';

const PAUSE_MS = 20;

/** Asks for a user's token again and again in several processes, and looks at the provider whether each one works. */
export class TokenWatch {
  /** Tokens that did not work when they were handed out. */
  readonly dead = new Set<string>();
  readonly handedOut = new Set<string>();
  /** Every failure, in their order, with what it was. */
  readonly errors: { code?: string; retryAfterMs?: number; at: number }[] = [];
  /** Milliseconds from the beginning until each token was first handed out. */
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

  /** Settles when a token other than the old one was handed out, with the milliseconds that it took. */
  async served(oldAccessToken: string, timeoutMs = 20_000): Promise<number> {
    const isNew = () => [...this.handedOut].some((each) => each !== oldAccessToken);
    await until(isNew, timeoutMs);
    const [first = Infinity] = [...this.firstAt].flatMap(([token, at]) => (token === oldAccessToken ? [] : [at]));
    return first;
  }

  /** Settles when an error of this code was thrown, with the milliseconds that it took. */
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
