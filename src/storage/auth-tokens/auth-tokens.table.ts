import { Inject, Injectable } from '@nestjs/common';
import type { QueryResultRow } from 'pg';
import { DataSource } from 'typeorm';

import { randomId } from '../../crypto/random.js';
import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { QueryRunnerScope } from '../../postgres/query-runner.scope.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import type { GrantStatus } from '../leases/leased.entity.js';
import { AuthTokens } from './auth-tokens.entity.js';
import {
  type AccessTokenRow,
  type AuthTokensRow,
  type Lease,
  readAccessToken,
  readRow,
  readTokens,
  rowName,
} from './auth-tokens.row.js';
import { type AuthTokensStatements, authTokensStatements } from './auth-tokens.statements.js';
import { TokenRevocation } from '../token-revocations/token-revocation.entity.js';
import type { AuthTokensKey, SealedTokens, StoredTokens } from './auth-tokens.types.js';
import { BatchedStatement } from '../../postgres/batched-statement.js';

/** A pair that a refresh brought, on its way into the row. */
export interface RefreshedPair extends StoredTokens {
  /** The version that was redeemed for it. */
  readonly parentVersion: string;
  /** The row that it is for: after a deletion and a new login another one has the key. */
  readonly rowId: string;
  /**
   * Epoch seconds of the database when the request was sent. Not when the answer was read: a process that was stopped
   * in between would take its old pair for the newer of two, and its access token for longer-lived than it is.
   */
  readonly issuedAt: number;
}

/** Another system's copy of a pair. */
export interface ImportedPair extends SealedTokens {
  /** Epoch seconds; 0 = not known. */
  readonly issuedAt: number;
  /** Whether it may replace a pair with a refresh token when it has none itself. */
  readonly mayDropRefreshToken: boolean;
}

/** The table `auth_tokens`: one method a statement. Every method throws {@link TokenStoreUnavailableError}. */
@Injectable()
export class AuthTokensTable {
  readonly #rows = new BatchedStatement((keys: readonly AuthTokensKey[]) => this.#lookUp(ROWS, keys));
  readonly #accessTokens = new BatchedStatement((keys: readonly AuthTokensKey[]) => this.#lookUp(ACCESS_TOKENS, keys));
  readonly #leases = new BatchedStatement((requests: readonly unknown[][]) =>
    this.#executeMany('acquire', requests, 'lease tokens for a refresh'),
  );
  readonly #commits = new BatchedStatement((pairs: readonly unknown[][]) => this.#commitAll(pairs));
  #statements: AuthTokensStatements | undefined;

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
    private readonly scope: QueryRunnerScope,
  ) {}

  /** Whether access tokens are being looked up at this moment. */
  get isReading(): boolean {
    return this.#accessTokens.isBusy;
  }

  /** Finds the access token of an active row, in the same way as {@link load}; null for every other row. */
  findAccessToken(key: AuthTokensKey): Promise<AccessTokenRow | null> {
    if (this.#isOutside()) return this.#accessTokens.run(key);
    return this.#inside(ACCESS_TOKENS, key);
  }

  /** Loads a row in the surrounding transaction; outside of one, concurrent loads share statements. */
  load(key: AuthTokensKey): Promise<AuthTokensRow | null> {
    return this.#isOutside() ? this.#rows.run(key) : this.#inside(ROWS, key);
  }

  /** Loads a row as it is committed, whatever transaction surrounds the call. */
  async loadCommitted(key: AuthTokensKey): Promise<AuthTokensRow | null> {
    return (await this.#lookUp(ROWS, [key]))[0] ?? null;
  }

  /** Inserts or replaces the pair in one statement: of two concurrent first stores both succeed and the later wins. */
  async store(key: AuthTokensKey, tokens: SealedTokens): Promise<void> {
    const values = [...keyValues(key), ...pairValues(tokens), randomId()];
    await this.executor.execute(this.#sql.store, values, 'store tokens');
    this.scope.context()?.markWritten(rowName(key));
  }

  /** Inserts another system's copy of the pair, or replaces an older one with it; false when what stands is as new. */
  async import(key: AuthTokensKey, { issuedAt, mayDropRefreshToken, ...tokens }: ImportedPair): Promise<boolean> {
    const values = [...keyValues(key), ...pairValues(tokens), randomId(), issuedAt, mayDropRefreshToken];
    const [imported] = await this.executor.execute(this.#sql.import, values, 'import tokens');
    if (imported) this.scope.context()?.markWritten(rowName(key));
    return imported !== undefined;
  }

  async delete(key: AuthTokensKey): Promise<StoredTokens | null> {
    const [row] = await this.executor.execute(this.#sql.delete, keyValues(key), 'delete tokens');
    this.scope.context()?.markWritten(rowName(key));
    return row ? readTokens(row) : null;
  }

  /** Deletes the pair and notes it for revocation; whether there was one. */
  async deleteForRevocation(key: AuthTokensKey): Promise<boolean> {
    const rows = await this.executor.execute(this.#sql.deleteForRevocation, keyValues(key), 'delete tokens');
    this.scope.context()?.markWritten(rowName(key));
    return rows.length > 0;
  }

  /** Takes the lease of a row that still has the version seen; null when it is not to be had now. Callers share statements. */
  async acquire(
    key: AuthTokensKey,
    lease: { id: string; leaseMs: number; seenVersion: string; mayTakeOver: boolean },
  ): Promise<Lease | null> {
    const values = [...keyValues(key), lease.id, lease.leaseMs, lease.seenVersion, lease.mayTakeOver];
    const askedAt = performance.now();
    const row = await this.#leases.run(values);
    if (!row) return null;
    const answeredAt = performance.now();
    const grantedAt = Number(row.granted_at);
    return {
      id: lease.id,
      row: readRow(row),
      failureCount: Number(row.failure_count),
      now: () => grantedAt + (performance.now() - answeredAt) / 1000,
      leftMs: () => lease.leaseMs - (performance.now() - askedAt),
    };
  }

  /** Stores a refreshed pair if the row still has the version that was redeemed; false otherwise. Callers share statements. */
  async commit(key: AuthTokensKey, pair: RefreshedPair): Promise<boolean> {
    const values = refreshedValues(key, pair);
    return (await this.#commits.run(values)) ?? this.#commitAlone(values);
  }

  /** Stores a refreshed pair over an older one that was redeemed from the same version; false otherwise. */
  async supersede(key: AuthTokensKey, pair: RefreshedPair): Promise<boolean> {
    return (await this.#detached('supersede', refreshedValues(key, pair), 'store refreshed tokens')) !== undefined;
  }

  /** Gives a lease back; with a failure, nobody refreshes for its backoff. */
  async release(key: AuthTokensKey, lease: Lease, failure?: { code: string; backoffMs: number }): Promise<void> {
    const values = [...keyValues(key), lease.id, failure?.backoffMs ?? null, failure?.code ?? null];
    await this.#detached('release', values, 'release the lease of tokens');
  }

  /** Lets a lease run out whose refresh token may have been redeemed; nobody refreshes, or waits, until then. */
  async holdOff(key: AuthTokensKey, lease: Lease, code: string): Promise<void> {
    await this.#detached('holdOff', [...keyValues(key), lease.id, code], 'note a lost answer');
  }

  /** Records that the provider rejected the refresh token; the row's status after it, or null when it was not ours. */
  async reject(
    key: AuthTokensKey,
    lease: Lease,
    verdict: { code: string; quarantineMs: number },
  ): Promise<GrantStatus | null> {
    const values = [...keyValues(key), lease.id, lease.row.tokens.version, verdict.quarantineMs, verdict.code];
    const row = await this.#detached('reject', values, 'record a rejected refresh token');
    return row ? (row.status as GrantStatus) : null;
  }

  get #sql(): AuthTokensStatements {
    this.#statements ??= authTokensStatements(
      tablePathOf(this.dataSource, AuthTokens),
      tablePathOf(this.dataSource, TokenRevocation),
    );
    return this.#statements;
  }

  /** Whether each pair was stored; undefined for those that only a statement of their own can decide. */
  async #commitAll(pairs: readonly unknown[][]): Promise<(boolean | undefined)[]> {
    const [first] = pairs;
    if (first && pairs.length === 1) return [await this.#commitAlone(first)];
    // Whatever went wrong: with a statement of its own a pair is stored, or says why not.
    const stored = await this.#executeMany('commitMany', pairs, 'store refreshed tokens').catch(() => []);
    return stored.map((row) => (row ? true : undefined));
  }

  async #commitAlone(values: unknown[]): Promise<boolean> {
    return (await this.#detached('commit', values, 'store refreshed tokens')) !== undefined;
  }

  /** Executes a statement for many callers; what it returns for each is at the position of the caller. */
  async #executeMany(
    name: keyof AuthTokensStatements,
    callers: readonly unknown[][],
    action: string,
  ): Promise<(QueryResultRow | undefined)[]> {
    const arrays = (callers[0] ?? []).map((_, parameter) => callers.map((values) => values[parameter]));
    return byPosition(await this.executor.executeDetached(this.#sql[name], arrays, action), (row) => row);
  }

  async #detached(
    name: keyof AuthTokensStatements,
    values: unknown[],
    action: string,
  ): Promise<QueryResultRow | undefined> {
    const [row] = await this.executor.executeUnlocked(this.#sql[name], values, action);
    return row;
  }

  /** A lazy transaction that has not begun has nothing to show, and beginning it for a read would hold a connection. */
  #isOutside(): boolean {
    return !this.scope.context()?.hasBegun;
  }

  async #inside<Row>({ one, read }: Lookups<Row>, key: AuthTokensKey): Promise<Row | null> {
    const [row] = await this.executor.execute(this.#sql[one], keyValues(key), ACTION);
    return row ? read(row) : null;
  }

  /** The rows at the positions of their keys. */
  async #lookUp<Row>({ one, ofOneIdp, ofMany, read }: Lookups<Row>, keys: readonly AuthTokensKey[]) {
    const [first] = keys;
    if (!first) return [];
    if (keys.length === 1) {
      const [row] = await this.executor.executeDetached(this.#sql[one], keyValues(first), ACTION);
      return row ? [read(row)] : [];
    }
    const users = keys.map(({ keycloakUserId }) => keycloakUserId);
    if (keys.every(({ idp }) => idp === first.idp)) {
      const rows = await this.executor.executeDetached(this.#sql[ofOneIdp], [users, first.idp], ACTION);
      const byUser = new Map<string, Row>();
      for (const row of rows) byUser.set(row.keycloak_user_id as string, read(row));
      return users.map((user) => byUser.get(user));
    }
    const idps = keys.map(({ idp }) => idp);
    return byPosition(await this.executor.executeDetached(this.#sql[ofMany], [users, idps], ACTION), read);
  }
}

const ACTION = 'load tokens';

/** What is looked up: the statements for one key, for users of one provider and for any keys, and how a row is read. */
interface Lookups<Row> {
  readonly one: keyof AuthTokensStatements;
  readonly ofOneIdp: keyof AuthTokensStatements;
  readonly ofMany: keyof AuthTokensStatements;
  readonly read: (row: QueryResultRow) => Row;
}

const ROWS: Lookups<AuthTokensRow> = {
  one: 'load',
  ofOneIdp: 'loadOfOneIdp',
  ofMany: 'loadOfMany',
  read: readRow,
};

const ACCESS_TOKENS: Lookups<AccessTokenRow> = {
  one: 'findAccessToken',
  ofOneIdp: 'findAccessTokensOfOneIdp',
  ofMany: 'findAccessTokensOfMany',
  read: readAccessToken,
};

/** What was read of each row, at the position of the caller that asked for it. */
function byPosition<Row>(rows: readonly QueryResultRow[], read: (row: QueryResultRow) => Row): (Row | undefined)[] {
  const found: (Row | undefined)[] = [];
  for (const row of rows) found[Number(row.position) - 1] = read(row);
  return found;
}

function keyValues({ keycloakUserId, idp }: AuthTokensKey): unknown[] {
  return [keycloakUserId, idp];
}

function pairValues(tokens: SealedTokens): unknown[] {
  return [tokens.accessToken, tokens.refreshToken, tokens.accessTokenExpiresAt, tokens.refreshTokenExpiresAt];
}

function refreshedValues(key: AuthTokensKey, pair: RefreshedPair): unknown[] {
  return [...keyValues(key), ...pairValues(pair), pair.version, pair.parentVersion, pair.issuedAt];
}
