import type { OfflineTokenStore } from './offline-token.store.js';

/** The methods of {@link OfflineTokenStore} for one user. Holds no state but the user id. */
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
