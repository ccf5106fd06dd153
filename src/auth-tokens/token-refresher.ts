import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';

import { QueryRunnerScope } from '../database/query-runner.scope.js';
import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { RefreshPolicy } from '../identity-providers/refresh-policy.js';
import { ReauthenticationRequiredError, RefreshInProgressError, RefreshUnavailableError } from '../tokens.errors.js';
import { type AuthTokensRow, rowName } from './auth-tokens.row.js';
import { AuthTokensTable } from './auth-tokens.table.js';
import type { AuthTokensKey } from './auth-tokens.types.js';
import { canServeMeanwhile, LeasedRefresh, type StaleRow } from './leased-refresh.js';
import type { Redeemer } from './redeemer.js';
import { RefreshOptions } from './refresh.options.js';
import { RefreshedPairCommitter } from './refreshed-pair.committer.js';
import type { RefreshResult } from './refresh-exchange.js';
import { isFresh, isUsable, type TokenDemand } from './token-freshness.js';

/** What a caller asks of a token, and what ends its wait. */
export interface FreshTokenRequest extends TokenDemand {
  /** Ends the wait of this caller; the refresh goes on for the others and for the next call. */
  readonly signal?: AbortSignal;
}

/**
 * Reads token pairs and gets stale ones refreshed. In front of the leases stands a single flight: all callers of this
 * process that find one pair stale share one refresh, which belongs to none of them.
 */
@Injectable()
export class TokenRefresher implements OnModuleDestroy {
  readonly #logger = new Logger(TokenRefresher.name);
  readonly #flights = new Map<string, Flight>();
  /** Refreshes whose pairs may not be stored yet. */
  readonly #landings = new Set<Promise<unknown>>();
  #isStopping = false;

  constructor(
    private readonly table: AuthTokensTable,
    private readonly leasedRefresh: LeasedRefresh,
    private readonly committer: RefreshedPairCommitter,
    private readonly scope: QueryRunnerScope,
    private readonly providers: IdentityProviderRegistry,
    private readonly options: RefreshOptions,
  ) {}

  /**
   * The row with a token that meets the demand, refreshed if need be; null when there is no row. While no refresh
   * succeeds for a passing reason, a token that still works is returned with its real expiry.
   *
   * @throws {@link ReauthenticationRequiredError} | {@link RefreshInProgressError} | {@link RefreshUnavailableError} |
   * {@link ProviderMisconfiguredError} | {@link TokenStoreUnavailableError}, or what `redeem` abandoned the refresh with
   */
  async load(key: AuthTokensKey, redeemer: Redeemer, request: FreshTokenRequest = {}): Promise<AuthTokensRow | null> {
    const { signal } = request;
    signal?.throwIfAborted();
    const name = rowName(key);
    const policy = this.providers.policyOf(key.idp);
    const leewaySeconds = policy.leewaySeconds ?? this.options.leewaySeconds;
    const deadline = performance.now() + this.options.waitTimeoutMs;

    let row = await (signal ? untilAborted(this.table.load(key), signal) : this.table.load(key));
    for (;;) {
      if (!row) return null;
      if (row.status !== 'active') throw new ReauthenticationRequiredError(key, 'refresh_rejected');
      if (isFresh(row, request, name, leewaySeconds)) return row;

      const stale: StaleRow = { key, row, isRejected: row.tokens.version === request.rejectedVersion };
      const obstacle = await this.#obstacle(stale, name);
      const flight = obstacle ? { source: redeemer.source, result: obstacle } : this.#fly(stale, redeemer, policy);
      const result = await this.#withinWait(flight.result, stale, deadline, signal);
      // A callback's decision is for callers with a callback; the others look again, and start a flight of their own.
      const isForeign = flight.source !== redeemer.source;
      switch (result.kind) {
        case 'refreshed':
          if (result.row.tokens.version !== request.rejectedVersion) return result.row;
          throw new RefreshInProgressError(key);
        case 'unchanged':
          if (!isForeign) return result.row;
          row = await this.table.loadCommitted(key);
          break;
        case 'abandoned':
          if (!isForeign) throw result.error;
          row = await this.table.loadCommitted(key);
          break;
        case 'failed':
          if (result.isPassing && isUsable(row, request)) return row;
          throw result.error;
        case 'moved':
          if (result.row?.status === 'active' && isUsable(result.row, request)) return result.row;
          row = result.row;
      }
    }
  }

  /** Waits for the refreshes under way and for their pairs to be stored: what is lost here is lost for good. */
  async onModuleDestroy(): Promise<void> {
    this.#isStopping = true;
    const deadline = performance.now() + this.options.shutdownTimeoutMs;
    while (this.#landings.size > 0 && performance.now() < deadline) {
      await Promise.race([
        Promise.allSettled(this.#landings),
        delay(deadline - performance.now(), undefined, { ref: false }),
      ]);
    }
    this.committer.stop();
    if (this.#landings.size === 0) return;
    this.#logger.error(`${this.#landings.size} refreshes did not end within refresh.shutdownTimeoutMs.`);
  }

  /** Why this row cannot be refreshed at all, if so; a usable token is returned all the same. */
  async #obstacle({ key, row }: StaleRow, name: string): Promise<RefreshResult | undefined> {
    const failed = (error: Error): RefreshResult => ({ kind: 'failed', error, isPassing: true });
    if (!row.tokens.refreshToken) return failed(new ReauthenticationRequiredError(key, 'no_refresh_token'));
    if (row.refreshTokenValidForSeconds <= 0) {
      return failed(new ReauthenticationRequiredError(key, 'refresh_token_expired'));
    }
    if (this.#isStopping) return failed(new RefreshUnavailableError(key, 'the application is shutting down'));
    if (this.scope.context()?.hasWritten(name)) {
      const committed = await this.table.loadCommitted(key);
      if (committed?.tokens.version === row.tokens.version) return undefined;
      const cause = 'they were stored in the current transaction, which must be committed first';
      return failed(new RefreshUnavailableError(key, cause));
    }
    return undefined;
  }

  #fly(stale: StaleRow, { source, redeem }: Redeemer, policy: RefreshPolicy): Flight {
    const name = rowName(stale.key);
    const underWay = this.#flights.get(name);
    if (underWay) {
      if (!canServeMeanwhile(stale, policy)) return underWay;
      return { source, result: { kind: 'failed', error: new RefreshInProgressError(stale.key), isPassing: true } };
    }
    const result = this.scope.detached(() => this.leasedRefresh.run(stale, redeem, policy));
    const flight: Flight = { source, result };
    this.#flights.set(name, flight);
    this.#track(
      result
        .then(async ({ landing, late }) => {
          if (late) this.#track(late);
          // The flight stays until its pair is stored: a second one would redeem the same token again.
          await landing;
        })
        .finally(() => this.#flights.delete(name)),
    );
    return flight;
  }

  #track(work: Promise<unknown>): void {
    const landing = work
      .then(
        () => undefined,
        () => undefined, // told to those who wait for it
      )
      .finally(() => this.#landings.delete(landing));
    this.#landings.add(landing);
  }

  async #withinWait(
    result: RefreshResult | Promise<RefreshResult>,
    { key }: StaleRow,
    deadline: number,
    signal: AbortSignal | undefined,
  ): Promise<RefreshResult> {
    const wait = new AbortController();
    const timeout = delay(Math.max(0, deadline - performance.now()), undefined, {
      signal: signal ? AbortSignal.any([signal, wait.signal]) : wait.signal,
    }).then(
      (): RefreshResult => ({ kind: 'failed', error: new RefreshInProgressError(key), isPassing: true }),
      (): RefreshResult => ({ kind: 'failed', error: signal?.reason, isPassing: false }),
    );
    try {
      return await Promise.race([result, timeout]);
    } finally {
      wait.abort();
    }
  }
}

/** A refresh that callers of this process share, and on whose behalf it redeems. */
interface Flight {
  readonly source: Redeemer['source'];
  readonly result: RefreshResult | Promise<RefreshResult>;
}

/** Settles as the work does, or rejects with the reason of the signal when that comes first. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const done = new AbortController();
  try {
    const aborted = once(signal, 'abort', { signal: done.signal }).then(() => Promise.reject(signal.reason as Error));
    return await Promise.race([work, aborted]);
  } finally {
    done.abort();
  }
}
