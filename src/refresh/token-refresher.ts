import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { AuthTokensRow } from '../storage/auth-tokens/auth-tokens-row.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { TokenRevocationsTable } from '../storage/token-revocations/token-revocations.table.js';
import type { AccountKey } from '../token-key.js';
import { within } from '../within.js';
import { type PairRefresh, pairTarget, type Redeemer } from './pair-refresh.js';
import { decide, isUsable, type RefreshDemand } from './refresh-decision.js';
import { RefreshDrain } from './refresh-drain.js';
import { RefreshFlights } from './refresh-flights.js';
import { inProgress, type RefreshTarget } from './refresh-target.js';
import { RefreshSettings } from './refresh.options.js';
import type { ScopeRequirement } from './scope-requirement.js';
import { type TokenDemand, TokenFreshness } from './token-freshness.js';
import { unlessAborted } from './unless-aborted.js';

/** The demand of a caller, and the signal that ends its wait. */
export interface FreshTokenRequest extends TokenDemand {
  /** Ends the wait of this caller. The refresh goes on for the other callers and for the next call. */
  readonly signal?: AbortSignal | undefined;
}

/** Loads token pairs, and refreshes stale ones. */
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
   * Returns the row with a token that meets the demand, after a refresh if the token is stale; null when there is no
   * row. While no refresh succeeds, it returns a token that still works, with its real expiry. It starts no refresh of a
   * row that lacks required scopes.
   *
   * @throws {@link InsufficientScopeError} when the row lacks required scopes
   * @throws {@link ReauthenticationRequiredError} | {@link RefreshInProgressError} | {@link RefreshUnavailableError} |
   * {@link ProviderMisconfiguredError} | {@link TokenStoreUnavailableError}, or what a callback threw
   */
  async load(
    key: AccountKey,
    redeemer: Redeemer,
    request: FreshTokenRequest = {},
    required?: ScopeRequirement,
  ): Promise<AuthTokensRow | null> {
    const { signal } = request;
    const deadline = performance.now() + this.settings.waitTimeoutMs;
    const target = this.#target(key, redeemer);
    let row = await unlessAborted(() => this.table.load(key), signal);
    for (;;) {
      if (!row) return null;
      required?.check(key, row.tokens.scopes); // a refresh never widens what the user granted
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
      // The decision of a callback counts only for callers with a callback. The other callers load the row again, and
      // start a refresh of their own.
      const isForeign = flight.source !== redeemer.source;
      switch (result.kind) {
        case 'refreshed':
          // Callers also get tokens that are not stored yet, until these expire. After that there are no tokens to
          // serve.
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

  #demandOf(row: AuthTokensRow, key: AccountKey, request: FreshTokenRequest): RefreshDemand {
    const isMet = this.freshness.isFresh(row, key, request, performance.now() - row.readAt);
    return { isMet, isRejected: row.version === request.rejectedVersion };
  }

  #isUsable({ key, rules }: RefreshTarget<PairRefresh>, row: AuthTokensRow, request: FreshTokenRequest): boolean {
    return isUsable(row, this.#demandOf(row, key, request), rules.policy, performance.now());
  }

  /**
   * Loads the row after a failed refresh. If it cannot, it returns the row with one open lease more, because the
   * exchange may have ended the access token.
   */
  #lookAgain(
    row: AuthTokensRow,
    target: RefreshTarget<PairRefresh>,
    signal: AbortSignal | undefined,
  ): Promise<AuthTokensRow | null> {
    const possiblyEnded: AuthTokensRow = { ...row, openLeases: row.openLeases + 1 };
    return unlessAborted(() => target.load().catch(() => possiblyEnded), signal);
  }

  /**
   * Returns an idle or abandoned row as leased while this process refreshes it. The refresh may not have its lease yet,
   * or it may have a pending commit after its lease expired.
   */
  #asSeenHere(row: AuthTokensRow, name: string): AuthTokensRow {
    const isUnheld = row.state === 'idle' || row.state === 'abandoned';
    return isUnheld && this.flights.has(name, row.version) ? { ...row, state: 'leased' } : row;
  }

  #target(key: AccountKey, redeemer: Redeemer): RefreshTarget<PairRefresh> {
    const { table, revocations, providers } = this;
    const policy = providers.policyOf(key.idp);
    return pairTarget(key, redeemer, { table, revocations, policy, provider: providers.find(key.idp) });
  }

  /** Returns the error if no refresh of this row may start now. */
  async #findBlockingError(target: RefreshTarget<PairRefresh>, row: AuthTokensRow): Promise<Error | undefined> {
    const unavailable = (cause: string) => target.errorOf({ reason: 'unavailable', cause });
    if (!this.drain.mayStart()) return unavailable('the application is shutting down');
    if (!(await this.table.isUncommitted(target.key, row))) return undefined;
    return unavailable('they were stored in the current transaction, which must be committed first');
  }
}
