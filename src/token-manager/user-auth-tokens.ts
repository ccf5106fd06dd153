import type {
  CheckExpirationAndRefresh,
  SealedTokens,
  StoredTokens,
} from '../storage/auth-tokens/auth-tokens.types.js';
import type { TokenKey } from '../token-key.js';
import type { AuthTokenStore } from './auth-token.store.js';

/** The methods of {@link AuthTokenStore} for one user and one identity provider. Holds no state but the key. */
export class UserAuthTokens {
  constructor(
    private readonly store: AuthTokenStore,
    private readonly key: TokenKey,
  ) {}

  get keycloakUserId(): string {
    return this.key.keycloakUserId;
  }

  get idp(): string {
    return this.key.idp;
  }

  /** @see {@link AuthTokenStore.storeTokens} */
  storeTokens(tokens: SealedTokens): Promise<void> {
    return this.store.storeTokens(this.key, tokens);
  }

  /** @see {@link AuthTokenStore.loadTokens} */
  loadTokens(checkExpirationAndRefresh?: CheckExpirationAndRefresh): Promise<StoredTokens | null> {
    return this.store.loadTokens(this.key, checkExpirationAndRefresh);
  }

  /** @see {@link AuthTokenStore.isAccessTokenValid} */
  isAccessTokenValid(): Promise<boolean> {
    return this.store.isAccessTokenValid(this.key);
  }

  /** @see {@link AuthTokenStore.isRefreshTokenValid} */
  isRefreshTokenValid(): Promise<boolean> {
    return this.store.isRefreshTokenValid(this.key);
  }

  /** @see {@link AuthTokenStore.deleteTokens} */
  deleteTokens(): Promise<StoredTokens | null> {
    return this.store.deleteTokens(this.key);
  }
}
