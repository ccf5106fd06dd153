import type { QueryRunner } from 'typeorm';

import { TokensConfigurationError } from '../../tokens.errors.js';
import { indexPath, tablePath } from './runner-paths.js';

/** Type and modifiers of a column, in the words that PostgreSQL uses when it describes a column. */
export type ColumnShape = readonly [type: string, modifiers?: string];

/** Columns of an index, in their order, and whether it is unique. */
export interface IndexShape {
  readonly columns: string;
  readonly unique?: boolean;
}

/** The parts of a table that this module needs, by name. The table may have more. */
export interface TableShape {
  readonly name: string;
  readonly columns: Readonly<Record<string, ColumnShape>>;
  readonly constraints: Readonly<Record<string, string>>;
  readonly indexes: Readonly<Record<string, IndexShape>>;
}

/** A column of a table in the database. */
export interface FoundColumn {
  readonly name: string;
  readonly type: string;
  readonly modifiers: string;
}

/** How a table in the database differs from a shape. */
export interface TableGap {
  readonly shape: TableShape;
  readonly exists: boolean;
  readonly columns: readonly FoundColumn[];
  readonly missing: Pick<TableShape, 'columns' | 'constraints' | 'indexes'>;
  /** The parts that the migration cannot use, each with what it found and what it wants. */
  readonly conflicts: readonly string[];
}

/**
 * Returns how a table in the database differs from a shape. Changes nothing.
 *
 * @param fits decides whether a column of the right name is accepted; by default its type and modifiers must be as
 * wanted
 * @throws QueryFailedError when PostgreSQL refuses
 */
export async function compareTable(
  queryRunner: QueryRunner,
  shape: TableShape,
  fits: (found: FoundColumn, wanted: ColumnShape) => boolean = isAsWanted,
): Promise<TableGap> {
  const path = tablePath(queryRunner, shape.name);
  const [relation] = (await queryRunner.query(`SELECT relkind AS kind FROM pg_class WHERE oid = to_regclass($1)`, [
    path,
  ])) as { kind: string }[];
  const indexes = await compareIndexes(queryRunner, shape);
  if (relation === undefined) {
    const missing = { ...shape, indexes: indexes.missing };
    return { shape, exists: false, columns: [], missing, conflicts: indexes.conflicts };
  }
  if (!['r', 'p'].includes(relation.kind)) {
    const conflicts = [`${path}: found a view or another relation, wanted a table`];
    return { shape, exists: true, columns: [], missing: { columns: {}, constraints: {}, indexes: {} }, conflicts };
  }
  const columns = await columnsOf(queryRunner, path);
  const found = new Map(columns.map((column) => [column.name, column]));
  const conflicts = Object.entries(shape.columns).flatMap(([name, wanted]) => {
    const column = found.get(name);
    if (column === undefined ? canBeAdded(wanted) : fits(column, wanted)) return [];
    const is = column === undefined ? 'nothing' : definitionOf([column.type, column.modifiers]);
    return [`table ${path}, column "${name}": found ${is}, wanted ${definitionOf(wanted)}`];
  });
  return {
    shape,
    exists: true,
    columns,
    missing: {
      columns: Object.fromEntries(Object.entries(shape.columns).filter(([name]) => !found.has(name))),
      constraints: await missingConstraints(queryRunner, path, shape),
      indexes: indexes.missing,
    },
    conflicts: [...conflicts, ...indexes.conflicts],
  };
}

/**
 * Throws if a table has a conflict.
 *
 * @throws {@link TokensConfigurationError} that lists all conflicts of all tables
 */
export function rejectConflicts(gaps: readonly TableGap[]): void {
  const conflicts = gaps.flatMap((gap) => gap.conflicts);
  if (conflicts.length === 0) return;
  throw new TokensConfigurationError(
    'A migration of nestjs-idp-tokens stopped before it changed anything, because something else is in its place:\n' +
      conflicts.map((conflict) => `- ${conflict}\n`).join('') +
      'Rename or drop each of these columns, tables or indexes of yours, or make it what is wanted. Then run the ' +
      'migrations again.',
  );
}

/**
 * Adds what is missing. All columns and constraints share one ALTER TABLE, so that a random default rewrites the table
 * only once.
 *
 * @throws QueryFailedError when PostgreSQL refuses
 */
export async function completeTable(queryRunner: QueryRunner, { shape, exists, missing }: TableGap): Promise<void> {
  const path = tablePath(queryRunner, shape.name);
  const parts = [
    ...Object.entries(missing.columns).map(([name, wanted]) => ['COLUMN', `${name} ${definitionOf(wanted)}`]),
    ...Object.entries(missing.constraints).map(([name, definition]) => ['CONSTRAINT', `${name} ${definition}`]),
  ] as [string, string][];
  if (!exists) {
    const definitions = parts.map(([kind, part]) => (kind === 'COLUMN' ? part : `${kind} ${part}`));
    await queryRunner.query(`CREATE TABLE ${path} (${definitions.join(', ')})`);
  } else if (parts.length > 0) {
    await queryRunner.query(`ALTER TABLE ${path} ${parts.map(([kind, part]) => `ADD ${kind} ${part}`).join(', ')}`);
  }
  for (const [name, { columns, unique }] of Object.entries(missing.indexes)) {
    await queryRunner.query(`CREATE ${unique ? 'UNIQUE ' : ''}INDEX ${name} ON ${path} (${columns})`);
  }
}

function isAsWanted({ type, modifiers }: FoundColumn, [wantedType, wantedModifiers = '']: ColumnShape): boolean {
  return type === wantedType && comparable(modifiers) === comparable(wantedModifiers);
}

/**
 * Removes casts, quotes and brackets, because TypeORM writes DEFAULT '0' for a number, and PostgreSQL does not store
 * this as DEFAULT 0.
 */
function comparable(modifiers: string): string {
  return modifiers.replace(/::[a-z]+( [a-z]+)*/g, '').replace(/['() ]/g, '');
}

function definitionOf([type, modifiers]: ColumnShape): string {
  return modifiers ? `${type} ${modifiers}` : type;
}

/**
 * Returns whether the migration may add a column. It does not add a NOT NULL column without a default, because a table
 * without this column is not the wanted table.
 */
function canBeAdded([, modifiers = '']: ColumnShape): boolean {
  return !modifiers.includes('NOT NULL') || modifiers.includes('DEFAULT ');
}

async function columnsOf(queryRunner: QueryRunner, path: string): Promise<FoundColumn[]> {
  return (await queryRunner.query(
    `SELECT attname AS name, format_type(atttypid, atttypmod) AS type, concat_ws(' ',
         CASE WHEN attnotnull THEN 'NOT NULL' END,
         CASE attidentity WHEN 'd' THEN 'GENERATED BY DEFAULT AS IDENTITY' WHEN 'a' THEN 'GENERATED ALWAYS AS IDENTITY' END,
         CASE attgenerated WHEN '' THEN 'DEFAULT ' ELSE 'GENERATED ALWAYS AS ' END || pg_get_expr(adbin, adrelid)
       ) AS modifiers
     FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
     WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [path],
  )) as FoundColumn[];
}

async function missingConstraints(
  queryRunner: QueryRunner,
  path: string,
  { constraints }: TableShape,
): Promise<Record<string, string>> {
  const found = (await queryRunner.query(
    `SELECT conname AS name, contype AS type FROM pg_constraint WHERE conrelid = to_regclass($1)`,
    [path],
  )) as { name: string; type: string }[];
  const hasPrimaryKey = found.some(({ type }) => type === 'p');
  return Object.fromEntries(
    Object.entries(constraints).filter(
      ([wanted, definition]) =>
        !found.some(({ name }) => name === wanted) && !(hasPrimaryKey && definition.startsWith('PRIMARY KEY')),
    ),
  );
}

async function compareIndexes(
  queryRunner: QueryRunner,
  shape: TableShape,
): Promise<{ missing: Record<string, IndexShape>; conflicts: string[] }> {
  const path = tablePath(queryRunner, shape.name);
  const missing: Record<string, IndexShape> = {};
  const conflicts: string[] = [];
  for (const [name, wanted] of Object.entries(shape.indexes)) {
    const [found] = (await queryRunner.query(
      `SELECT indrelid = to_regclass($2) AS ours, pg_get_indexdef(pg_class.oid) AS definition
       FROM pg_class LEFT JOIN pg_index ON indexrelid = pg_class.oid WHERE pg_class.oid = to_regclass($1)`,
      [indexPath(queryRunner, name), path],
    )) as { ours: boolean | null; definition: string | null }[];
    if (found === undefined) {
      missing[name] = wanted;
    } else if (!found.ours || !isIndex(found.definition ?? '', wanted)) {
      const is = found.definition ?? 'another relation of this name';
      const kind = wanted.unique ? 'a unique index' : 'an index';
      conflicts.push(`index "${name}": found ${is}, wanted ${kind} on ${path} (${wanted.columns})`);
    }
  }
  return { missing, conflicts };
}

function isIndex(definition: string, { columns, unique = false }: IndexShape): boolean {
  return (
    definition.startsWith('CREATE UNIQUE') === unique &&
    definition.includes(` USING btree (${columns})`) &&
    !definition.includes(' WHERE ')
  );
}
