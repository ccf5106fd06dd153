import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';

import { within } from '../within.js';
import { RefreshSettings } from './refresh.options.js';

/**
 * Coordinates the shutdown. From its beginning the module starts no refresh, takeover or revocation. The shutdown waits
 * for the work under way until one deadline, `refresh.shutdownTimeoutMs` after it began. Tokens that are not stored by
 * then are lost.
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

  /** Whether work that talks to a provider may start. It is false from the beginning of the shutdown. */
  mayStart(): boolean {
    return !this.#stopping.signal.aborted;
  }

  /** Whether the shutdown no longer waits. Work that is tried again and again then ends. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Makes the shutdown wait for some work. Ignores its rejection, because the caller that started the work handles it.
   */
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
