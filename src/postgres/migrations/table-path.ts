import type { QueryRunner } from 'typeorm';

/** Quoted name of a table of this module, in the schema of the data source and with its prefix, if it sets them. */
export function tablePath({ dataSource: { driver, options } }: QueryRunner, table: string): string {
  return [driver.schema, (options.entityPrefix ?? '') + table]
    .filter((part) => part !== undefined)
    .map((part) => driver.escape(part))
    .join('.');
}
