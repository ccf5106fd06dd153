import type { QueryResultRow } from 'pg';

import { defineStatement, type Statement } from '../../postgres/statement.js';
import type { Columns } from '../leases/lease.statements.js';

/** Describes where one table has its sealed texts. */
export interface SealedTextsShape {
  /** Part of the names of the statements, and of error messages. */
  readonly name: string;
  /** Quoted path. */
  readonly table: string;
  /** The primary key, by which the rows are walked, and the least value that a row may have. */
  readonly id: { readonly column: string; readonly type: 'bigint' | 'text'; readonly first: string };
  readonly user: string;
  /** Null for a table without a column of the identity provider. */
  readonly idp: string | null;
  /** Null for a table without a column of the account. */
  readonly account: string | null;
  /** One or two columns. A text in them may be empty. */
  readonly texts: readonly [first: string, second?: string];
  /** What the module writes before the sealed text in such a column. */
  readonly prefix: string;
  /** The time of the last write of a row that stores a text. */
  readonly writtenAt: string;
  /** SQL of the condition of the rows, of the alias `stored`, whose texts are needed; null if all of them are. */
  readonly needed: string | null;
}

/** A row, with those of its texts that the sealing key has not sealed. The other ones are null. */
export interface TextsOfRow {
  readonly id: string;
  readonly keycloakUserId: string;
  /** Empty for a table without a column of the identity provider. */
  readonly idp: string;
  /** Empty for the default account. */
  readonly account: string;
  readonly first: string | null;
  readonly second: string | null;
}

/** The texts of a row to replace. A text is replaced if the column still has the old one. Null replaces nothing. */
export interface TextsToReplace {
  readonly id: string;
  readonly oldFirst: string | null;
  readonly newFirst: string | null;
  readonly oldSecond: string | null;
  readonly newSecond: string | null;
}

/** How many texts of a table name a key. The key id is null for the texts that name none. */
export interface TextCount {
  readonly keyId: string | null;
  readonly texts: number;
}

/** A part of the rows of a table, by the primary key. */
export interface PageRequest {
  /** The primary key with which the page begins. */
  readonly from: string;
  readonly limit: number;
  /** How the texts begin that the sealing key has sealed. */
  readonly sealedPrefix: string;
}

/** A request for some rows of a table, with all their texts. */
export interface SampleRequest {
  /** How many rows the statement returns of those written last, and how many of those at random places. */
  readonly rows: number;
  /** The part of the pages of the table from which the random rows are, in percent: above 0, and at most 100. */
  readonly percent: number;
}

/** The statements on the sealed texts of a table, named by what they do. Each is one round trip. */
export interface SealedTextsStatements {
  readonly count: Statement<object, TextCount>;
  /** Returns the expected number of rows, by the last ANALYZE; 0 or less if it is not known. */
  readonly estimate: Statement<object, number>;
  readonly page: Statement<PageRequest, TextsOfRow>;
  readonly look: Statement<{ readonly ids: readonly string[]; readonly sealedPrefix: string }, TextsOfRow>;
  /** Returns a row twice if it is among both kinds. */
  readonly sample: Statement<SampleRequest, TextsOfRow>;
  /** Returns the ids of the rows that have all their new texts, and null for each row that has one of two. */
  readonly replace: Statement<Columns<TextsToReplace>, string | null>;
}

/** SQL of the key id in a column; NULL if the text names no key. A key id is at most 64 characters. */
export const keyIdIn = (column: string) => `substring(${column} FROM '(?:^|")v1\\.([A-Za-z0-9_-]{1,64})\\.')`;

/**
 * SQL of what may be the key id in a column. The count of a million rows takes 3 s with it, and 21 s with
 * {@link keyIdIn} alone, because PostgreSQL searches a part of a match slowly.
 */
const quickKeyIdIn = (column: string, prefix: string) =>
  `CASE WHEN starts_with(${column}, '${prefix}v1.') THEN split_part(left(${column}, 120), '.', 2)
              ELSE ${keyIdIn(column)} END`;

/** Returns the statements that count the texts of a table by their keys, and replace texts by others. */
export function sealedTextsStatements(shape: SealedTextsShape): SealedTextsStatements {
  const { name, table, id, user, idp, account, texts, prefix, needed } = shape;
  const [whereNeeded, andNeeded] = needed === null ? ['', ''] : [` WHERE ${needed}`, ` AND ${needed}`];
  const slots = texts.flatMap((column, position) =>
    column === undefined ? [] : [{ column, slot: position === 0 ? 'first' : 'second' }],
  );
  // A text of the sealing key stays in PostgreSQL, so a second walk transfers little.
  const open = (column: string) =>
    `CASE WHEN stored.${column} <> '' AND NOT starts_with(stored.${column}, '${prefix}' || $sealedPrefix::text)
           THEN stored.${column} END`;
  const textColumns = `${open(texts[0])} AS first_text, ${texts[1] === undefined ? 'NULL' : open(texts[1])} AS second_text`;
  const orEmpty = (column: string | null) => (column === null ? "''" : `stored.${column}`);
  const ofRow = `stored.${id.column}::text AS row_id, stored.${user} AS keycloak_user_id,
         ${orEmpty(idp)} AS identity_provider, ${orEmpty(account)} AS account`;
  const row = `${ofRow}, ${textColumns}`;
  const whole = (column?: string) => (column === undefined ? 'NULL' : `nullif(stored.${column}, '')`);
  const wholeRow = `${ofRow}, ${whole(texts[0])} AS first_text, ${whole(texts[1])} AS second_text`;
  const replaced = (column: string, slot: string) =>
    `${column} = CASE WHEN stored.${column} = unlocked.old_${slot} THEN unlocked.new_${slot} ELSE stored.${column} END`;

  return {
    count: defineStatement({
      label: `count_texts_${name}`,
      action: `count the sealed texts of ${name}`,
      isRepeatable: true,
      text: `SELECT CASE WHEN named.key_id ~ '^[A-Za-z0-9_-]{1,64}$' THEN named.key_id END AS key_id, sum(named.texts) AS texts
        FROM (SELECT ${quickKeyIdIn('each.sealed', prefix)} AS key_id, count(*) AS texts FROM ${table} AS stored
            CROSS JOIN LATERAL (VALUES ${slots.map(({ column }) => `(stored.${column})`).join(', ')}) AS each (sealed)
            WHERE each.sealed <> ''${andNeeded} GROUP BY 1) AS named GROUP BY 1`,
      read: ({ key_id, texts: count }) => ({ keyId: key_id as string | null, texts: Number(count) }),
    }),

    estimate: defineStatement({
      label: `estimate_${name}`,
      action: `estimate the rows of ${name}`,
      isRepeatable: true,
      text: `SELECT relation.reltuples AS estimated FROM pg_class AS relation WHERE relation.oid = ${regclass(table)}`,
      read: ({ estimated }) => Number(estimated),
    }),

    page: defineStatement({
      label: `page_texts_${name}`,
      action: `read the sealed texts of ${name}`,
      isRepeatable: true,
      text: `SELECT ${row} FROM ${table} AS stored WHERE stored.${id.column} >= $from::${id.type}${andNeeded}
         ORDER BY stored.${id.column} LIMIT $limit`,
      read: readRow,
    }),

    look: defineStatement({
      label: `look_texts_${name}`,
      action: `read the sealed texts of ${name}`,
      isRepeatable: true,
      text: `SELECT ${row} FROM ${table} AS stored WHERE stored.${id.column} = ANY ($ids::${id.type}[])${andNeeded}`,
      read: readRow,
    }),

    // It reads the table once for the rows written last, because no index may have a column that a refresh changes.
    sample: defineStatement({
      label: `sample_texts_${name}`,
      action: `read a sample of the sealed texts of ${name}`,
      isRepeatable: true,
      text: `(SELECT ${wholeRow} FROM ${table} AS stored${whereNeeded}
         ORDER BY stored.${shape.writtenAt} DESC LIMIT $rows)
       UNION ALL
       (SELECT ${wholeRow} FROM ${table} AS stored TABLESAMPLE SYSTEM ($percent)${whereNeeded}
         ORDER BY random() LIMIT $rows)`,
      read: readRow,
    }),

    // The statement skips locked rows, as the batches of stores and commits do, so it waits for none of them. It writes
    // the text only: a refresh under way knows the row by its version, and this stays.
    replace: defineStatement({
      label: `replace_texts_${name}`,
      action: `seal the texts of ${name} anew`,
      isRepeatable: true, // the second try finds other texts than the old ones
      text: `WITH unlocked AS MATERIALIZED (
         SELECT stored.${id.column} AS row_id, asked.* FROM unnest((SELECT $id::${id.type}[]), (SELECT $oldFirst::text[]),
             (SELECT $newFirst::text[]), (SELECT $oldSecond::text[]), (SELECT $newSecond::text[]))
             AS asked (asked_id, old_first, new_first, old_second, new_second)
           JOIN ${table} AS stored ON stored.${id.column} = asked.asked_id FOR NO KEY UPDATE OF stored SKIP LOCKED)
       UPDATE ${table} AS stored SET ${slots.map(({ column, slot }) => replaced(column, slot)).join(',\n           ')}
         FROM unlocked WHERE stored.${id.column} = unlocked.row_id
           AND (${slots.map(({ column, slot }) => `stored.${column} = unlocked.old_${slot}`).join(' OR ')})
         RETURNING CASE WHEN ${slots
           .map(({ column, slot }) => `stored.${column} = coalesce(unlocked.new_${slot}, stored.${column})`)
           .join(' AND ')} THEN stored.${id.column}::text END AS row_id`,
      read: ({ row_id }) => row_id as string | null,
    }),
  };
}

/** An open transaction that has written to one of the tables, or waits to do so. */
export interface OpenWriter {
  /** Names the transaction. No other one has had this name. */
  readonly id: string;
  /** The server process; null for a prepared transaction. */
  readonly pid: number | null;
  /** Null when the database user may not see it. */
  readonly openSince: Date | null;
}

/**
 * Returns the statement that lists the open transactions that have written to the tables, or wait to do so behind a lock
 * on a table. They are found by their locks, because every user may read `pg_locks`, and a transaction that only reads
 * does not count.
 *
 * @param tables quoted paths
 */
export function openWritersStatement(tables: readonly string[]): Statement<object, OpenWriter> {
  return defineStatement({
    label: 'open_writers',
    action: 'list the open transactions that have written tokens',
    isRepeatable: true,
    text: `SELECT DISTINCT held.virtualtransaction AS id, held.pid, date_part('epoch', activity.xact_start) AS open_since
      FROM pg_locks AS held LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid
      WHERE held.locktype = 'relation' AND held.mode = 'RowExclusiveLock'
        AND held.database = (SELECT own.oid FROM pg_database AS own WHERE own.datname = current_database())
        AND held.relation IN (${tables.map(regclass).join(', ')})`,
    read: ({ id, pid, open_since }) => ({
      id: String(id),
      pid: pid as number | null,
      openSince: open_since === null ? null : new Date(Number(open_since) * 1000),
    }),
  });
}

function regclass(table: string): string {
  return `'${table.replaceAll("'", "''")}'::regclass`;
}

function readRow(row: QueryResultRow): TextsOfRow {
  return {
    id: String(row.row_id),
    keycloakUserId: String(row.keycloak_user_id),
    idp: String(row.identity_provider),
    account: String(row.account),
    first: row.first_text as string | null,
    second: row.second_text as string | null,
  };
}
