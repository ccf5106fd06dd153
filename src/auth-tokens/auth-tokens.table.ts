import { randomBytes } from 'node:crypto';

import { setTimeout as delay } from 'node:timers/promises';

import { Inject, Injectable } from '@nestjs/common';
import DataLoader from 'dataloader';
import type { QueryResultRow } from 'pg';
import { DataSource } from 'typeorm';

import { TOKENS_DATA_SOURCE } from '../database/database.options.js';
import { QueryRunnerScope } from '../database/query-runner.scope.js';
import { StatementExecutor } from '../database/statement-executor.js';
import { tablePathOf } from '../database/table-path.js';
import { TokenStoreUnavailableError } from '../tokens.errors.js';
import { AuthTokens, type AuthTokensStatus } from './auth-tokens.entity.js';
import { type AuthTokensRow, type Lease, readRow, readTokens, rowName } from './auth-tokens.row.js';
import { type AuthTokensStatements, authTokensStatements } from './auth-tokens.statements.js';
import type { AuthTokensKey, SealedTokens, StoredTokens } from './auth-tokens.types.js';

/** A pair that a refresh brought, on its way into the row. */
export interface RefreshedPair extends StoredTokens {
  /** The version that was redeemed for it. */
  readonly parentVersion: string;
  /**
   * Epoch seconds of the database when the request was sent. Not when the answer was read: a process that was stopped
   * in between would take its old pair for the newer of two, and its access token for longer-lived than it is.
   */
  readonly issuedAt: number;
}

const MAX_BATCH = 256;
const LOCK_NOT_AVAILABLE = '55P03';
/** The pauses double from 10 ms, so a row that stays locked is given up after 1.3 s. */
const LONGEST_LOCK_PAUSE_MS = 640;

/** The table `auth_tokens`: one method a statement. Every method throws {@link TokenStoreUnavailableError}. */
@Injectable()
export class AuthTokensTable {
  readonly #loader = new DataLoader<AuthTokensKey, AuthTokensRow | null>((keys) => this.#loadMany(keys), {
    cache: false,
    maxBatchSize: MAX_BATCH,
  });
  #statements: AuthTokensStatements | undefined;

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
    private readonly scope: QueryRunnerScope,
  ) {}

  /** Loads a row in the surrounding transaction; outside of one, the loads of one tick share one statement. */
  async load(key: AuthTokensKey): Promise<AuthTokensRow | null> {
    // A lazy transaction that has not begun has nothing to show, and beginning it for a read would hold a connection.
    if (!this.scope.context()?.hasBegun) return this.#loader.load(key);
    const rows = await this.executor.execute(this.#sql.load, keyValues(key), 'load tokens');
    return rows[0] ? readRow(rows[0]) : null;
  }

  /** Loads a row as it is committed, whatever transaction surrounds the call. */
  async loadCommitted(key: AuthTokensKey): Promise<AuthTokensRow | null> {
    const row = await this.#detached('load', keyValues(key), 'load tokens');
    return row ? readRow(row) : null;
  }

  /** Inserts or replaces the pair in one statement: of two concurrent first stores both succeed and the later wins. */
  async store(key: AuthTokensKey, tokens: SealedTokens): Promise<void> {
    const values = [...keyValues(key), ...pairValues(tokens), randomVersion()];
    await this.executor.execute(this.#sql.store, values, 'store tokens');
    this.scope.context()?.markWritten(rowName(key));
  }

  async delete(key: AuthTokensKey): Promise<StoredTokens | null> {
    const [row] = await this.executor.execute(this.#sql.delete, keyValues(key), 'delete tokens');
    this.scope.context()?.markWritten(rowName(key));
    return row ? readTokens(row) : null;
  }

  /** Takes the lease of a row that still has the version seen; null when it is not to be had now. */
  async acquire(
    key: AuthTokensKey,
    lease: { id: string; leaseMs: number; seenVersion: string; mayTakeOver: boolean },
  ): Promise<Lease | null> {
    const values = [...keyValues(key), lease.id, lease.leaseMs, lease.seenVersion, lease.mayTakeOver];
    const askedAt = performance.now();
    const row = await this.#detached('acquire', values, 'lease tokens for a refresh');
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

  /** Stores a refreshed pair if the row still has the version that was redeemed; false otherwise. */
  async commit(key: AuthTokensKey, pair: RefreshedPair): Promise<boolean> {
    return (await this.#detached('commit', refreshedValues(key, pair), 'store refreshed tokens')) !== undefined;
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
  ): Promise<AuthTokensStatus | null> {
    const values = [...keyValues(key), lease.id, lease.row.tokens.version, verdict.quarantineMs, verdict.code];
    const row = await this.#detached('reject', values, 'record a rejected refresh token');
    return row ? (row.status as AuthTokensStatus) : null;
  }

  get #sql(): AuthTokensStatements {
    this.#statements ??= authTokensStatements(tablePathOf(this.dataSource, AuthTokens));
    return this.#statements;
  }

  async #detached(
    name: keyof AuthTokensStatements,
    values: unknown[],
    action: string,
  ): Promise<QueryResultRow | undefined> {
    for (let pauseMs = 10; ; pauseMs *= 2) {
      try {
        const [row] = await this.executor.executeDetached(this.#sql[name], values, action);
        return row;
      } catch (error) {
        const isLocked = error instanceof TokenStoreUnavailableError && error.sqlState === LOCK_NOT_AVAILABLE;
        if (!isLocked || pauseMs > LONGEST_LOCK_PAUSE_MS) throw error;
        await delay(pauseMs);
      }
    }
  }

  async #loadMany(keys: readonly AuthTokensKey[]): Promise<(AuthTokensRow | null)[]> {
    const wanted = new Map(keys.map((key) => [rowName(key), key]));
    if (wanted.size === 1) {
      const row = await this.loadCommitted([...wanted.values()][0] as AuthTokensKey);
      return keys.map(() => row);
    }
    const users = [...wanted.values()].map(({ keycloakUserId }) => keycloakUserId);
    const idps = [...wanted.values()].map(({ idp }) => idp);
    const rows = await this.executor.executeDetached(this.#sql.loadMany, [users, idps], 'load tokens');
    const found = new Map(rows.map((row) => [rowName(keyOf(row)), readRow(row)]));
    return keys.map((key) => found.get(rowName(key)) ?? null);
  }
}

/** 63 random bits in decimal, for versions and leases. */
export function randomVersion(): string {
  return (randomBytes(8).readBigUInt64BE() >> 1n).toString();
}

function keyOf(row: QueryResultRow): AuthTokensKey {
  return { keycloakUserId: String(row.keycloak_user_id), idp: String(row.identity_provider) };
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
