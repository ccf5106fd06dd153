import { Injectable } from '@nestjs/common';

import { OfflineTokenVault } from '../keycloak/offline-token-vault.js';
import { scopeList } from '../scopes.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import { authTokenLocation } from '../storage/token-locations.js';
import { checkKey, checkUserId } from '../token-input.js';
import type { AccountKey } from '../token-key.js';
import type { OfAccount } from '../token-manager/token-manager.js';
import { TokenDecryptionError } from '../tokens.errors.js';
import { MemoryAuthTokensTable } from './memory-auth-tokens.table.js';
import { MemoryOfflineTokensTable } from './memory-offline-tokens.table.js';
import { MemoryTokenRevocationsTable } from './memory-token-revocations.table.js';

/** A stored pair in plaintext. `refreshToken` is empty if there is none. Expiries are epoch seconds; 0 = none. */
export interface StoredPair {
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly accessTokenExpiresAt: number;
  readonly refreshTokenExpiresAt: number;
  readonly version: string;
  /** Sorted; absent if they are not known. */
  readonly scopes?: readonly string[];
}

/** A pair in plaintext that the host had revoked. */
export interface RevokedPair {
  readonly userId: string;
  readonly idp: string;
  readonly accessToken: string;
  readonly refreshToken: string;
  /** Absent for the default account. */
  readonly account?: string;
}

/**
 * What {@link TokensTestingModule} has stored and revoked, and the way to make its calls fail. It shows what is
 * committed, also inside a transaction. Texts that {@link TokenCipher} did not seal are returned as they are stored.
 */
@Injectable()
export class TestTokens {
  constructor(
    private readonly table: MemoryAuthTokensTable,
    private readonly offlineTokens: MemoryOfflineTokensTable,
    private readonly revocations: MemoryTokenRevocationsTable,
    private readonly cipher: TokenCipher,
    private readonly vault: OfflineTokenVault,
  ) {}

  /**
   * Returns the stored pair of a user at a provider, expired or not; null if there is none.
   *
   * @throws {@link InvalidTokenInputError} for arguments that cannot name a pair
   */
  stored(userId: string, idp: string, { account }: OfAccount = {}): StoredPair | null {
    const key = checkKey({ keycloakUserId: userId, idp, account });
    const stored = this.table.committed(key);
    if (!stored) return null;
    const { scopes, ...pair } = stored;
    return { ...pair, ...(scopes !== null && { scopes: scopeList(scopes) }), ...this.#opened(key, stored) };
  }

  /**
   * Returns the stored offline token of a user; null if there is none.
   *
   * @throws {@link InvalidTokenInputError} for a bad user id
   */
  offlineToken(userId: string): string | null {
    const stored = this.offlineTokens.committed(checkUserId(userId));
    return stored && opened(stored, () => this.vault.open(userId, stored));
  }

  /**
   * The pairs that {@link TokenManager.revokeIdpTokens} deleted, in the order of their deletion, and the new pairs of
   * refreshes that were under way then.
   */
  get revoked(): RevokedPair[] {
    return this.revocations.committed.map((pair) => ({
      userId: pair.keycloakUserId,
      idp: pair.idp,
      ...(pair.account && { account: pair.account }),
      ...this.#opened(pair, pair),
    }));
  }

  /**
   * Makes every call on the tokens of a user at a provider reject with an error, until {@link recover}. Arguments are
   * checked before. {@link TokenManager.reactivateIdpTokens} and refreshes under way do not fail.
   *
   * A {@link TokenStoreUnavailableError}, and an error that is not of this module, counts as that of a failed statement.
   * The surrounding transaction then executes no other statement and does not commit, as in PostgreSQL.
   *
   * @param options with `once`, only the next call rejects
   * @throws {@link InvalidTokenInputError} for arguments that cannot name a pair
   */
  fail(
    userId: string,
    idp: string,
    error: Error,
    { once = false, account }: OfAccount & { readonly once?: boolean } = {},
  ): void {
    this.table.failWith(checkKey({ keycloakUserId: userId, idp, account }), { error, isOnce: once });
  }

  /** Ends what {@link fail} began. The stored tokens are as they were. */
  recover(userId: string, idp: string, { account }: OfAccount = {}): void {
    this.table.failWith(checkKey({ keycloakUserId: userId, idp, account }), null);
  }

  #opened(key: AccountKey, { accessToken, refreshToken }: { accessToken: string; refreshToken: string }) {
    const open = (text: string, column: 'access_token' | 'refresh_token') =>
      opened(text, () => this.cipher.open(text, authTokenLocation(key, column)));
    return {
      accessToken: open(accessToken, 'access_token'),
      refreshToken: refreshToken && open(refreshToken, 'refresh_token'),
    };
  }
}

function opened(stored: string, open: () => string): string {
  try {
    return open();
  } catch (error) {
    if (error instanceof TokenDecryptionError) return stored;
    throw error;
  }
}
