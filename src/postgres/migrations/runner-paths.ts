import type { DataSource, QueryRunner } from 'typeorm';

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

/** TypeORM 0.3 calls the data source of a runner `connection`. Later versions call it `dataSource`. */
function dataSourceOf(queryRunner: object): DataSource {
  return (Reflect.get(queryRunner, 'dataSource') ?? Reflect.get(queryRunner, 'connection')) as DataSource;
}
