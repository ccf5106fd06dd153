import { setTimeout as delay } from 'node:timers/promises';

import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';

import { RefreshOptions } from '../refresh/refresh.options.js';
import { randomId } from '../crypto/random.js';
import { QueryRunnerScope } from '../postgres/query-runner.scope.js';
import { LEASE_MARGIN_MS } from '../identity-providers/refresh-policy.js';
import { KeycloakClient } from '../keycloak/keycloak.client.js';
import { KeycloakTokens } from '../keycloak/keycloak-tokens.js';
import { OfflineTokenLeases } from '../storage/offline-tokens/offline-token.leases.js';
import { offlineRowName, OfflineTokenStore } from '../storage/offline-tokens/offline-token.store.js';
import { KeycloakSessionExpiredError, KeycloakUnavailableError, TokenStoreUnavailableError } from '../tokens.errors.js';
import { within } from '../postgres/within.js';
import { OfflineTokenVault } from './offline-token.vault.js';

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1000;
const LONGEST_STORE_PAUSE_MS = 2000;

/**
 * The offline sessions of users at Keycloak, by their stored offline tokens. A token is redeemed under a lease in its own
 * row, by one caller of all processes at a time, and its successor is stored before anything else happens.
 */
@Injectable()
export class OfflineSessions implements OnModuleDestroy {
  readonly #logger = new Logger(OfflineSessions.name);
  readonly #refreshes = new Map<string, Promise<KeycloakTokens>>();
  readonly #storing = new Set<Promise<void>>();
  #isStopping = false;
  #isStopped = false;

  constructor(
    private readonly store: OfflineTokenStore,
    private readonly leases: OfflineTokenLeases,
    private readonly vault: OfflineTokenVault,
    private readonly client: KeycloakClient,
    private readonly scope: QueryRunnerScope,
    private readonly options: RefreshOptions,
  ) {}

  /**
   * Redeems the stored offline token of a user; all callers of this process share one redemption.
   *
   * @throws {@link KeycloakSessionExpiredError} when none is stored, or Keycloak does not accept it any more
   * @throws {@link KeycloakUnavailableError} when Keycloak gives no usable answer, when another process takes too long,
   * and when the token was stored in the current transaction: nobody else could see its successor
   */
  async refresh(userId: string): Promise<KeycloakTokens> {
    this.#assertCommitted(userId);
    const underWay = this.#refreshes.get(userId);
    if (underWay) return underWay;
    const refresh = this.#refresh(userId).finally(() => this.#refreshes.delete(userId));
    this.#refreshes.set(userId, refresh);
    return refresh;
  }

  /**
   * As {@link refresh} for whoever holds an offline token that Keycloak calls active. It is stored where none is, and in
   * the place of one that is not accepted any more; otherwise the stored one is redeemed, which has a place for its
   * successor.
   */
  async refreshWith(userId: string, offlineToken: string): Promise<KeycloakTokens> {
    this.#assertCommitted(userId);
    const sealed = this.vault.seal(userId, offlineToken);
    await this.leases.storeFirst(userId, sealed);
    const stored = await this.leases.load(userId);
    try {
      return await this.refresh(userId);
    } catch (error) {
      const isOther = stored !== null && this.vault.open(userId, stored) !== offlineToken;
      if (!(error instanceof KeycloakSessionExpiredError) || !isOther) throw error;
      await this.store.replaceToken(userId, stored, sealed);
      return this.refresh(userId);
    }
  }

  /** Whether Keycloak says that the stored offline token is active; false when none is stored. Spends nothing. */
  async isActive(userId: string): Promise<boolean> {
    const stored = await this.store.loadToken(userId);
    return stored !== null && (await this.client.introspect(this.vault.open(userId, stored))).active;
  }

  /** Waits for successors to be stored: what is lost here is lost for good. */
  async onModuleDestroy(): Promise<void> {
    this.#isStopping = true;
    const deadline = performance.now() + this.options.shutdownTimeoutMs;
    while (this.#refreshes.size + this.#storing.size > 0 && performance.now() < deadline) {
      const pending = Promise.allSettled([...this.#refreshes.values(), ...this.#storing]);
      await Promise.race([pending, delay(deadline - performance.now(), undefined, { ref: false })]);
    }
    this.#isStopped = true;
    if (this.#storing.size === 0) return;
    this.#logger.error(
      `${this.#storing.size} new offline tokens could not be stored within refresh.shutdownTimeoutMs.`,
    );
  }

  #assertCommitted(userId: string): void {
    if (!this.scope.context()?.hasWritten(offlineRowName(userId))) return;
    throw new KeycloakUnavailableError(
      `The offline token of user "${userId}" was stored in the current transaction. Commit it before you use the token.`,
    );
  }

  async #refresh(userId: string): Promise<KeycloakTokens> {
    await this.client.metadata(); // not on the time of the lease
    const deadline = performance.now() + this.options.waitTimeoutMs;
    for (let attempt = 0; ; attempt++) {
      if (this.#isStopping) throw new KeycloakUnavailableError('The application is shutting down. Try again shortly.');
      const stored = await this.leases.load(userId);
      if (stored === null) {
        throw new KeycloakSessionExpiredError(
          `User "${userId}" has no offline token stored. Let the user log in with scope "offline_access".`,
        );
      }
      const offlineToken = this.vault.open(userId, stored);
      const lease = await this.#acquire(userId, stored);
      const tokens = lease && (await this.#redeem(userId, stored, offlineToken, lease));
      if (tokens) return tokens;
      const pauseMs = FIRST_PAUSE_MS + Math.random() * Math.min(FIRST_PAUSE_MS * 2 ** attempt, LONGEST_PAUSE_MS);
      if (performance.now() + pauseMs > deadline) {
        throw new KeycloakUnavailableError(
          `The offline token of user "${userId}" is being redeemed by someone else. Try again shortly.`,
        );
      }
      await delay(pauseMs);
    }
  }

  /** The id of the lease, if it was granted soon enough that the exchange ends before it does. */
  async #acquire(userId: string, stored: string): Promise<string | null> {
    const lease = { id: randomId(), leaseMs: this.client.realm.timeoutMs + 2 * LEASE_MARGIN_MS };
    const askedAt = performance.now();
    const isGranted = await this.leases.acquire(userId, stored, lease).catch((error: unknown) => {
      if (!(error instanceof TokenStoreUnavailableError)) throw error;
      return this.leases.acquire(userId, stored, lease); // it may have been granted, and only the answer lost
    });
    if (!isGranted) return null;
    if (performance.now() - askedAt < LEASE_MARGIN_MS) return lease.id;
    await this.#release(userId, lease.id);
    return null;
  }

  /** The new tokens, or null when the token was replaced by a newer login meanwhile. */
  async #redeem(userId: string, stored: string, offlineToken: string, lease: string): Promise<KeycloakTokens | null> {
    try {
      const issued = await this.client.token('refresh_token', { refresh_token: offlineToken });
      const successor = issued.refreshToken ?? offlineToken;
      await this.#store(userId, stored, successor);
      return new KeycloakTokens(issued.accessToken, successor);
    } catch (error) {
      await this.#release(userId, lease);
      if (error instanceof KeycloakSessionExpiredError && (await this.leases.load(userId)) !== stored) return null;
      throw error;
    }
  }

  async #release(userId: string, lease: string): Promise<void> {
    // A lease that cannot be given back runs out by itself.
    await this.leases.release(userId, lease).catch(() => undefined);
  }

  /** Stores a successor, again and again while the database does not; callers wait for it only so long. */
  async #store(userId: string, redeemed: string, successor: string): Promise<void> {
    const sealed = this.vault.seal(userId, successor);
    const storing = this.#storeInTheEnd(userId, redeemed, sealed).finally(() => this.#storing.delete(storing));
    this.#storing.add(storing);
    const isSettled = await within(storing, this.options.commitWaitMs, () => 'late');
    if (isSettled === 'late') this.#logger.warn(`The new offline token of user "${userId}" is not stored yet.`);
  }

  async #storeInTheEnd(userId: string, redeemed: string, sealed: string): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        // False: a newer login or a deletion stands, and so it shall; or an earlier try was stored and its answer lost.
        await this.store.replaceToken(userId, redeemed, sealed);
        return;
      } catch (error) {
        const user = `The new offline token of user "${userId}"`;
        if (this.#isStopped) {
          this.#logger.error(`${user} is lost, because the application stopped: ${String(error)}`);
          return;
        }
        this.#logger.warn(`${user} is not stored yet (try ${attempt + 1}): ${String(error)}`);
        await delay(Math.min(100 * 2 ** attempt, LONGEST_STORE_PAUSE_MS));
      }
    }
  }
}
