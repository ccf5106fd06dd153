import type { DataSource } from 'typeorm';

/** Returns the data source of a query runner. TypeORM 0.3 calls it `connection`, and later versions `dataSource`. */
export function dataSourceOf(queryRunner: object): DataSource {
  return (Reflect.get(queryRunner, 'dataSource') ?? Reflect.get(queryRunner, 'connection')) as DataSource;
}
