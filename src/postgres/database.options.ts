import type { QueryRunner } from 'typeorm';

/** Injection token of the data source that an instance of the module works on. */
export const TOKENS_DATA_SOURCE = Symbol('TOKENS_DATA_SOURCE');

/** What the database layer needs of the options. */
export class DatabaseOptions {
  constructor(
    readonly connectionTimeoutMs: number,
    readonly preparedStatements: boolean,
    readonly hostQueryRunner?: () => QueryRunner | undefined,
  ) {}
}
