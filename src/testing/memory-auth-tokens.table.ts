import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { randomId } from '../postgres/random-id.js';
import {
  type AccessTokenRow,
  type AuthTokensRow,
  secondsUntil,
  withAssumedLifetime,
} from '../storage/auth-tokens/auth-tokens-row.js';
import type { Reactivation } from '../storage/auth-tokens/auth-tokens-write.statements.js';
import type { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { ACCESS_TOKEN_DEAD } from '../storage/leases/leased.entity.js';
import type { SealedTokens, StoredTokens } from '../storage/stored-tokens.js';
import { keyName, type TokenKey } from '../token-key.js';
import { CLEARED, MemoryLeases, type MemoryLeasedRow, readLeasedRow } from './memory-leases.js';
import { MemoryRows } from './memory-rows.js';
import { MemoryTokenRevocationsTable } from './memory-token-revocations.table.js';

interface Pair extends MemoryLeasedRow {
  readonly key: TokenKey;
  readonly tokens: SealedTokens;
}

/** An error for the calls on one pair. */
interface Failure {
  readonly error: Error;
  readonly isOnce: boolean;
}

/**
 * The table `auth_tokens` in memory. Each method has the effect of the method of its name in {@link AuthTokensTable}.
 * There is no import, because it needs a Keycloak realm.
 */
@Injectable()
export class MemoryAuthTokensTable implements Omit<Pick<AuthTokensTable, keyof AuthTokensTable>, 'leases' | 'import'> {
  readonly isReading = false;
  readonly leases: MemoryLeases<TokenKey, SealedTokens, Pair, AuthTokensRow>;
  readonly #rows: MemoryRows<Pair>;
  readonly #failures = new Map<string, Failure>();
  #ids = 0;

  constructor(
    scope: QueryRunnerScope,
    private readonly providers: IdentityProviderRegistry,
    private readonly revocations: MemoryTokenRevocationsTable,
  ) {
    this.#rows = new MemoryRows(scope);
    this.leases = new MemoryLeases(this.#rows, {
      nameOf: keyName,
      read: (pair) => this.#read(pair),
      replaceTokens: (pair, { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt }) => ({
        ...pair,
        tokens: { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt },
      }),
    });
  }

  /** Makes the calls on a pair reject, the next one or all of them; null ends this. */
  failWith(key: TokenKey, failure: Failure | null): void {
    if (failure) this.#failures.set(keyName(key), failure);
    else this.#failures.delete(keyName(key));
  }

  /** Returns the committed pair; null if there is none. */
  committed(key: TokenKey): StoredTokens | null {
    const pair = this.#rows.committed.get(keyName(key));
    return pair ? storedTokens(pair) : null;
  }

  async findAccessToken(key: TokenKey): Promise<AccessTokenRow | null> {
    const pair = await this.#find(key);
    return pair && !pair.isEnded && pair.openLeases === 0 ? this.#completed(pair, readAccessToken(pair)) : null;
  }

  async load(key: TokenKey): Promise<AuthTokensRow | null> {
    const pair = await this.#find(key);
    return pair ? this.#read(pair) : null;
  }

  loadCommitted(key: TokenKey): Promise<AuthTokensRow | null> {
    const pair = this.#rows.committed.get(keyName(key));
    return Promise.resolve(pair ? this.#read(pair) : null);
  }

  async store(key: TokenKey, pair: SealedTokens, clientId: string | null, keepsRefreshToken: boolean): Promise<void> {
    await this.#write(key, (stored) => {
      const isKept = keepsRefreshToken && pair.refreshToken === '' && stored && mayKeep(stored, clientId);
      if (!isKept) return this.#stored(key, pair, clientId, stored?.id);
      const { accessToken, accessTokenExpiresAt } = pair;
      return {
        ...stored,
        tokens: { ...stored.tokens, accessToken, accessTokenExpiresAt },
        wasRejected: stored.openLeases > 0,
        rejections: 0,
        issuedAt: Date.now(),
        updatedAt: Date.now(),
      };
    });
  }

  async delete(key: TokenKey): Promise<StoredTokens | null> {
    const deleted = await this.#delete(key);
    return deleted ? storedTokens(deleted) : null;
  }

  async deleteForRevocation(key: TokenKey): Promise<boolean> {
    const deleted = await this.#delete(key);
    if (!deleted) return false;
    const { accessToken, refreshToken } = deleted.tokens;
    await this.revocations.add({ ...key, accessToken, refreshToken, clientId: deleted.clientId });
    return true;
  }

  async reactivate({ idp, userIds, endedAfter, errorCode }: Reactivation): Promise<number> {
    let reactivated = 0;
    for (const { key } of this.#rows.committed.values()) {
      if (key.idp !== idp || (userIds && !userIds.includes(key.keycloakUserId))) continue;
      await this.#rows.write(keyName(key), (pair) => {
        if (!pair?.isEnded || pair.tokens.refreshToken === '') return pair;
        if (endedAfter && pair.updatedAt < endedAfter.getTime()) return pair;
        if (errorCode !== null && pair.lastErrorCode !== errorCode) return pair;
        reactivated++;
        const { openLeases, firstLeasedAt } = pair;
        const exchange =
          pair.lastErrorCode === ACCESS_TOKEN_DEAD
            ? { openLeases: Math.max(openLeases, 1), firstLeasedAt: firstLeasedAt || Date.now() }
            : { openLeases, firstLeasedAt };
        return { ...pair, ...CLEARED, ...exchange, rejections: 0, updatedAt: Date.now() };
      });
    }
    return reactivated;
  }

  isUncommitted(key: TokenKey): Promise<boolean> {
    return Promise.resolve(this.#rows.isUncommitted(keyName(key)));
  }

  async #find(key: TokenKey): Promise<Pair | null> {
    this.#failIfAsked(key);
    return (await this.#rows.find(keyName(key))) ?? null;
  }

  async #write(key: TokenKey, change: (pair: Pair | undefined) => Pair | undefined): Promise<void> {
    this.#failIfAsked(key);
    await this.#rows.write(keyName(key), change);
  }

  async #delete(key: TokenKey): Promise<Pair | null> {
    const deleted: Pair[] = [];
    await this.#write(key, (pair) => {
      if (pair) deleted.push(pair);
      return undefined;
    });
    return deleted[0] ?? null;
  }

  #failIfAsked(key: TokenKey): void {
    const failure = this.#failures.get(keyName(key));
    if (!failure) return;
    if (failure.isOnce) this.failWith(key, null);
    throw failure.error;
  }

  #stored(key: TokenKey, tokens: SealedTokens, clientId: string | null, id = String(++this.#ids)): Pair {
    const now = Date.now();
    const names = { id, version: randomId(), parentVersion: null, clientId };
    return { ...CLEARED, ...names, key, tokens, rejections: 0, issuedAt: now, updatedAt: now };
  }

  #read(pair: Pair): AuthTokensRow {
    const now = Date.now();
    const { refreshToken, refreshTokenExpiresAt } = pair.tokens;
    return this.#completed(pair, {
      ...readAccessToken(pair, now),
      ...readLeasedRow(pair, now),
      tokens: storedTokens(pair),
      hasRefreshToken: refreshToken !== '',
      refreshTokenValidForSeconds: secondsUntil(refreshTokenExpiresAt, now / 1000),
    });
  }

  #completed<Row extends AccessTokenRow>({ key }: Pair, row: Row): Row {
    return withAssumedLifetime(row, this.providers.assumedLifetimeOf(key.idp));
  }
}

/** Returns the part of a row that a lookup of the access token returns in PostgreSQL. */
function readAccessToken(pair: Pair, now = Date.now()): AccessTokenRow {
  const { accessTokenExpiresAt } = pair.tokens;
  const issuedAt = pair.issuedAt / 1000;
  return {
    tokens: storedTokens(pair),
    issuedAt,
    issuedSecondsAgo: now / 1000 - issuedAt,
    accessTokenExpiresAt,
    accessTokenValidForSeconds: secondsUntil(accessTokenExpiresAt, now / 1000),
    accessTokenLifetimeSeconds: secondsUntil(accessTokenExpiresAt, issuedAt),
  };
}

function storedTokens({ tokens, version }: Pair): StoredTokens {
  return { ...tokens, version };
}

/** Whether a store without a refresh token keeps the stored one. */
function mayKeep({ tokens, isEnded, clientId: issuedTo }: Pair, clientId: string | null): boolean {
  const isOfThisClient = issuedTo === null || clientId === null || issuedTo === clientId;
  return tokens.refreshToken !== '' && !isEnded && isOfThisClient;
}
