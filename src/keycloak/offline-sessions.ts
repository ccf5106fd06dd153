import { Injectable } from '@nestjs/common';

import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { decide } from '../refresh/refresh-decision.js';
import { RefreshDrain } from '../refresh/refresh-drain.js';
import { RefreshFlights } from '../refresh/refresh-flights.js';
import { inProgress } from '../refresh/refresh-target.js';
import { RefreshSettings } from '../refresh/refresh.options.js';
import { OfflineTokensTable } from '../storage/offline-tokens/offline-tokens.table.js';
import { KeycloakSessionExpiredError, KeycloakUnavailableError, TokenDecryptionError } from '../tokens.errors.js';
import { within } from '../within.js';
import { KeycloakClient } from './keycloak-client.js';
import type { KeycloakTokens } from './keycloak-tokens.js';
import { offlineTarget } from './offline-refresh.js';
import { OfflineTokenVault } from './offline-token-vault.js';

/** Less than any lifetime that a realm gives its access tokens. */
const GOOD_FOR_MS = 30_000;
/** There is no stored access token that could be good enough: every call is for a new one. */
const ALWAYS = { isMet: false, isRejected: false };

/**
 * The offline sessions of users at Keycloak, by their stored offline tokens. A token is redeemed as a provider's refresh
 * token is: under a lease in its own row, by one process at a time, its successor stored before anything else happens.
 */
@Injectable()
export class OfflineSessions {
  constructor(
    private readonly table: OfflineTokensTable,
    private readonly vault: OfflineTokenVault,
    private readonly client: KeycloakClient,
    private readonly flights: RefreshFlights,
    private readonly scope: QueryRunnerScope,
    private readonly drain: RefreshDrain,
    private readonly settings: RefreshSettings,
  ) {}

  /**
   * Redeems the stored offline token of a user; all callers of this process share one exchange.
   *
   * @throws {@link KeycloakSessionExpiredError} when none is stored, or Keycloak does not accept it any more
   * @throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer, when another process takes too long,
   * and when the token was stored in the current transaction: no other connection could see its successor
   * @throws {@link KeycloakMisconfiguredError} when Keycloak refuses the client, or issued the token to another
   */
  async refresh(userId: string): Promise<KeycloakTokens> {
    await this.#assertCommitted(userId);
    const deadline = performance.now() + this.settings.waitTimeoutMs;
    const { table, vault, client } = this;
    const target = offlineTarget(userId, { table, vault, client });
    await this.client.metadata(); // not on the time of the lease
    let row = await this.table.loadCommitted(userId);
    for (;;) {
      if (!row) throw notStored(userId);
      const step = decide(row, ALWAYS, target.rules, performance.now());
      if (step.kind === 'refuse') throw target.errorOf(step.refusal);
      if (!this.drain.mayStart()) {
        throw target.errorOf({ reason: 'unavailable', cause: 'the application is shutting down' });
      }
      const { result } = this.flights.join(target, row, false, 'keycloak');
      const outcome = await within(result, deadline - performance.now(), () => inProgress(target));
      switch (outcome.kind) {
        case 'refreshed':
          // While its successor cannot be stored, callers get what an exchange brought as long as it is surely good.
          if (performance.now() - outcome.row.readAt < GOOD_FOR_MS) return outcome.issued;
          throw target.errorOf({ reason: 'in_progress' });
        case 'failed':
        case 'threw':
          throw outcome.error;
        default:
          if (outcome.kind === 'moved' && outcome.issued) return outcome.issued;
          if (performance.now() >= deadline) throw target.errorOf({ reason: 'in_progress' });
          row = outcome.row;
      }
    }
  }

  /**
   * As {@link refresh} for a caller who has an offline token that Keycloak calls active. It is stored where none is, and in
   * the place of one that is not accepted any more; otherwise the stored one is redeemed, which has a place for its
   * successor.
   */
  async refreshWith(userId: string, offlineToken: string): Promise<KeycloakTokens> {
    await this.#assertCommitted(userId, true);
    const token = { offlineToken: this.vault.seal(userId, offlineToken) };
    const { clientId } = this.client.realm;
    await this.table.storeFirst(userId, token, clientId);
    const before = await this.table.loadCommitted(userId);
    try {
      return await this.refresh(userId);
    } catch (error) {
      const isOver = error instanceof KeycloakSessionExpiredError || error instanceof TokenDecryptionError;
      if (!isOver || !before) throw error;
      // What is stored by now may be the successor of this very token: only what was there before the verdict gives way.
      const rejected = await this.table.loadCommitted(userId);
      if (rejected?.version === before.version)
        await this.table.replace(userId, rejected.offlineToken, token, clientId);
      return this.refresh(userId);
    }
  }

  /** Whether Keycloak says that the stored offline token is active; false when none is stored. Spends nothing. */
  async isActive(userId: string): Promise<boolean> {
    const stored = await this.table.load(userId);
    return stored !== null && (await this.client.introspect(this.vault.open(userId, stored.offlineToken))).active;
  }

  /** What the current transaction has stored is not redeemed, and what it has deleted is not there. */
  async #assertCommitted(userId: string, mayBeAbsent = false): Promise<void> {
    if (!this.scope.transaction()) return;
    const row = await this.table.load(userId);
    if (!row && !mayBeAbsent) throw notStored(userId);
    if (!(await this.table.isUncommitted(userId, row))) return;
    throw new KeycloakUnavailableError(
      `The offline token of user "${userId}" was ${row ? 'stored' : 'deleted'} in the current transaction. Commit it before ` +
        'you use the token.',
    );
  }
}

function notStored(userId: string): KeycloakSessionExpiredError {
  return new KeycloakSessionExpiredError(
    `User "${userId}" has no offline token stored. Let the user log in with scope "offline_access".`,
  );
}
