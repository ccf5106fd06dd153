import { Injectable, Logger } from '@nestjs/common';
import { type HealthIndicatorResult, HealthIndicatorService } from '@nestjs/terminus';

import { KeyRingCheck } from '../key-rotation/key-ring-check.js';
import { sqlStateOf } from '../postgres/driver-error.js';
import { RefreshCommitter } from '../refresh/refresh-committer.js';
import { RefreshDrain } from '../refresh/refresh-drain.js';
import { InvalidTokenInputError } from '../tokens.errors.js';
import { within } from '../within.js';

/** Options of {@link TokensHealthIndicator.isHealthy}. */
export interface TokensHealthOptions {
  /**
   * How long a refreshed pair may wait to be stored, in seconds. Default: 30. A commit that PostgreSQL does not answer
   * is tried again after 20 s, so a shorter time reports one lost answer. The shortest default lease without a replay
   * window is 95 s, and other processes take the row over after it.
   */
  readonly pairWaitingSeconds?: number;
  /** How long the database may take for its answer, in milliseconds. Default: 1000, as the checks of terminus have it. */
  readonly timeoutMs?: number;
}

/**
 * A health indicator of `@nestjs/terminus`, for a readiness probe. A host lists it in the providers of a module that
 * imports `TerminusModule` and sees the exports of `TokensModule`.
 *
 * It is no liveness probe: a process in which a pair waits to be stored has the only copy of the pair, and a restart
 * would lose it.
 */
@Injectable()
export class TokensHealthIndicator {
  readonly #logger = new Logger(TokensHealthIndicator.name);
  #look: Promise<string[]> | undefined;
  #loggedFaults = '';

  constructor(
    private readonly indicators: HealthIndicatorService,
    private readonly keys: KeyRingCheck,
    private readonly committer: RefreshCommitter,
    private readonly drain: RefreshDrain,
  ) {}

  /**
   * Returns `up` if the database answers, the key ring fits the table `token_keys`, no refreshed pair waits too long to
   * be stored, and the application is not shutting down. Otherwise it returns `down` with `faults`, a sentence for each.
   * The result has counts and seconds, and no user, no token and no key id. The log names the keys.
   *
   * A call reads `token_keys` once and writes nothing. Calls at the same time share one statement, so frequent probes
   * take no more than one connection of the pool. After a database that was silent is back, the statement under way
   * keeps the result down for at most `connectionTimeoutMs`.
   *
   * @param key the name of the indicator in the answer of the health check
   * @throws {@link InvalidTokenInputError} for a bad option
   */
  async isHealthy<const Key extends string>(
    key: Key,
    { pairWaitingSeconds = 30, timeoutMs = 1000 }: TokensHealthOptions = {},
  ): Promise<HealthIndicatorResult<Key>> {
    for (const [name, value] of Object.entries({ pairWaitingSeconds, timeoutMs })) {
      if (!(Number.isFinite(value) && value > 0)) throw new InvalidTokenInputError(`${name} must be a number above 0.`);
    }
    const faults = this.drain.mayStart()
      ? await this.#databaseFaults(timeoutMs)
      : ['The application is shutting down.'];
    const { pairs, longestMs } = this.committer.waiting();
    const details = { pairsWaiting: pairs, longestWaitSeconds: Math.floor(longestMs / 1000) };
    if (longestMs > pairWaitingSeconds * 1000) {
      faults.push(`A refreshed pair has been waiting to be stored for ${details.longestWaitSeconds} s.`);
    }
    const session = this.indicators.check(key);
    return faults.length === 0 ? session.up(details) : session.down({ faults, ...details });
  }

  async #databaseFaults(timeoutMs: number): Promise<string[]> {
    try {
      const faults = await within(this.#lookAtKeys(), timeoutMs, () => undefined);
      if (!faults) return [`The database has not answered within ${timeoutMs} ms.`];
      this.#logOnce(faults);
      if (faults.length === 0) return [];
      const count = faults.length === 1 ? '1 fault. The log has it.' : `${faults.length} faults. The log has them.`;
      return [`encryption.keys does not fit the tokens of this database: ${count}`];
    } catch (error) {
      const state = sqlStateOf(error);
      return [`The database does not answer${state === undefined ? '' : ` (SQLSTATE ${state})`}.`];
    }
  }

  /** Returns the faults of the key ring. Calls at the same time share one statement. */
  #lookAtKeys(): Promise<string[]> {
    this.#look ??= this.keys.presentFaults().finally(() => {
      this.#look = undefined;
    });
    return this.#look;
  }

  /** Probes are frequent, so the log gets faults once, until they change. */
  #logOnce(faults: readonly string[]): void {
    const text = faults.join('\n- ');
    if (text !== '' && text !== this.#loggedFaults) {
      this.#logger.error(`encryption.keys does not fit the tokens of this database:\n- ${text}`);
    }
    this.#loggedFaults = text;
  }
}
