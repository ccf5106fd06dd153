import { Injectable, Logger, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';

import { TokensConfigurationError } from '../tokens.errors.js';
import { KeyRingCheck } from './key-ring-check.js';

/** The time between two tries of a check that was not possible at the boot. */
const RETRY_INTERVAL_MS = 10_000;

/**
 * Has the key ring checked when the application boots. A wrong or missing key then stops the boot, and no user meets it.
 * Reads and stores of tokens do not use the registry.
 */
@Injectable()
export class TokenKeyRegistry implements OnApplicationBootstrap, OnModuleDestroy {
  readonly #logger = new Logger(TokenKeyRegistry.name);
  #checked: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #retry: Promise<void> | undefined;

  constructor(private readonly check: KeyRingCheck) {}

  /**
   * Checks the key ring, and registers the key that seals if it is new. It runs after `onModuleInit` of the host, where
   * hosts apply the migrations.
   *
   * If the data source is not initialised, if there is no table of the keys, or if the server is read-only, it warns
   * once, and tries again every 10 s until it has registered the key. A fault that it finds then is an error in the log,
   * and the health indicator is down.
   *
   * @throws {@link TokensConfigurationError} that names every key that is missing, retired or another one
   * @throws {@link TokenStoreUnavailableError} when PostgreSQL does not execute a statement
   */
  onApplicationBootstrap(): Promise<void> {
    return this.whenChecked();
  }

  /**
   * Settles when the check of the boot has ended. Nest calls all hooks of the boot at once, so what must not begin
   * before the check waits for it.
   *
   * @throws {@link TokensConfigurationError} | {@link TokenStoreUnavailableError} as the boot does
   */
  whenChecked(): Promise<void> {
    return (this.#checked ??= this.#checkAtBoot());
  }

  /** Ends the tries. */
  async onModuleDestroy(): Promise<void> {
    clearInterval(this.#timer);
    await this.#retry;
  }

  async #checkAtBoot(): Promise<void> {
    const obstacle = await this.check.run();
    if (obstacle === undefined) return;
    this.#logger.warn(obstacle);
    this.#timer = setInterval(() => {
      this.#retry ??= this.#tryAgain().finally(() => {
        this.#retry = undefined;
      });
    }, RETRY_INTERVAL_MS);
    this.#timer.unref();
  }

  /** Never rejects. */
  async #tryAgain(): Promise<void> {
    try {
      if ((await this.check.run()) === undefined) clearInterval(this.#timer);
    } catch (error) {
      if (!(error instanceof TokensConfigurationError)) return; // PostgreSQL does not answer, and the next try is soon
      clearInterval(this.#timer);
      this.#logger.error(error.message);
    }
  }
}
