import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import type { Redeemer } from '../refresh/pair-refresh.js';
import { TokenRefresher } from '../refresh/token-refresher.js';
import { scopeList, type Scopes } from '../scopes.js';
import type { SealedToken } from '../sealing/sealed-token.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import type { RowTokens, ScopedTokens, SealedTokens, StoredTokens } from '../storage/stored-tokens.js';
import {
  asText,
  checkExpiry,
  checkKey,
  checkPresent,
  checkScopes,
  checkSealed,
  EPOCH_SECONDS_LIMIT,
} from '../token-input.js';
import type { AccountKey, TokenKey } from '../token-key.js';

/** A sealed pair to store. */
export interface TokensToStore extends Omit<SealedTokens, 'refreshToken'> {
  /**
   * If it is absent or empty, because the login brought none, the stored refresh token and its expiry are kept. `null`
   * drops the stored one. Pass `null` if the pair can be of another account of the user at the provider.
   */
  readonly refreshToken?: SealedTokens['refreshToken'] | null | undefined;
  /** The scopes of the access token. Absent, null or an empty text = not known. */
  readonly scopes?: Scopes | null | undefined;
}

/**
 * The sealed pair that a refresh callback returns. If `refreshToken` is empty, the redeemed one is kept. If `scopes` is
 * absent, the stored scopes are kept. @see RFC 6749 section 6
 */
export interface RefreshedTokens extends SealedTokens {
  readonly scopes?: Scopes | null | undefined;
}

/**
 * Decides about a stale pair and refreshes it. Receives the idp, the sealed refresh token and both expiries in epoch
 * seconds. Resolves to the new sealed pair, or to `null` to keep the stored one.
 */
export type CheckExpirationAndRefresh = (
  idp: string,
  sealedRefreshToken: SealedToken,
  accessTokenExpiresAt: number,
  refreshTokenExpiresAt: number,
) => Promise<RefreshedTokens | null>;

/**
 * How long a token must stay valid to count as valid, in seconds. A request may take this time to reach the provider.
 */
const VALIDITY_MARGIN_SECONDS = 30;

/**
 * Stores sealed token pairs, one for each user, identity provider and account, and coordinates their refresh. It takes and
 * returns sealed texts. {@link TokenManager} seals them, opens them and calls the providers.
 *
 * Reads and writes join the transaction of the surrounding {@link QueryRunnerScope}. All methods may be called
 * concurrently. They throw {@link InvalidTokenInputError} for a bad key and {@link TokenStoreUnavailableError} when
 * PostgreSQL does not execute a statement.
 */
@Injectable()
export class AuthTokenStore {
  constructor(
    private readonly table: AuthTokensTable,
    private readonly refresher: TokenRefresher,
    private readonly providers: IdentityProviderRegistry,
  ) {}

  /**
   * Inserts or replaces the pair of a user at a provider, in one atomic statement. It stores the texts as they are
   * given. A grant that had ended is active again.
   *
   * A pair without a refresh token replaces the access token only, and the row keeps its refresh token. The old refresh
   * token is dropped if its grant has ended, if it was issued to another client, or if `refreshToken` is `null`.
   *
   * @throws {@link InvalidTokenInputError} for an empty access token, and for an expiry that is no whole epoch second
   */
  async storeTokens(key: TokenKey, tokens: TokensToStore): Promise<void> {
    const row = checkKey(key);
    checkPresent(tokens);
    checkSealed(tokens.accessToken, 'The sealed access token');
    if (!isAbsent(tokens.refreshToken)) checkSealed(tokens.refreshToken, 'The sealed refresh token');
    checkExpiry(tokens.accessTokenExpiresAt, 'accessTokenExpiresAt');
    checkExpiry(tokens.refreshTokenExpiresAt, 'refreshTokenExpiresAt');
    const { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt } = tokens;
    const pair = {
      accessToken,
      refreshToken: refreshToken ?? '',
      accessTokenExpiresAt,
      refreshTokenExpiresAt,
      scopes: checkScopes(tokens.scopes, 'The scopes'),
    } as const;
    const clientId = this.providers.find(row.idp)?.clientId ?? null;
    await this.table.store(row, pair, clientId, refreshToken !== null);
  }

  /**
   * Loads the stored pair, expired or not; `null` if there is none.
   *
   * With a callback, a pair with a stale access token is refreshed first. Of all callers in all processes, the module
   * calls the callback of one. It calls it outside of every transaction, and holds no connection and no lock meanwhile.
   * If another caller or process has refreshed the pair, this method returns the new pair and does not call the
   * callback. If the callback resolves to `null`, this method returns the stored pair. If the callback rejects, this
   * method rejects with the same error, and nothing stored changes. The callback must settle within the lease of the
   * provider's policy (35 s by default), because another process may call its own callback after that.
   *
   * @throws {@link ReauthenticationRequiredError} | {@link RefreshInProgressError} | {@link RefreshUnavailableError} |
   * {@link ProviderMisconfiguredError} with a callback only
   */
  async loadTokens(key: TokenKey, checkExpirationAndRefresh?: CheckExpirationAndRefresh): Promise<StoredTokens | null> {
    const checked = checkKey(key);
    const row = checkExpirationAndRefresh
      ? await this.refresher.load(checked, callbackRedeemer(checkExpirationAndRefresh, checked.idp))
      : await this.table.load(checked);
    return row && storedTokens(row.tokens);
  }

  /** Returns whether the stored access token is valid for another 30 s; false if there is none. */
  async isAccessTokenValid(key: TokenKey): Promise<boolean> {
    const row = await this.table.load(checkKey(key));
    return row !== null && row.accessTokenValidForSeconds > VALIDITY_MARGIN_SECONDS;
  }

  /** Returns whether there is a refresh token that the provider has not rejected and that is valid for another 30 s. */
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
   * Deletes the pair and returns it; `null` if there was none. The deleted pair is not revoked at the provider. If a
   * refresh is under way, its new pair is revoked, because no row has it, unless a row of the user has the same account
   * at the provider.
   */
  async deleteTokens(key: TokenKey): Promise<StoredTokens | null> {
    const deleted = await this.table.delete(checkKey(key));
    return deleted && storedTokens(deleted);
  }

  /**
   * Returns a handle for one user, provider and account, with the methods of this store.
   *
   * @param account the account of the user at the provider; by default the default account
   */
  getInstance(keycloakUserId: string | number, idp: string, account?: string): UserAuthTokens {
    return new UserAuthTokens(this, checkKey({ keycloakUserId: asText(keycloakUserId), idp, account }));
  }
}

/**
 * The methods of {@link AuthTokenStore} for one user, identity provider and account. The object has no state but the key.
 */
export class UserAuthTokens {
  constructor(
    private readonly store: AuthTokenStore,
    private readonly key: AccountKey,
  ) {}

  /** The user of this handle. */
  get keycloakUserId(): string {
    return this.key.keycloakUserId;
  }

  /** The identity provider of this handle. */
  get idp(): string {
    return this.key.idp;
  }

  /** The account of this handle; '' is the default account. */
  get account(): string {
    return this.key.account;
  }

  /** @see {@link AuthTokenStore.storeTokens} */
  storeTokens(tokens: TokensToStore): Promise<void> {
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

/**
 * Makes a redeemer of a callback. Only the author of the callback knows whether it rejected before or after the
 * exchange.
 */
function callbackRedeemer(checkExpirationAndRefresh: CheckExpirationAndRefresh, idp: string): Redeemer {
  return {
    source: 'callback',
    async redeem({ row: { tokens, accessTokenExpiresAt } }) {
      if (!tokens.refreshToken) return { kind: 'unchanged' }; // no process gets a lease for such a row
      try {
        const { refreshToken, refreshTokenExpiresAt } = tokens;
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

/**
 * Makes the pair of a callback fit the columns. It refuses nothing, because the old refresh token may be spent by now.
 */
function storable(refreshed: RefreshedTokens, old: RowTokens): ScopedTokens {
  return {
    accessToken: refreshed.accessToken,
    refreshToken: refreshed.refreshToken || old.refreshToken,
    accessTokenExpiresAt: wholeSeconds(refreshed.accessTokenExpiresAt),
    refreshTokenExpiresAt:
      wholeSeconds(refreshed.refreshTokenExpiresAt) || (refreshed.refreshToken ? 0 : old.refreshTokenExpiresAt),
    scopes: storableScopes(refreshed.scopes) ?? old.scopes,
  };
}

function storableScopes(scopes: unknown): string | null {
  try {
    return checkScopes(scopes, 'The scopes');
  } catch {
    return null;
  }
}

/** Returns a pair of a row in the form of the public API. Scopes that are not known are absent. */
function storedTokens({ scopes, ...pair }: RowTokens): StoredTokens {
  return scopes === null ? pair : { ...pair, scopes: scopeList(scopes) };
}

function isAbsent(refreshToken: TokensToStore['refreshToken']): boolean {
  return refreshToken === undefined || refreshToken === null || refreshToken === '';
}

function wholeSeconds(expiresAt: unknown): number {
  const seconds = Number(expiresAt);
  if (!Number.isFinite(seconds) || seconds <= 0) return 0;
  return Math.floor(seconds < EPOCH_SECONDS_LIMIT ? seconds : Math.min(seconds / 1000, EPOCH_SECONDS_LIMIT));
}
