import { setTimeout as delay } from 'node:timers/promises';

import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';

import { QueryRunnerScope } from '../postgres/query-runner.scope.js';
import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { RefreshPolicy } from '../identity-providers/refresh-policy.js';
import { ReauthenticationRequiredError, RefreshInProgressError, RefreshUnavailableError } from '../tokens.errors.js';
import { type AccessTokenRow, type AuthTokensRow, rowName } from '../storage/auth-tokens/auth-tokens.row.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import type { AuthTokensKey } from '../storage/auth-tokens/auth-tokens.types.js';
import { canServeMeanwhile, LeasedRefresh, shuttingDown, type StaleRow } from './leased-refresh.js';
import type { Redeemer } from './redeemer.js';
import { RefreshOptions } from './refresh.options.js';
import { RefreshedPairCommitter } from './refreshed-pair.committer.js';
import { passing, type RefreshResult } from './refresh-exchange.js';
import { isFresh, isUsable, type TokenDemand } from './token-freshness.js';
import { untilAborted } from './until-aborted.js';
import { within } from '../postgres/within.js';

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

  /** The access token of an active row, in one lean read; whether it meets a demand is for {@link isFresh} to say. */
  find(key: AuthTokensKey, signal?: AbortSignal): Promise<AccessTokenRow | null> {
    if (!signal) return this.table.findAccessToken(key);
    return untilAborted(() => this.table.findAccessToken(key), signal);
  }

  /** Whether a token may be handed out as it is. */
  isFresh(row: AccessTokenRow, key: AuthTokensKey, demand: TokenDemand): boolean {
    const leewaySeconds = this.providers.policyOf(key.idp).leewaySeconds ?? this.options.leewaySeconds;
    return isFresh(row, demand, key, leewaySeconds);
  }

  /**
   * The row with a token that meets the demand, refreshed if need be; null when there is no row. While no refresh
   * succeeds for a passing reason, a token that still works is returned with its real expiry.
   *
   * @throws {@link ReauthenticationRequiredError} | {@link RefreshInProgressError} | {@link RefreshUnavailableError} |
   * {@link ProviderMisconfiguredError} | {@link TokenStoreUnavailableError}, or what `redeem` abandoned the refresh with
   */
  async load(key: AuthTokensKey, redeemer: Redeemer, request: FreshTokenRequest = {}): Promise<AuthTokensRow | null> {
    const { signal } = request;
    const name = rowName(key);
    const policy = this.providers.policyOf(key.idp);
    const deadline = performance.now() + this.options.waitTimeoutMs;

    let row = await (signal ? untilAborted(() => this.table.load(key), signal) : this.table.load(key));
    for (;;) {
      if (!row) return null;
      if (row.status !== 'active') throw new ReauthenticationRequiredError(key, 'refresh_rejected');
      if (this.isFresh(row, key, request)) return row;

      const stale: StaleRow = { key, row, isRejected: row.tokens.version === request.rejectedVersion };
      const obstacle = await this.#obstacle(stale, name);
      const flight = obstacle ? grounded(obstacle, redeemer) : this.#fly(stale, redeemer, policy);
      const waitMs = deadline - performance.now();
      const arrival = within(flight.result, waitMs, () => passing(new RefreshInProgressError(key)));
      const result = await (signal ? untilAborted(() => arrival, signal) : arrival);
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
    this.leasedRefresh.stop();
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
  async #obstacle({ key, row }: StaleRow, name: string): Promise<Error | undefined> {
    if (!row.tokens.refreshToken) return new ReauthenticationRequiredError(key, 'no_refresh_token');
    if (row.refreshTokenValidForSeconds <= 0) return new ReauthenticationRequiredError(key, 'refresh_token_expired');
    if (this.#isStopping) return shuttingDown(key);
    if (this.scope.context()?.hasWritten(name)) {
      const committed = await this.table.loadCommitted(key);
      if (committed?.tokens.version === row.tokens.version) return undefined;
      const cause = 'they were stored in the current transaction, which must be committed first';
      return new RefreshUnavailableError(key, cause);
    }
    return undefined;
  }

  #fly(stale: StaleRow, { source, redeem }: Redeemer, policy: RefreshPolicy): Flight {
    const name = rowName(stale.key);
    const underWay = this.#flights.get(name);
    if (underWay) {
      if (!canServeMeanwhile(stale, policy)) return underWay;
      return grounded(new RefreshInProgressError(stale.key), { source });
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
}

/** A refresh that callers of this process share, and on whose behalf it redeems. */
interface Flight {
  readonly source: Redeemer['source'];
  readonly result: Promise<RefreshResult>;
}

/** A flight that does not start. */
function grounded(error: Error, { source }: Pick<Redeemer, 'source'>): Flight {
  return { source, result: Promise.resolve(passing(error)) };
}
