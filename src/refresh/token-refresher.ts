import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { AuthTokensRow } from '../storage/auth-tokens/auth-tokens-row.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { TokenRevocationsTable } from '../storage/token-revocations/token-revocations.table.js';
import type { TokenKey } from '../token-key.js';
import { within } from '../within.js';
import { type PairRefresh, pairTarget, type Redeemer } from './pair-refresh.js';
import { decide, isUsable, type RefreshDemand } from './refresh-decision.js';
import { RefreshDrain } from './refresh-drain.js';
import { RefreshFlights } from './refresh-flights.js';
import { inProgress, type RefreshTarget } from './refresh-target.js';
import { RefreshSettings } from './refresh.options.js';
import { type TokenDemand, TokenFreshness } from './token-freshness.js';
import { unlessAborted } from './unless-aborted.js';

/** What a caller asks of a token, and what ends its wait. */
export interface FreshTokenRequest extends TokenDemand {
  /** Ends the wait of this caller; the refresh goes on for the others and for the next call. */
  readonly signal?: AbortSignal;
}

/** Loads token pairs, and gets stale ones refreshed. */
@Injectable()
export class TokenRefresher {
  constructor(
    private readonly table: AuthTokensTable,
    private readonly revocations: TokenRevocationsTable,
    private readonly freshness: TokenFreshness,
    private readonly flights: RefreshFlights,
    private readonly drain: RefreshDrain,
    private readonly providers: IdentityProviderRegistry,
    private readonly settings: RefreshSettings,
  ) {}

  /**
   * The row with a token that meets the demand, refreshed if need be; null when there is no row. While no refresh
   * succeeds for a passing reason, a token that still works is returned with its real expiry.
   *
   * @throws {@link ReauthenticationRequiredError} | {@link RefreshInProgressError} | {@link RefreshUnavailableError} |
   * {@link ProviderMisconfiguredError} | {@link TokenStoreUnavailableError}, or what a callback threw
   */
  async load(key: TokenKey, redeemer: Redeemer, request: FreshTokenRequest = {}): Promise<AuthTokensRow | null> {
    const { signal } = request;
    const deadline = performance.now() + this.settings.waitTimeoutMs;
    const target = this.#target(key, redeemer);
    let row = await unlessAborted(() => this.table.load(key), signal);
    for (;;) {
      if (!row) return null;
      const demand = this.#demandOf(row, key, request);
      const step = decide(this.#asSeenHere(row, target.name), demand, target.rules, performance.now());
      if (step.kind === 'serve') return row;
      if (step.kind === 'refuse') throw target.errorOf(step.refusal);

      const blockingError = await this.#findBlockingError(target, row);
      if (blockingError) {
        if (this.#isUsable(target, row, request)) return row;
        throw blockingError;
      }
      const flight = this.flights.join(target, row, demand.isRejected, redeemer.source);
      const arrival = () => within(flight.result, deadline - performance.now(), () => inProgress(target));
      const result = await unlessAborted(arrival, signal);
      // A callback's decision is for callers with a callback; the others look again, and start a refresh of their own.
      const isForeign = flight.source !== redeemer.source;
      switch (result.kind) {
        case 'refreshed':
          // While they cannot be stored, tokens are handed out until they expire, and there are no others.
          if (this.#isUsable(target, result.row, request)) return result.row;
          throw target.errorOf({ reason: 'in_progress' });
        case 'unchanged':
          if (!isForeign) return result.row;
          row = await unlessAborted(() => target.load(), signal);
          break;
        case 'threw':
          if (!isForeign) throw result.error;
          row = await unlessAborted(() => target.load(), signal);
          break;
        case 'failed': {
          const current = await this.#lookAgain(row, target, signal);
          if (!current) return null;
          if (this.#isUsable(target, current, request)) return current;
          throw result.error;
        }
        case 'moved':
          if (performance.now() >= deadline) throw target.errorOf({ reason: 'in_progress' });
          row = result.row;
      }
    }
  }

  #demandOf(row: AuthTokensRow, key: TokenKey, request: FreshTokenRequest): RefreshDemand {
    const isMet = this.freshness.isFresh(row, key, request, performance.now() - row.readAt);
    return { isMet, isRejected: row.version === request.rejectedVersion };
  }

  #isUsable({ key, rules }: RefreshTarget<PairRefresh>, row: AuthTokensRow, request: FreshTokenRequest): boolean {
    return isUsable(row, this.#demandOf(row, key, request), rules.policy, performance.now());
  }

  /** The row after a refresh that failed: the exchange may have ended the access token that was seen before it. */
  #lookAgain(
    row: AuthTokensRow,
    target: RefreshTarget<PairRefresh>,
    signal: AbortSignal | undefined,
  ): Promise<AuthTokensRow | null> {
    const possiblyEnded: AuthTokensRow = { ...row, openLeases: row.openLeases + 1 };
    return unlessAborted(() => target.load().catch(() => possiblyEnded), signal);
  }

  /** A refresh that this process has under way may not have its lease yet, or store its tokens when that has run out. */
  #asSeenHere(row: AuthTokensRow, name: string): AuthTokensRow {
    const isUnheld = row.state === 'idle' || row.state === 'abandoned';
    return isUnheld && this.flights.has(name, row.version) ? { ...row, state: 'leased' } : row;
  }

  #target(key: TokenKey, redeemer: Redeemer): RefreshTarget<PairRefresh> {
    const { table, revocations, providers } = this;
    const policy = providers.policyOf(key.idp);
    return pairTarget(key, redeemer, { table, revocations, policy, provider: providers.find(key.idp) });
  }

  /** Why this row cannot be refreshed at all, if so. */
  async #findBlockingError(target: RefreshTarget<PairRefresh>, row: AuthTokensRow): Promise<Error | undefined> {
    const unavailable = (cause: string) => target.errorOf({ reason: 'unavailable', cause });
    if (!this.drain.mayStart()) return unavailable('the application is shutting down');
    if (!(await this.table.isUncommitted(target.key, row))) return undefined;
    return unavailable('they were stored in the current transaction, which must be committed first');
  }
}
