import { setTimeout as delay } from 'node:timers/promises';

import { Inject, Injectable } from '@nestjs/common';
import type { QueryResultRow } from 'pg';
import { DataSource } from 'typeorm';

import { IdentityProviderRegistry } from '../../identity-providers/identity-provider.registry.js';
import { BatchedStatement } from '../../postgres/batched-statement.js';
import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { isRowRefused } from '../../postgres/driver-error.js';
import { once } from '../../postgres/once.js';
import { QueryRunnerScope } from '../../postgres/query-runner-scope.js';
import { randomId } from '../../postgres/random-id.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import { accountInWords, type AccountKey } from '../../token-key.js';
import { TokenStoreUnavailableError } from '../../tokens.errors.js';
import { DisconnectedAccount } from '../disconnected-accounts/disconnected-account.entity.js';
import { columnsOf, LeasedTable } from '../leases/leased.table.js';
import type { RowTokens, ScopedTokens } from '../stored-tokens.js';
import { TokenRevocation } from '../token-revocations/token-revocation.entity.js';
import { authTokensLeases } from './auth-tokens-lease.statements.js';
import {
  type AccountConnection,
  authTokensLinks,
  type LinkOutcome,
  type PairOfLink,
} from './auth-tokens-link.statements.js';
import { authTokensLookups, type Lookups } from './auth-tokens-lookup.statements.js';
import { type AccessTokenRow, type AuthTokensRow, withAssumedLifetime } from './auth-tokens-row.js';
import {
  authTokensWrites,
  type ImportRules,
  type PairToStore,
  type Reactivation,
} from './auth-tokens-write.statements.js';
import { AuthTokens } from './auth-tokens.entity.js';

/** How long a disconnection waits for the open transaction of an import, in milliseconds, and how often it looks. */
const IMPORT_WAIT_MS = 5000;
const LOOK_AGAIN_MS = 100;

/**
 * The table `auth_tokens`, with one method for each statement. Every method throws {@link TokenStoreUnavailableError}.
 */
@Injectable()
export class AuthTokensTable {
  /** The leases of its rows. */
  readonly leases: LeasedTable<AccountKey, ScopedTokens, AuthTokensRow>;
  readonly #sql = once(() => {
    const table = tablePathOf(this.dataSource, AuthTokens);
    const revocations = tablePathOf(this.dataSource, TokenRevocation);
    const disconnected = tablePathOf(this.dataSource, DisconnectedAccount);
    return {
      ...authTokensLookups(table),
      ...authTokensWrites(table, revocations, disconnected),
      ...authTokensLeases(table),
      ...authTokensLinks(table, revocations),
    };
  });
  readonly #rows = new BatchedStatement((keys: readonly AccountKey[]) => this.#lookUp(this.#sql().rows, keys));
  readonly #accessTokens = new BatchedStatement((keys: readonly AccountKey[]) =>
    this.#lookUp(this.#sql().accessTokens, keys),
  );
  readonly #stores = new BatchedStatement((pairs: readonly PairToStore[]) => this.#storeAll(pairs));

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
    private readonly scope: QueryRunnerScope,
    private readonly providers: IdentityProviderRegistry,
  ) {
    this.leases = new LeasedTable(executor, this.#sql, (key, row) => this.#completed(key, row));
  }

  /** Whether lookups of access tokens wait or are under way. */
  get isReading(): boolean {
    return this.#accessTokens.isBusy;
  }

  /**
   * Finds the access token of an active row without an open lease, in the surrounding transaction as {@link load} does.
   * Returns null for every other row.
   */
  findAccessToken(key: AccountKey): Promise<AccessTokenRow | null> {
    return this.scope.isInside() ? this.#inside(this.#sql().accessTokens, key) : this.#accessTokens.run(key);
  }

  /** Loads a row in the surrounding transaction. Outside of a transaction, concurrent loads share statements. */
  load(key: AccountKey): Promise<AuthTokensRow | null> {
    return this.scope.isInside() ? this.#inside(this.#sql().rows, key) : this.#rows.run(key);
  }

  /** Loads the committed row, outside of the surrounding transaction. Concurrent loads share statements. */
  loadCommitted(key: AccountKey): Promise<AuthTokensRow | null> {
    return this.#rows.run(key);
  }

  /** Returns the accounts of a user at a provider that have a row, sorted, as the surrounding transaction sees them. */
  accountsOf(user: Omit<AccountKey, 'account'>): Promise<string[]> {
    const { accounts } = this.#sql();
    return this.scope.isInside()
      ? this.executor.execute(accounts, user)
      : this.executor.executeDetached(accounts, user);
  }

  /**
   * Inserts or replaces the pair in one statement. Concurrent stores of one key all succeed, and any of them can be the
   * last. Outside of a transaction, concurrent stores share statements.
   *
   * @param keepsRefreshToken whether a pair without a refresh token replaces only the access token of a stored pair
   * that has one
   */
  async store(key: AccountKey, pair: ScopedTokens, clientId: string | null, keepsRefreshToken: boolean): Promise<void> {
    const params = { ...key, ...pair, clientId, keepsRefreshToken, version: randomId() };
    const transaction = this.scope.transaction();
    if (!transaction) {
      if (!(await this.#stores.run(params))) await this.executor.executeDetached(this.#sql().store, params);
      return;
    }
    const [stored] = await this.executor.execute(this.#sql().store, params);
    if (stored) transaction.markWritten(stored.version, stored.transactionId);
  }

  /**
   * Inserts the copy that another system has of a pair, or replaces an older pair by it. Returns false when it did not
   * change the stored pair.
   */
  async import(key: AccountKey, pair: ScopedTokens & ImportRules, clientId: string | null): Promise<boolean> {
    const version = randomId();
    const [stored] = await this.executor.execute(this.#sql().import, { ...key, ...pair, clientId, version });
    if (!stored) return false;
    if (stored.isNew && !pair.isExplicit && (await this.#isDisconnectedMeanwhile(key, version))) return false;
    this.scope.transaction()?.markWritten(version, stored.transactionId);
    return true;
  }

  /**
   * Stores the pair of a link outside of every transaction, unless the row has a pair that it may not replace, because
   * that one is of another account or may be. A pair of another account that it replaces is noted for revocation.
   */
  async link(key: AccountKey, pair: PairOfLink): Promise<LinkOutcome> {
    for (;;) {
      const [result = 'raced'] = await this.executor.executeDetached(this.#sql().link, { ...key, ...pair });
      if (result !== 'raced') return result;
    }
  }

  /** Returns the connections of a user, without a token, as the surrounding transaction sees them. */
  connectionsOf(keycloakUserId: string): Promise<AccountConnection[]> {
    const { connections } = this.#sql();
    return this.scope.isInside()
      ? this.executor.execute(connections, { keycloakUserId })
      : this.executor.executeDetached(connections, { keycloakUserId });
  }

  /** Deletes the pair. If there was one, an older note that the user disconnected the account is deleted too. */
  async delete(key: AccountKey): Promise<RowTokens | null> {
    const [deleted] = await this.executor.execute(this.#sql().delete, key);
    return deleted ?? null;
  }

  /**
   * Deletes the pair and notes the account as disconnected. If the provider can revoke the pair, it also notes the pair
   * for revocation. Waits for an automatic import whose transaction is open. Returns whether there was a pair.
   */
  async deleteForRevocation(key: AccountKey, isRevocable: boolean): Promise<boolean> {
    const deadline = performance.now() + IMPORT_WAIT_MS;
    for (;;) {
      const [answer] = await this.executor.execute(this.#sql().deleteForRevocation, { ...key, isRevocable });
      if (answer?.isFree) return answer.isDeleted;
      if (performance.now() >= deadline) throw importUnderWay(key);
      await delay(LOOK_AGAIN_MS);
    }
  }

  /** Makes grants that had ended active again. Returns their number. */
  async reactivate(which: Reactivation): Promise<number> {
    const [reactivated = 0] = await this.executor.execute(this.#sql().reactivate, which);
    return reactivated;
  }

  /**
   * Tells whether the surrounding transaction sees another row than the other transactions see, because it stored or
   * deleted the row and has not committed yet.
   */
  async isUncommitted(key: AccountKey, row: AuthTokensRow | null): Promise<boolean> {
    return this.scope.isUncommitted(row, () => this.loadCommitted(key));
  }

  async #isDisconnectedMeanwhile(key: AccountKey, version: string): Promise<boolean> {
    return (await this.executor.execute(this.#sql().deleteDisconnected, { ...key, version })).length > 0;
  }

  /** Whether each pair was stored; undefined for a pair that needs a statement of its own. */
  async #storeAll(pairs: readonly PairToStore[]): Promise<(boolean | undefined)[]> {
    const [first] = pairs;
    if (first && pairs.length === 1) {
      await this.executor.executeDetached(this.#sql().store, first);
      return [true];
    }
    const isStored: boolean[] = [];
    try {
      const stored = await this.executor.executeDetached(this.#sql().storeMany, columnsOf(pairs));
      for (const { position } of stored) isStored[position - 1] = true;
    } catch (error) {
      if (!isRowRefused(error)) throw error; // alone, each pair is stored, or its caller gets the error
    }
    return isStored;
  }

  #completed<Row extends AccessTokenRow>({ idp }: AccountKey, row: Row): Row {
    return withAssumedLifetime(row, this.providers.assumedLifetimeOf(idp));
  }

  async #inside<Row extends AccessTokenRow>({ one, read }: Lookups<Row>, key: AccountKey): Promise<Row | null> {
    const [row] = await this.executor.execute(one, key);
    return row ? this.#completed(key, read(row)) : null;
  }

  /** Returns the rows at the positions of their keys. */
  async #lookUp<Row extends AccessTokenRow>(
    lookups: Lookups<Row>,
    keys: readonly AccountKey[],
  ): Promise<(Row | undefined)[]> {
    const rows = await this.#lookUpUnread(lookups, keys);
    return keys.map((key, index) => {
      const row = rows[index];
      return row && this.#completed(key, lookups.read(row));
    });
  }

  async #lookUpUnread(lookups: Lookups<unknown>, keys: readonly AccountKey[]): Promise<(QueryResultRow | undefined)[]> {
    const { one, ofOneIdp, ofMany } = lookups;
    const [first] = keys;
    if (!first) return [];
    if (keys.length === 1) {
      return this.executor.executeDetached(one, first);
    }
    const { idp, account } = first;
    if (keys.every((key) => key.idp === idp && key.account === account)) {
      const users = keys.map(({ keycloakUserId }) => keycloakUserId);
      const byUser = new Map<string, QueryResultRow>();
      for (const row of await this.executor.executeDetached(ofOneIdp, { users, idp, account })) {
        byUser.set(row.keycloak_user_id as string, row);
      }
      return users.map((user) => byUser.get(user));
    }
    const found: (QueryResultRow | undefined)[] = [];
    for (const row of await this.executor.executeDetached(ofMany, columnsOf(keys))) {
      found[Number(row.position) - 1] = row;
    }
    return found;
  }
}

function importUnderWay(key: AccountKey): TokenStoreUnavailableError {
  return new TokenStoreUnavailableError(
    `The tokens of user "${key.keycloakUserId}" at "${key.idp}"${accountInWords(key)} are not deleted, because a transaction that imports them is still ` +
      'open. Try again shortly.',
  );
}
