import type { DataSource, QueryRunner } from 'typeorm';

/** Quoted name of a table of this module, in the schema of the data source and with its prefix, if it sets them. */
export function tablePath(queryRunner: QueryRunner, table: string): string {
  return pathInSchema(queryRunner, (dataSourceOf(queryRunner).options.entityPrefix ?? '') + table);
}

/** Quoted name of an index of this module, in the schema of the data source. No prefix: TypeORM gives indexes none. */
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

/** TypeORM 0.3 calls the data source of a runner `connection`; later versions call it `dataSource`. */
function dataSourceOf(queryRunner: object): DataSource {
  return (Reflect.get(queryRunner, 'dataSource') ?? Reflect.get(queryRunner, 'connection')) as DataSource;
}
