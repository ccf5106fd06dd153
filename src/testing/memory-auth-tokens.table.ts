import { Injectable } from '@nestjs/common';

import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { randomId } from '../postgres/random-id.js';
import type { AccountConnection } from '../storage/auth-tokens/auth-tokens-link.statements.js';
import {
  type AccessTokenRow,
  type AuthTokensRow,
  secondsUntil,
  withAssumedLifetime,
} from '../storage/auth-tokens/auth-tokens-row.js';
import type { ImportRules, Reactivation } from '../storage/auth-tokens/auth-tokens-write.statements.js';
import type { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import type { RowTokens, ScopedTokens } from '../storage/stored-tokens.js';
import { type AccountKey, keyName } from '../token-key.js';
import { TokensUsageError } from '../tokens.errors.js';
import {
  compare,
  connectionOf,
  isNewer,
  lacksRefreshToken,
  reactivatedPair,
  readAccessToken,
  rowTokens,
  type Pair,
} from './memory-auth-tokens-row.js';
import { MemoryDisconnectedAccountsTable } from './memory-disconnected-accounts.table.js';
import { CLEARED, MemoryLeases, readLeasedRow } from './memory-leases.js';
import { MemoryRows } from './memory-rows.js';
import { MemoryTokenRevocationsTable } from './memory-token-revocations.table.js';
import { type MemoryTransaction, MemoryTransactions } from './memory-transactions.js';

/** An error for the calls on one pair. */
interface Failure {
  readonly error: Error;
  readonly isOnce: boolean;
}

/**
 * The table `auth_tokens` in memory. Each method has the effect of the method of its name in {@link AuthTokensTable}.
 */
@Injectable()
export class MemoryAuthTokensTable implements Omit<Pick<AuthTokensTable, keyof AuthTokensTable>, 'leases'> {
  readonly isReading = false;
  readonly leases: MemoryLeases<AccountKey, ScopedTokens, Pair, AuthTokensRow>;
  readonly #rows: MemoryRows<Pair>;
  readonly #failures = new Map<string, Failure>();
  #ids = 0;

  constructor(
    private readonly transactions: MemoryTransactions,
    private readonly providers: IdentityProviderRegistry,
    private readonly revocations: MemoryTokenRevocationsTable,
    private readonly disconnected: MemoryDisconnectedAccountsTable,
  ) {
    this.#rows = new MemoryRows(transactions);
    this.leases = new MemoryLeases(this.#rows, {
      nameOf: keyName,
      read: (pair) => this.#read(pair),
      replaceTokens: (pair, { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt, scopes }) => ({
        ...pair,
        tokens: { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt, scopes },
      }),
      dropRefreshToken: (pair) => ({ ...pair, tokens: { ...pair.tokens, refreshToken: '', refreshTokenExpiresAt: 0 } }),
    });
  }

  /** Makes the calls on a pair reject, the next one or all of them; null ends this. */
  failWith(key: AccountKey, failure: Failure | null): void {
    if (failure) this.#failures.set(keyName(key), failure);
    else this.#failures.delete(keyName(key));
  }

  /** A link needs a provider, so no call reaches the method. */
  link(): Promise<never> {
    throw new TokensUsageError('The tables in memory store no links, because a test has no provider.');
  }

  async connectionsOf(keycloakUserId: string): Promise<AccountConnection[]> {
    const pairs = (await this.#rows.findAll()).filter(({ key }) => key.keycloakUserId === keycloakUserId);
    const byName = (one: Pair, other: Pair) =>
      compare(one.key.idp, other.key.idp) || compare(one.key.account, other.key.account);
    return pairs.sort(byName).map(connectionOf);
  }

  /** Returns the committed pair; null if there is none. */
  committed(key: AccountKey): RowTokens | null {
    const pair = this.#rows.committed.get(keyName(key));
    return pair ? rowTokens(pair) : null;
  }

  async findAccessToken(key: AccountKey): Promise<AccessTokenRow | null> {
    const pair = await this.#find(key);
    return pair && !pair.isEnded && pair.openLeases === 0 ? this.#completed(pair, readAccessToken(pair)) : null;
  }

  async load(key: AccountKey): Promise<AuthTokensRow | null> {
    const pair = await this.#find(key);
    return pair ? this.#read(pair) : null;
  }

  loadCommitted(key: AccountKey): Promise<AuthTokensRow | null> {
    const pair = this.#rows.committed.get(keyName(key));
    return Promise.resolve(pair ? this.#read(pair) : null);
  }

  async accountsOf(user: Omit<AccountKey, 'account'>): Promise<string[]> {
    await this.transactions.joinToRead();
    return (await this.#rows.findAll())
      .filter(({ key }) => key.keycloakUserId === user.keycloakUserId && key.idp === user.idp)
      .map(({ key }) => key.account)
      .sort();
  }

  async store(key: AccountKey, pair: ScopedTokens, clientId: string | null, keepsRefreshToken: boolean): Promise<void> {
    await this.#write(key, (stored) => {
      if (!stored || !keepsRefreshToken || !lacksRefreshToken(pair, stored, clientId)) {
        return this.#stored(key, pair, clientId, stored);
      }
      const { accessToken, accessTokenExpiresAt, scopes } = pair;
      return {
        ...stored,
        // An exchange under way stores its successor by the version.
        ...(stored.openLeases > 0 ? {} : { ...CLEARED, version: randomId() }),
        tokens: { ...stored.tokens, accessToken, accessTokenExpiresAt, scopes },
        wasRejected: false,
        rejections: 0,
        // The exchange began earlier, but the clock can have the same millisecond, or be the fake of a test.
        issuedAt: Math.max(Date.now(), stored.firstLeasedAt + 1),
        updatedAt: Date.now(),
      };
    });
  }

  async import(key: AccountKey, pair: ScopedTokens & ImportRules, clientId: string | null): Promise<boolean> {
    const { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt, scopes, issuedAt, isExplicit } =
      pair;
    const tokens = { accessToken, refreshToken, accessTokenExpiresAt, refreshTokenExpiresAt, scopes };
    let isImported = false;
    await this.transactions.statement(async () => {
      await this.#write(key, (stored) => {
        const mayInsert = isExplicit || !this.disconnected.mayBeNoted(key);
        isImported = stored ? isNewer(pair, stored, clientId) : mayInsert;
        if (!isImported) return stored;
        return this.#stored(key, tokens, clientId, stored, issuedAt * 1000 || Date.now());
      });
      if (isExplicit) await this.disconnected.forget(key);
    });
    return isImported;
  }

  async delete(key: AccountKey): Promise<RowTokens | null> {
    return this.transactions.statement(async () => {
      const deleted = await this.#delete(key);
      if (!deleted) return null;
      await this.disconnected.forget(key);
      return rowTokens(deleted);
    });
  }

  async deleteForRevocation(key: AccountKey, isRevocable: boolean): Promise<boolean> {
    return this.transactions.statement(async () => {
      this.#failIfAsked(key, await this.transactions.join());
      await this.#rows.unlocked(keyName(key));
      await this.disconnected.note(key); // before the deletion, because an automatic import may run in between
      const deleted = await this.#delete(key);
      if (deleted && isRevocable) {
        const { accessToken, refreshToken } = deleted.tokens;
        await this.revocations.add({ ...key, accessToken, refreshToken, clientId: deleted.clientId });
      }
      return deleted !== null;
    });
  }

  async reactivate({ idp, userIds, accounts, endedAfter, errorCode }: Reactivation): Promise<number> {
    const isChosen = (pair: Pair | undefined): pair is Pair =>
      pair !== undefined &&
      pair.isEnded &&
      pair.key.idp === idp &&
      pair.tokens.refreshToken !== '' &&
      (!userIds || userIds.includes(pair.key.keycloakUserId)) &&
      (!accounts || accounts.includes(pair.key.account)) &&
      (!endedAfter || pair.updatedAt >= endedAfter.getTime()) &&
      (errorCode === null || pair.lastErrorCode === errorCode);
    let reactivated = 0;
    await this.transactions.join(); // a failed transaction has no effect, also if no grant is chosen
    for (const { key } of [...this.#rows.committed.values()].filter(isChosen)) {
      await this.#rows.write(keyName(key), (pair) => {
        if (!isChosen(pair)) return pair;
        reactivated++;
        return reactivatedPair(pair);
      });
    }
    return reactivated;
  }

  isUncommitted(key: AccountKey): Promise<boolean> {
    return Promise.resolve(this.#rows.isUncommitted(keyName(key)));
  }

  async #find(key: AccountKey): Promise<Pair | null> {
    this.#failIfAsked(key, await this.transactions.joinToRead());
    return (await this.#rows.find(keyName(key))) ?? null;
  }

  async #write(key: AccountKey, change: (pair: Pair | undefined) => Pair | undefined): Promise<void> {
    this.#failIfAsked(key, await this.transactions.join());
    await this.#rows.write(keyName(key), change);
  }

  async #delete(key: AccountKey): Promise<Pair | null> {
    const deleted: Pair[] = [];
    await this.#write(key, (pair) => {
      if (pair) deleted.push(pair);
      return undefined;
    });
    return deleted[0] ?? null;
  }

  #failIfAsked(key: AccountKey, transaction: MemoryTransaction | undefined): void {
    const failure = this.#failures.get(keyName(key));
    if (!failure) return;
    if (failure.isOnce) this.failWith(key, null);
    transaction?.noteError(failure.error);
    throw failure.error;
  }

  #stored(
    key: AccountKey,
    tokens: ScopedTokens,
    clientId: string | null,
    stored: Pair | undefined,
    issuedAt = Date.now(),
  ): Pair {
    const now = Date.now();
    const { id = String(++this.#ids), createdAt = now } = stored ?? {};
    const names = { id, version: randomId(), parentVersion: null, clientId };
    return { ...CLEARED, ...names, key, tokens, rejections: 0, issuedAt, createdAt, updatedAt: now };
  }

  #read(pair: Pair): AuthTokensRow {
    const now = Date.now();
    const { refreshToken, refreshTokenExpiresAt } = pair.tokens;
    return this.#completed(pair, {
      ...readAccessToken(pair, now),
      ...readLeasedRow(pair, now),
      tokens: rowTokens(pair),
      subject: null,
      hasRefreshToken: refreshToken !== '',
      refreshTokenValidForSeconds: secondsUntil(refreshTokenExpiresAt, now / 1000),
    });
  }

  #completed<Row extends AccessTokenRow>({ key }: Pair, row: Row): Row {
    return withAssumedLifetime(row, this.providers.assumedLifetimeOf(key.idp));
  }
}
