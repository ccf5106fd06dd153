import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';

import { within } from '../within.js';
import { RefreshSettings } from './refresh.options.js';

/**
 * The one coordinator of a shutdown: tells everything at once to start nothing more, and waits for what is under way until
 * one deadline, `refresh.shutdownTimeoutMs`. Tokens that are not stored by then are lost.
 */
@Injectable()
export class RefreshDrain implements OnModuleDestroy {
  readonly #logger = new Logger(RefreshDrain.name);
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #stopping = new AbortController();
  #isOver = false;

  constructor(private readonly settings: RefreshSettings) {}

  /** Aborts when the shutdown begins. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Whether something may start that talks to a provider; false from the beginning of the shutdown on. */
  mayStart(): boolean {
    return !this.#stopping.signal.aborted;
  }

  /** Whether the deadline has passed, so that what is tried again and again is given up. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Has the shutdown wait for some work. Its rejection is for those who started it. */
  track(work: Promise<unknown>): void {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.#underWay.add(settled);
    void settled.finally(() => this.#underWay.delete(settled));
  }

  async onModuleDestroy(): Promise<void> {
    this.#stopping.abort();
    const deadline = performance.now() + this.settings.shutdownTimeoutMs;
    while (this.#underWay.size > 0 && performance.now() < deadline) {
      await within(Promise.all(this.#underWay), deadline - performance.now(), () => undefined);
    }
    this.#isOver = true;
    if (this.#underWay.size === 0) return;
    this.#logger.error(`${this.#underWay.size} refreshes or revocations did not end within refresh.shutdownTimeoutMs.`);
  }
}
