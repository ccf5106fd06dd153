import type { QueryRunner } from 'typeorm';

import { tablePath } from './migrations/runner-paths.js';
import { type ColumnShape, compareTable, type FoundColumn, type TableShape } from './migrations/table-shape.js';
import {
  ADOPTED_AUTH_TOKENS,
  ADOPTED_OFFLINE_TOKENS,
  AUTH_TOKENS,
  FILLFACTOR,
  INDEX_WITHOUT_ACCOUNT,
  OFFLINE_TOKENS,
  OWN_TABLES,
  serves,
} from './migrations/token-tables.js';

/** One respect in which a table differs from what the migrations make. */
export interface SchemaGap {
  /** A clause without a full stop. */
  readonly gap: string;
  /** Whether the statements of the module work in spite of it with what the tables have. */
  readonly isHarmless: boolean;
}

const LEASED_TABLES = [AUTH_TOKENS, OFFLINE_TOKENS];

/**
 * Returns how the tables of the module differ from what the migrations make of a new or an adopted database. It changes
 * nothing. Columns, indexes and constraints of the host do not count, unless they refuse the rows of the module.
 *
 * @throws QueryFailedError when PostgreSQL refuses
 */
export async function schemaGaps(queryRunner: QueryRunner): Promise<SchemaGap[]> {
  const gaps: SchemaGap[] = [];
  for (const shape of [
    merged(withoutReplacedIndex(ADOPTED_AUTH_TOKENS), AUTH_TOKENS),
    merged(ADOPTED_OFFLINE_TOKENS, OFFLINE_TOKENS),
    ...OWN_TABLES,
  ]) {
    gaps.push(...(await gapsOf(queryRunner, shape)));
  }
  return [...gaps, ...(await oneAccountGaps(queryRunner))];
}

function withoutReplacedIndex(shape: TableShape): TableShape {
  const indexes = Object.entries(shape.indexes).filter(([name]) => name !== INDEX_WITHOUT_ACCOUNT.name);
  return { ...shape, indexes: Object.fromEntries(indexes) };
}

/**
 * The unique indexes that refuse a second account of a user at a provider, if the table has accounts. They harm only a
 * host that names accounts.
 */
async function oneAccountGaps(queryRunner: QueryRunner): Promise<SchemaGap[]> {
  const path = tablePath(queryRunner, AUTH_TOKENS.name);
  const indexes = (await queryRunner.query(
    `SELECT index.relname AS name FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid
     WHERE indrelid = to_regclass($1) AND indisunique AND ARRAY(
         SELECT coalesce(attname::text, '') FROM unnest((indkey::int2[])[0:indnkeyatts - 1]) AS number
           LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = number ORDER BY 1)
         = ARRAY(SELECT unnest(string_to_array($2, ', ')) ORDER BY 1)
       AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = indrelid AND attname = 'account' AND NOT attisdropped)
     ORDER BY index.relname`,
    [path, INDEX_WITHOUT_ACCOUNT.columns],
  )) as { name: string }[];
  if (indexes.length === 0) return [];
  const named = (await queryRunner.query(`SELECT FROM ${path} WHERE account <> '' LIMIT 1`)) as unknown[];
  return indexes.map(({ name }) => ({
    gap: `the unique index ${name} of ${path} refuses a second account of a user at a provider`,
    isHarmless: named.length === 0,
  }));
}

function merged(adopted: TableShape, added: TableShape): TableShape {
  return {
    name: added.name,
    columns: { ...adopted.columns, ...added.columns },
    constraints: { ...adopted.constraints, ...added.constraints },
    indexes: { ...adopted.indexes, ...added.indexes },
  };
}

async function gapsOf(queryRunner: QueryRunner, shape: TableShape): Promise<SchemaGap[]> {
  const path = tablePath(queryRunner, shape.name);
  const { exists, columns, missing, conflicts } = await compareTable(queryRunner, { ...shape, columns: {} });
  if (!exists) return [broken(`the table ${path} is missing`)];
  const found = new Map(columns.map((column) => [column.name, column]));
  if (found.size === 0) return conflicts.map(broken);
  return [
    ...Object.entries(shape.columns).flatMap(([name, wanted]) =>
      columnGaps(`${path}.${name}`, found.get(name), wanted),
    ),
    ...columns.filter((column) => !(column.name in shape.columns)).flatMap((column) => refusing(path, column)),
    ...Object.keys(missing.indexes).map((name) => broken(`the index ${name} of ${path} is missing`)),
    ...Object.entries(missing.constraints).map(([name, definition]) => ({
      gap: `the constraint ${name} of ${path} is missing`,
      isHarmless: definition.startsWith('CHECK'),
    })),
    ...conflicts.map(broken),
    ...(await storageGaps(
      queryRunner,
      path,
      LEASED_TABLES.some(({ name }) => name === shape.name),
    )),
  ];
}

function columnGaps(column: string, found: FoundColumn | undefined, wanted: ColumnShape): SchemaGap[] {
  if (!found) return [broken(`the column ${column} is missing`)];
  const [type, modifiers = ''] = wanted;
  if (found.type !== type && !serves(found, wanted)) {
    return [broken(`the column ${column} has the type ${found.type}, not ${type}`)];
  }
  const isNotNull = modifiers.startsWith('NOT NULL');
  if (hasValueOfItsOwn(modifiers) && !hasValueOfItsOwn(found.modifiers)) {
    return [broken(`the column ${column} has no default`)];
  }
  if (found.modifiers.startsWith('NOT NULL') === isNotNull) return [];
  return isNotNull
    ? [{ gap: `the column ${column} is not NOT NULL`, isHarmless: true }]
    : [broken(`the column ${column} is NOT NULL, and the module stores NULL in it`)];
}

/** A column of the host that has no value in the rows of the module. */
function refusing(path: string, { name, modifiers }: FoundColumn): SchemaGap[] {
  if (!modifiers.startsWith('NOT NULL') || hasValueOfItsOwn(modifiers)) return [];
  return [broken(`the column ${path}.${name}, which is not of the module, is NOT NULL and has no default`)];
}

function hasValueOfItsOwn(modifiers: string): boolean {
  return /DEFAULT|GENERATED/.test(modifiers);
}

async function storageGaps(queryRunner: QueryRunner, path: string, isLeased: boolean): Promise<SchemaGap[]> {
  const rows = (await queryRunner.query(
    `SELECT NULL AS invalid, (SELECT option_value FROM pg_options_to_table(reloptions) WHERE option_name = 'fillfactor')
         AS fillfactor FROM pg_class WHERE oid = to_regclass($1)
     UNION ALL SELECT index.relname, NULL FROM pg_index JOIN pg_class AS index ON index.oid = indexrelid
       WHERE indrelid = to_regclass($1) AND NOT indisvalid`,
    [path],
  )) as { invalid: string | null; fillfactor: string | null }[];
  return rows.flatMap(({ invalid, fillfactor }) => {
    if (invalid !== null) return [broken(`the index ${invalid} of ${path} is not valid`)];
    const isFull = isLeased && Number(fillfactor ?? 100) > FILLFACTOR;
    return isFull ? [{ gap: `the fillfactor of ${path} is above ${FILLFACTOR}`, isHarmless: true }] : [];
  });
}

function broken(gap: string): SchemaGap {
  return { gap, isHarmless: false };
}
