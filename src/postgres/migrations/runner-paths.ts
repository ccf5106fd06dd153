import type { QueryRunner } from 'typeorm';

import { dataSourceOf } from '../data-source-of.js';

/**
 * Returns the quoted path of a table of this module, with the schema and the prefix of the data source, if it sets
 * them.
 */
export function tablePath(queryRunner: QueryRunner, table: string): string {
  return pathInSchema(queryRunner, (dataSourceOf(queryRunner).options.entityPrefix ?? '') + table);
}

/**
 * Returns the quoted path of an index of this module, with the schema of the data source. The index has no prefix,
 * because TypeORM gives none to indexes.
 */
export function indexPath(queryRunner: QueryRunner, index: string): string {
  return pathInSchema(queryRunner, index);
}

function pathInSchema(queryRunner: QueryRunner, name: string): string {
  const { driver } = dataSourceOf(queryRunner);
  return [driver.schema, name]
    .filter((part) => part !== undefined)
    .map((part) => driver.escape(part))
    .join('.');
}
