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
import { issuedToOtherClient, offlineTarget } from './offline-refresh.js';
import { OfflineTokenVault } from './offline-token-vault.js';
import { assertUnbound, claimsOf, clientOf, isBound } from './token-claims.js';

/** In milliseconds. It is shorter than every lifetime that a realm gives to its access tokens. */
const GOOD_FOR_MS = 30_000;
/** The demand of every call. No access token is stored that could meet it, so every call needs a new one. */
const ALWAYS = { isMet: false, isRejected: false };

/**
 * Refreshes the offline sessions of users at Keycloak with their stored offline tokens. One process at a time redeems
 * an offline token, under a lease in its row, as with the refresh token of a provider. The successor replaces it in the
 * row.
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
   * Redeems the stored offline token of a user, outside of every transaction. All callers of this process share one
   * exchange.
   *
   * @throws {@link KeycloakSessionExpiredError} when no offline token is stored, or when Keycloak no longer accepts it
   * @throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer, when another process takes too long,
   * when the application is shutting down, and when the current transaction stored the token, because no other
   * connection can replace it before the commit
   * @throws {@link KeycloakMisconfiguredError} when Keycloak refuses the client, or issued the token to another client
   */
  async refresh(userId: string): Promise<KeycloakTokens> {
    await this.#assertCommitted(userId);
    const deadline = performance.now() + this.settings.waitTimeoutMs;
    const { table, vault, client } = this;
    const target = offlineTarget(userId, { table, vault, client });
    await this.client.metadata(); // before the lease, because this request would use up its time
    let row = await this.table.loadCommitted(userId);
    for (;;) {
      if (!row) throw notStored(userId);
      const step = decide(row, ALWAYS, target.rules, performance.now());
      if (step.kind === 'refuse') throw target.errorOf(step.refusal);
      // Before the lease, because Keycloak would redeem the token for nothing.
      assertUnbound(
        claimsOf(this.vault.open(userId, row.offlineToken)),
        `The stored offline token of user "${userId}"`,
      );
      if (!this.drain.mayStart()) {
        throw target.errorOf({ reason: 'unavailable', cause: 'the application is shutting down' });
      }
      const { result } = this.flights.join(target, row, false, 'keycloak');
      const outcome = await within(result, deadline - performance.now(), () => inProgress(target));
      switch (outcome.kind) {
        case 'refreshed':
          // While PostgreSQL cannot store the successor, every caller gets this access token, but only while it
          // certainly works.
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
   * Stores the offline token of a user that has none, outside of every transaction. Does not change a stored token.
   *
   * @throws {@link KeycloakUnavailableError} when the current transaction has deleted the token, because the statement
   * would wait for its commit
   */
  async storeFirst(userId: string, offlineToken: string): Promise<void> {
    if (await this.table.load(userId)) return;
    await this.#assertCommitted(userId, true);
    const token = { offlineToken: this.vault.seal(userId, offlineToken) };
    await this.table.storeFirst(userId, token, this.client.realm.clientId);
  }

  /**
   * As {@link refresh} for a caller that has an offline token which Keycloak calls active. The token is stored if none
   * is stored, or if Keycloak no longer accepts the stored one. Otherwise the stored token is redeemed, because its row
   * can take the successor.
   */
  async refreshWith(userId: string, offlineToken: string): Promise<KeycloakTokens> {
    await this.#assertCommitted(userId, true);
    const { clientId } = this.client.realm;
    await this.storeFirst(userId, offlineToken);
    const before = await this.table.loadCommitted(userId);
    try {
      return await this.refresh(userId);
    } catch (error) {
      const isOver = error instanceof KeycloakSessionExpiredError || error instanceof TokenDecryptionError;
      if (!isOver || !before) throw error;
      // Only the token that was stored before the verdict is replaced, because a token stored since may be the
      // successor of this very token.
      const rejected = await this.table.loadCommitted(userId);
      if (rejected?.version === before.version) {
        const token = { offlineToken: this.vault.seal(userId, offlineToken) };
        const loaded = { loaded: rejected.offlineToken, loadedVersion: rejected.version };
        await this.table.replace(userId, loaded, token, clientId);
      }
      return this.refresh(userId);
    }
  }

  /**
   * Returns whether Keycloak says that the stored offline token is active. It redeems nothing. Returns false if none is
   * stored, and for a token that no import would use: one that is bound to a key, or whose client Keycloak does not
   * name.
   *
   * @throws {@link KeycloakMisconfiguredError} when Keycloak issued the active token to another client, because this
   * client cannot redeem it
   */
  async isActive(userId: string): Promise<boolean> {
    const stored = await this.table.load(userId);
    if (!stored) return false;
    const offlineToken = this.vault.open(userId, stored.offlineToken);
    const claims = await this.client.introspect(offlineToken);
    if (!claims.active) return false;
    const { clientId } = this.client.realm;
    const issuedTo = clientOf(offlineToken, claims, clientId);
    if (issuedTo === undefined) return false;
    if (issuedTo !== clientId) throw issuedToOtherClient(userId, issuedTo, clientId);
    return !isBound(claimsOf(offlineToken)) && !isBound(claims);
  }

  /**
   * Throws if the current transaction has stored or deleted the token, because other connections do not see this yet.
   */
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
