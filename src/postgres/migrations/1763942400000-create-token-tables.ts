import type { MigrationInterface, QueryRunner } from 'typeorm';

import { tablePath } from './runner-paths.js';
import {
  type ColumnShape,
  compareTable,
  completeTable,
  type FoundColumn,
  rejectConflicts,
  type TableGap,
} from './table-shape.js';
import { ADOPTED_AUTH_TOKENS, ADOPTED_OFFLINE_TOKENS, INDEX_WITHOUT_ACCOUNT, serves } from './token-tables.js';

const LIMITED = /^character( varying)?\(\d+\)$/;

/**
 * Comment on the primary key of a table that the migration created. It is not on the table, because TypeORM would
 * report such a comment as a drift.
 */
const CREATED_HERE = 'created by nestjs-idp-tokens';

/** Creates the two token tables in the shape of the system that had them first, or adopts them with their rows. */
export class CreateTokenTables1763942400000 implements MigrationInterface {
  readonly name = 'CreateTokenTables1763942400000';

  /**
   * Creates what is missing, and widens the columns of an adopted table that may be too short for a token or an id.
   *
   * @throws {@link TokensConfigurationError} when a table of one of these names is not as wanted
   */
  async up(queryRunner: QueryRunner): Promise<void> {
    const gaps: TableGap[] = [];
    for (const shape of [ADOPTED_AUTH_TOKENS, ADOPTED_OFFLINE_TOKENS])
      gaps.push(await compareTable(queryRunner, shape, canBeAdopted));
    rejectConflicts(gaps);
    for (const gap of gaps) {
      await widen(queryRunner, gap);
      await completeTable(queryRunner, withoutReplacedIndex(gap));
      if (gap.exists) continue;
      const { name } = gap.shape;
      const primaryKey = `CONSTRAINT ${name}_pkey ON ${tablePath(queryRunner, name)}`;
      await queryRunner.query(`COMMENT ON ${primaryKey} IS '${CREATED_HERE}'`);
    }
  }

  /**
   * Drops the tables that are empty and that this migration created. It does not drop an adopted table, because that
   * table belongs to the other system. It does not narrow a widened column, because a value may be longer than the old
   * limit, and the wide type accepts every value of the narrow one.
   */
  async down(queryRunner: QueryRunner): Promise<void> {
    for (const { name } of [ADOPTED_AUTH_TOKENS, ADOPTED_OFFLINE_TOKENS]) {
      const table = tablePath(queryRunner, name);
      await queryRunner.query(`
        DO $$ BEGIN
          LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE;
          IF NOT EXISTS (SELECT FROM ${table}) AND EXISTS (
            SELECT FROM pg_constraint WHERE conrelid = '${table}'::regclass AND contype = 'p'
              AND obj_description(oid, 'pg_constraint') = '${CREATED_HERE}') THEN
            DROP TABLE ${table};
          END IF;
        END $$`);
    }
  }
}

/**
 * Returns the gap without the index that the next migration replaces, if the table has accounts already. TypeORM's
 * `synchronize` may have created such a table, and two accounts of a user may be in it.
 */
function withoutReplacedIndex(gap: TableGap): TableGap {
  if (!gap.columns.some(({ name }) => name === 'account')) return gap;
  const indexes = Object.entries(gap.missing.indexes).filter(([name]) => name !== INDEX_WITHOUT_ACCOUNT.name);
  return { ...gap, missing: { ...gap.missing, indexes: Object.fromEntries(indexes) } };
}

function canBeAdopted(found: FoundColumn, wanted: ColumnShape): boolean {
  return serves(found, wanted) || canBeWidened(found, wanted);
}

function canBeWidened({ type }: FoundColumn, [wanted]: ColumnShape): boolean {
  return wanted.startsWith('character') && LIMITED.test(type);
}

/**
 * Widens the columns that are too short. This changes only the catalog, unless a column is char(n). PostgreSQL rewrites
 * every row of such a column, because it must remove the padding.
 */
async function widen(queryRunner: QueryRunner, { shape, columns }: TableGap): Promise<void> {
  const changes = columns.flatMap((found) => {
    const wanted = shape.columns[found.name];
    if (wanted === undefined || serves(found, wanted) || !canBeWidened(found, wanted)) return [];
    return [`ALTER COLUMN ${found.name} TYPE ${wanted[0]}`];
  });
  if (changes.length === 0) return;
  await queryRunner.query(`ALTER TABLE ${tablePath(queryRunner, shape.name)} ${changes.join(', ')}`);
}
