import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { Redeemer } from '../refresh/pair-refresh.js';
import { TokenRefresher } from '../refresh/token-refresher.js';
import type { SealedToken } from '../sealing/sealed-token.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import type { SealedTokens, StoredTokens } from '../storage/auth-tokens/stored-tokens.js';
import { asText, checkExpiry, checkKey, checkPresent, checkSealed, EPOCH_SECONDS_LIMIT } from '../token-input.js';
import type { TokenKey } from '../token-key.js';

/** What a refresh callback brought back. */
export type RefreshedTokens = SealedTokens;

/**
 * Decides about a stale pair and refreshes it: receives the sealed refresh token and both expiries, and resolves to
 * the new sealed pair, or to `null` to keep the stored one.
 */
export type CheckExpirationAndRefresh = (
  idp: string,
  sealedRefreshToken: SealedToken,
  accessTokenExpiresAt: number,
  refreshTokenExpiresAt: number,
) => Promise<RefreshedTokens | null>;

/** How long a token must stay valid to be called valid, in seconds: the time a request may take to reach the provider. */
const VALIDITY_MARGIN_SECONDS = 30;

/**
 * Stores sealed token pairs, one for each user and identity provider, and coordinates their refresh. Sealed strings go
 * in and come out; sealing, providers and plaintext are {@link TokenManager}'s.
 *
 * Reads and writes join the transaction of the surrounding {@link QueryRunnerScope}. All methods may be called
 * concurrently, and throw {@link InvalidTokenInputError} for a bad key and {@link TokenStoreUnavailableError} when
 * PostgreSQL does not execute a statement.
 */
@Injectable()
export class AuthTokenStore {
  /** @internal */
  constructor(
    private readonly table: AuthTokensTable,
    private readonly refresher: TokenRefresher,
    private readonly providers: IdentityProviderRegistry,
  ) {}

  /**
   * Inserts or replaces the pair of a user at a provider, in one atomic statement; the strings are stored as given. A
   * grant that had ended is active again.
   *
   * @throws {@link InvalidTokenInputError} for an empty access token or an expiry that is no whole epoch second
   */
  async storeTokens(key: TokenKey, tokens: SealedTokens): Promise<void> {
    const row = checkKey(key);
    checkPresent(tokens);
    checkSealed(tokens.accessToken, 'The sealed access token');
    if (tokens.refreshToken !== '') checkSealed(tokens.refreshToken, 'The sealed refresh token');
    checkExpiry(tokens.accessTokenExpiresAt, 'accessTokenExpiresAt');
    checkExpiry(tokens.refreshTokenExpiresAt, 'refreshTokenExpiresAt');
    const { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt } = tokens;
    const pair = { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt };
    await this.table.store(row, pair, this.providers.find(row.idp)?.clientId ?? null);
  }

  /**
   * Loads the stored pair, expired or not; `null` when there is none.
   *
   * With a callback, a pair whose access token is stale is refreshed by it first: once, however many callers and
   * processes ask, outside of every transaction, with no connection or lock held meanwhile. If somebody else refreshed
   * the pair, theirs is returned and the callback is not called. When it resolves to `null` the stored pair is
   * returned; when it rejects nothing stored changes and the rejection is passed on. It must settle within the lease of
   * the provider's policy (35 s by default): after that another process may call its own.
   *
   * @throws {@link ReauthenticationRequiredError} | {@link RefreshInProgressError} | {@link RefreshUnavailableError}
   * with a callback only
   */
  async loadTokens(key: TokenKey, checkExpirationAndRefresh?: CheckExpirationAndRefresh): Promise<StoredTokens | null> {
    const { keycloakUserId, idp } = checkKey(key);
    const row = checkExpirationAndRefresh
      ? await this.refresher.load({ keycloakUserId, idp }, callbackRedeemer(checkExpirationAndRefresh, idp))
      : await this.table.load({ keycloakUserId, idp });
    return row && row.tokens;
  }

  /** Whether the stored access token is valid for another 30 s; false when there is none. */
  async isAccessTokenValid(key: TokenKey): Promise<boolean> {
    const row = await this.table.load(checkKey(key));
    return row !== null && row.accessTokenValidForSeconds > VALIDITY_MARGIN_SECONDS;
  }

  /** Whether there is a refresh token that the provider has not rejected and that is valid for another 30 s. */
  async isRefreshTokenValid(key: TokenKey): Promise<boolean> {
    const row = await this.table.load(checkKey(key));
    return (
      row !== null &&
      row.state !== 'ended' &&
      row.tokens.refreshToken !== '' &&
      row.refreshTokenValidForSeconds > VALIDITY_MARGIN_SECONDS
    );
  }

  /**
   * Deletes the pair and returns it; `null` when there was none. It is not revoked at the provider; the new pair of a
   * refresh under way is, because nobody else has it.
   */
  async deleteTokens(key: TokenKey): Promise<StoredTokens | null> {
    return this.table.delete(checkKey(key));
  }

  /** A handle for one user and provider, with the methods of this store. */
  getInstance(keycloakUserId: string | number, idp: string): UserAuthTokens {
    return new UserAuthTokens(this, checkKey({ keycloakUserId: asText(keycloakUserId), idp }));
  }
}

/** The methods of {@link AuthTokenStore} for one user and one identity provider. Holds no state but the key. */
export class UserAuthTokens {
  /** @internal */
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

/** Makes a redeemer of a callback: only its author knows whether a rejection came before or after the exchange. */
function callbackRedeemer(checkExpirationAndRefresh: CheckExpirationAndRefresh, idp: string): Redeemer {
  return {
    source: 'callback',
    async redeem({ row: { tokens } }) {
      if (!tokens.refreshToken) return { kind: 'unchanged' }; // such a row is never leased
      try {
        const { refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt } = tokens;
        const refreshed = await checkExpirationAndRefresh(
          idp,
          refreshToken,
          accessTokenExpiresAt,
          refreshTokenExpiresAt,
        );
        if (!refreshed) return { kind: 'unchanged' };
        checkSealed(refreshed.accessToken, 'The refreshed access token');
        return { kind: 'success', tokens: storable(refreshed, tokens), issued: undefined };
      } catch (error) {
        return { kind: 'threw', error };
      }
    },
  };
}

/** What a callback returned, made to fit the columns: by now the old refresh token may be dead, so nothing is refused. */
function storable(refreshed: SealedTokens, old: StoredTokens): SealedTokens {
  return {
    accessToken: refreshed.accessToken,
    refreshToken: refreshed.refreshToken || old.refreshToken,
    accessTokenExpiresAt: wholeSeconds(refreshed.accessTokenExpiresAt),
    refreshTokenExpiresAt: wholeSeconds(refreshed.refreshTokenExpiresAt),
  };
}

function wholeSeconds(expiresAt: unknown): number {
  const seconds = Number(expiresAt);
  if (!Number.isFinite(seconds) || seconds <= 0) return 0;
  return Math.floor(seconds < EPOCH_SECONDS_LIMIT ? seconds : Math.min(seconds / 1000, EPOCH_SECONDS_LIMIT));
}
