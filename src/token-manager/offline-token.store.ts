import { Injectable } from '@nestjs/common';

import { OfflineTokenVault } from '../keycloak/offline-token-vault.js';
import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { OfflineTokensTable } from '../storage/offline-tokens/offline-tokens.table.js';
import { asText, checkSealed, checkUserId } from '../token-input.js';

/**
 * Stores one offline token for each user, as the text that it is given. {@link TokenManager} seals it. Joins the
 * transaction of the surrounding {@link QueryRunnerScope}. Throws {@link InvalidTokenInputError} for a bad user id and
 * {@link TokenStoreUnavailableError} when PostgreSQL does not execute a statement.
 */
@Injectable()
export class OfflineTokenStore {
  constructor(
    private readonly table: OfflineTokensTable,
    private readonly scope: QueryRunnerScope,
    private readonly vault: OfflineTokenVault,
  ) {}

  /** Inserts or replaces the token of a user, in one atomic statement. */
  async storeToken(userId: string, offlineToken: string): Promise<void> {
    checkSealed(offlineToken, 'The offline token');
    await this.table.store(checkUserId(userId), { offlineToken }, null);
  }

  /**
   * Replaces the loaded token by its successor, if the loaded token is still stored. It compares the stored texts, so
   * pass what {@link loadToken} returned. A text that was sealed anew by another key meanwhile counts as the same token.
   * The call never joins the surrounding transaction, because a rollback would restore the dead predecessor.
   *
   * @returns false if another call has replaced or deleted the token; nothing is stored then
   */
  async replaceToken(userId: string, loaded: string, successor: string): Promise<boolean> {
    checkSealed(successor, 'The offline token');
    this.scope.transaction()?.assertOpen();
    const user = checkUserId(userId);
    const token = { offlineToken: successor };
    if (await this.table.replace(user, { loaded, loadedVersion: null }, token, null)) return true;
    const row = await this.table.loadCommitted(user);
    if (!row || !this.vault.isSame(user, loaded, row.offlineToken)) return false;
    return this.table.replace(user, { loaded: row.offlineToken, loadedVersion: row.version }, token, null);
  }

  /** Returns the token of a user as it was stored; `null` if there is none. */
  async loadToken(userId: string): Promise<string | null> {
    return (await this.table.load(checkUserId(userId)))?.offlineToken ?? null;
  }

  /** Deletes the token of a user. Returns whether there was one. */
  async deleteToken(userId: string): Promise<boolean> {
    return this.table.delete(checkUserId(userId));
  }

  /** Returns a handle for one user, with the methods of this store. */
  getInstance(userId: string | number): UserOfflineToken {
    return new UserOfflineToken(this, checkUserId(asText(userId)));
  }
}

/** The methods of {@link OfflineTokenStore} for one user. The object has no state but the user id. */
export class UserOfflineToken {
  constructor(
    private readonly store: OfflineTokenStore,
    readonly userId: string,
  ) {}

  /** @see {@link OfflineTokenStore.storeToken} */
  storeToken(offlineToken: string): Promise<void> {
    return this.store.storeToken(this.userId, offlineToken);
  }

  /** @see {@link OfflineTokenStore.replaceToken} */
  replaceToken(loaded: string, successor: string): Promise<boolean> {
    return this.store.replaceToken(this.userId, loaded, successor);
  }

  /** @see {@link OfflineTokenStore.loadToken} */
  loadToken(): Promise<string | null> {
    return this.store.loadToken(this.userId);
  }

  /** @see {@link OfflineTokenStore.deleteToken} */
  deleteToken(): Promise<boolean> {
    return this.store.deleteToken(this.userId);
  }
}
