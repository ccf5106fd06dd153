import type { QueryRunner } from 'typeorm';

/** Quoted name of a table of this module, in the schema of the data source if it sets one. */
export function tablePath({ dataSource: { driver } }: QueryRunner, table: string): string {
  return [driver.schema, table]
    .filter((part) => part !== undefined)
    .map((part) => driver.escape(part))
    .join('.');
}
