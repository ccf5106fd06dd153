import { Inject, Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import { TOKENS_DATA_SOURCE } from '../../postgres/database.options.js';
import { once } from '../../postgres/once.js';
import { StatementExecutor } from '../../postgres/statement-executor.js';
import { tablePathOf } from '../../postgres/table-path.js';
import { AuthTokens } from '../auth-tokens/auth-tokens.entity.js';
import { columnsOf } from '../leases/leased.table.js';
import { LinkAttempt } from '../link-attempts/link-attempt.entity.js';
import { StoredOfflineToken } from '../offline-tokens/stored-offline-token.entity.js';
import { TokenRevocation } from '../token-revocations/token-revocation.entity.js';
import {
  type OpenWriter,
  openWritersStatement,
  type SealedTextsShape,
  sealedTextsStatements,
  type TextCount,
  type TextsOfRow,
  type TextsToReplace,
} from './sealed-texts.statements.js';

/** A table with sealed texts. */
export type SealedTable = 'auth_tokens' | 'offline_tokens' | 'token_revocations' | 'link_attempts';

/**
 * The tables with sealed texts. A pair can move from `auth_tokens` to `token_revocations`, so a count in this order
 * misses none.
 */
export const SEALED_TABLES: readonly SealedTable[] = [
  'auth_tokens',
  'offline_tokens',
  'token_revocations',
  'link_attempts',
];

/** A part of the rows of a table, by the primary key. */
export interface PageOfTable {
  /** The primary key after which the page begins; null for the first page. */
  readonly after: string | null;
  readonly limit: number;
  /** How the texts begin that the sealing key has sealed. */
  readonly sealedPrefix: string;
}

/**
 * PostgreSQL samples whole pages, and a page has some dozens of rows. So a sample of pages has many times the rows that
 * are wanted of it.
 */
const ROWS_OF_A_SAMPLE_FOR_EACH = 20;

/** Returns the shapes of the tables, by their quoted paths. */
export function sealedTextsShapes(paths: Readonly<Record<SealedTable, string>>): Record<SealedTable, SealedTextsShape> {
  const pair = {
    id: { column: 'id', type: 'bigint', first: '-9223372036854775808' },
    user: 'keycloak_user_id',
    idp: 'identity_provider',
    account: 'account',
    texts: ['access_token', 'refresh_token'],
    prefix: '',
    needed: null,
  } as const;
  return {
    auth_tokens: { name: 'auth_tokens', table: paths.auth_tokens, writtenAt: 'updated_at', ...pair },
    offline_tokens: {
      name: 'offline_tokens',
      table: paths.offline_tokens,
      id: { column: 'user_id', type: 'text', first: '' },
      user: 'user_id',
      idp: null,
      account: null,
      texts: ['offline_token'],
      prefix: '{"tokens":"',
      writtenAt: 'updated_at',
      needed: null,
    },
    token_revocations: {
      name: 'token_revocations',
      table: paths.token_revocations,
      writtenAt: 'created_at',
      ...pair,
    },
    link_attempts: {
      name: 'link_attempts',
      table: paths.link_attempts,
      id: { column: 'state_hash', type: 'text', first: '' },
      user: 'keycloak_user_id',
      idp: 'identity_provider',
      account: 'account',
      texts: ['code_verifier'],
      prefix: '',
      writtenAt: 'created_at',
      needed: 'stored.expires_at > now()', // no call opens the text of an expired attempt
    },
  };
}

/**
 * The sealed texts of all tables, with one method for each statement, outside of every transaction. Every method throws
 * {@link TokenStoreUnavailableError}.
 */
@Injectable()
export class SealedTextsTable {
  readonly #sql = once(() => {
    const paths = {
      auth_tokens: tablePathOf(this.dataSource, AuthTokens),
      offline_tokens: tablePathOf(this.dataSource, StoredOfflineToken),
      token_revocations: tablePathOf(this.dataSource, TokenRevocation),
      link_attempts: tablePathOf(this.dataSource, LinkAttempt),
    };
    const shapes = sealedTextsShapes(paths);
    return {
      shapes,
      auth_tokens: sealedTextsStatements(shapes.auth_tokens),
      offline_tokens: sealedTextsStatements(shapes.offline_tokens),
      token_revocations: sealedTextsStatements(shapes.token_revocations),
      link_attempts: sealedTextsStatements(shapes.link_attempts),
      openWriters: openWritersStatement(Object.values(paths)),
    };
  });

  constructor(
    @Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource,
    private readonly executor: StatementExecutor,
  ) {}

  /** Counts the texts of a table by their keys, in one pass over the table. An empty text does not count. */
  count(table: SealedTable): Promise<TextCount[]> {
    return this.executor.executeOnWholeTable(this.#sql()[table].count, {});
  }

  /** Returns about how many rows a table has; null when the server does not know. */
  async estimate(table: SealedTable): Promise<number | null> {
    const [estimated = 0] = await this.executor.executeDetached(this.#sql()[table].estimate, {});
    return estimated > 0 ? Math.round(estimated) : null;
  }

  /** Returns the next rows of a table. @param after the last id of the page before; null for the first page */
  async page(table: SealedTable, { after, limit, sealedPrefix }: PageOfTable): Promise<TextsOfRow[]> {
    const { shapes, ...sql } = this.#sql();
    const { first } = shapes[table].id;
    // Every value may be a primary key, also the least one. So the page begins with the last row of the page before.
    const request = { from: after ?? first, limit: after === null ? limit : limit + 1, sealedPrefix };
    const rows = await this.executor.executeDetached(sql[table].page, request);
    return rows.filter(({ id }) => id !== after).slice(0, limit);
  }

  /** Returns these rows as they are now. */
  look(table: SealedTable, ids: readonly string[], sealedPrefix: string): Promise<TextsOfRow[]> {
    return this.executor.executeDetached(this.#sql()[table].look, { ids, sealedPrefix });
  }

  /**
   * Returns some rows with all their texts: those that were written last, and as many at random places. It reads the
   * table once.
   */
  async sample(table: SealedTable, rows: number): Promise<TextsOfRow[]> {
    const estimated = (await this.estimate(table)) ?? 0;
    const percent = Math.min(100, (ROWS_OF_A_SAMPLE_FOR_EACH * rows * 100) / Math.max(estimated, 1));
    const sampled = await this.executor.executeOnWholeTable(this.#sql()[table].sample, { rows, percent });
    return [...new Map(sampled.map((row) => [row.id, row])).values()];
  }

  /**
   * Replaces texts that the rows still have. Returns the ids of the rows that have all their new texts. The other rows
   * are locked, were written since they were read, or are gone.
   */
  async replace(table: SealedTable, rows: readonly TextsToReplace[]): Promise<Set<string>> {
    const replaced = await this.executor.executeDetached(this.#sql()[table].replace, columnsOf(rows));
    return new Set(replaced.filter((id) => id !== null));
  }

  /** Lists the open transactions that have written to one of the tables. */
  openWriters(): Promise<OpenWriter[]> {
    return this.executor.executeDetached(this.#sql().openWriters, {});
  }
}
