import type { MigrationInterface, QueryRunner } from 'typeorm';

import { TokensConfigurationError } from '../../tokens.errors.js';
import { indexPath, tablePath } from './runner-paths.js';
import { compareTable, completeTable, rejectConflicts, type TableGap, type TableShape } from './table-shape.js';
import {
  AUTH_TOKENS,
  FILLFACTOR,
  INDEX_WITHOUT_ACCOUNT,
  LINK_ATTEMPTS,
  OFFLINE_TOKENS,
  OWN_TABLES,
  statusCheck,
} from './token-tables.js';

/**
 * Start of the comment on a status check. The comment names the columns that existed before the migration, because
 * `down` must not drop them.
 */
const FOUND_HERE = 'found by nestjs-idp-tokens: ';

/**
 * Adds the state of the refresh to both token tables, adds the account and the scopes to `auth_tokens`, and creates the
 * tables of the module's own. The account joins the unique index. Every row that is there, or that the adopted system
 * inserts later, has the default account. One ALTER TABLE adds all columns of a token table, because the random
 * default rewrites the table. So the adoption of n rows takes the time of one copy of them, under an exclusive lock.
 *
 * No index covers a column that a refresh changes, and a fifth of each page stays free, so that the updates of a
 * refresh are heap-only.
 */
export class AddRefreshState1763942400001 implements MigrationInterface {
  readonly name = 'AddRefreshState1763942400001';

  /**
   * Adds the parts that are missing, because TypeORM's `synchronize` may have created some or all of them.
   *
   * @throws {@link TokensConfigurationError} when a table has another column of the same name
   */
  async up(queryRunner: QueryRunner): Promise<void> {
    const gaps: TableGap[] = [];
    for (const shape of [AUTH_TOKENS, OFFLINE_TOKENS, ...OWN_TABLES]) {
      gaps.push(await compareTable(queryRunner, shape));
    }
    rejectConflicts(gaps);
    for (const { name } of [AUTH_TOKENS, OFFLINE_TOKENS]) {
      await queryRunner.query(`ALTER TABLE ${tablePath(queryRunner, name)} SET (fillfactor = ${FILLFACTOR})`);
    }
    await dropIndexWithoutAccount(queryRunner); // before the table is rewritten, which would write this index anew
    for (const gap of gaps) {
      await completeTable(queryRunner, gap);
      if (!OWN_TABLES.includes(gap.shape)) await rememberFound(queryRunner, gap);
    }
  }

  /**
   * Drops the columns that this migration added, and each of its own tables that is empty. It does not drop pairs that
   * the module must still revoke, notes of disconnected accounts or registered keys, because the host may run the
   * migrations again.
   *
   * @throws {@link TokensConfigurationError} when rows name an account, because they have no place in the older table
   */
  async down(queryRunner: QueryRunner): Promise<void> {
    await refuseNamedAccounts(queryRunner);
    // No attempt to link an account outlives a migration.
    await queryRunner.query(`DROP TABLE IF EXISTS ${tablePath(queryRunner, LINK_ATTEMPTS.name)}`);
    for (const { name } of OWN_TABLES) {
      const table = tablePath(queryRunner, name);
      await queryRunner.query(`
        DO $$ BEGIN
          IF to_regclass('${table}') IS NULL THEN
            RETURN;
          END IF;
          LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE;
          IF NOT EXISTS (SELECT FROM ${table}) THEN
            DROP TABLE ${table};
          END IF;
        END $$`);
    }
    for (const shape of [OFFLINE_TOKENS, AUTH_TOKENS]) {
      const table = tablePath(queryRunner, shape.name);
      const found = await foundBefore(queryRunner, shape);
      const drops = [
        ...Object.keys(shape.constraints).map((name) => `DROP CONSTRAINT IF EXISTS ${name}`),
        ...Object.keys(shape.columns)
          .filter((name) => !found.includes(name))
          .map((name) => `DROP COLUMN IF EXISTS ${name}`),
      ];
      for (const name of Object.keys(shape.indexes)) {
        await queryRunner.query(`DROP INDEX IF EXISTS ${indexPath(queryRunner, name)}`);
      }
      await queryRunner.query(`ALTER TABLE ${table} ${drops.join(', ')}`);
      await queryRunner.query(`ALTER TABLE ${table} RESET (fillfactor)`);
    }
    const { name, columns } = INDEX_WITHOUT_ACCOUNT;
    await queryRunner.query(`CREATE UNIQUE INDEX ${name} ON ${tablePath(queryRunner, AUTH_TOKENS.name)} (${columns})`);
  }
}

/** Drops the index, or the constraint that has it. It does not look first, so that a plan of the migrations has both. */
async function dropIndexWithoutAccount(queryRunner: QueryRunner): Promise<void> {
  const { name } = INDEX_WITHOUT_ACCOUNT;
  await queryRunner.query(`ALTER TABLE ${tablePath(queryRunner, AUTH_TOKENS.name)} DROP CONSTRAINT IF EXISTS ${name}`);
  await queryRunner.query(`DROP INDEX IF EXISTS ${indexPath(queryRunner, name)}`);
}

async function refuseNamedAccounts(queryRunner: QueryRunner): Promise<void> {
  const table = tablePath(queryRunner, AUTH_TOKENS.name);
  await queryRunner.query(`LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`);
  const [{ named } = { named: 0 }] = (await queryRunner.query(
    `SELECT count(*)::integer AS named FROM ${table} AS stored WHERE stored.account <> ''`,
  )) as { named: number }[];
  if (named === 0) return;
  throw new TokensConfigurationError(
    `The migration of nestjs-idp-tokens is not reverted, because ${named} rows of ${table} name an account. The older ` +
      'table has one account of a user at a provider. Revoke or delete the tokens of named accounts first.',
  );
}

async function rememberFound(queryRunner: QueryRunner, { shape, columns }: TableGap): Promise<void> {
  const found = columns.filter(({ name }) => name in shape.columns).map(({ name }) => name);
  if (found.length === 0) return;
  const check = `CONSTRAINT ${statusCheck(shape.name)} ON ${tablePath(queryRunner, shape.name)}`;
  await queryRunner.query(`COMMENT ON ${check} IS '${FOUND_HERE}${found.join(' ')}'`);
}

async function foundBefore(queryRunner: QueryRunner, { name }: TableShape): Promise<string[]> {
  const [check] = (await queryRunner.query(
    `SELECT obj_description(oid, 'pg_constraint') AS comment FROM pg_constraint
     WHERE conrelid = to_regclass($1) AND conname = $2`,
    [tablePath(queryRunner, name), statusCheck(name)],
  )) as { comment: string | null }[];
  return check?.comment?.startsWith(FOUND_HERE) ? check.comment.slice(FOUND_HERE.length).split(' ') : [];
}
