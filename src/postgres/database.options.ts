import type { DataSource, QueryRunner } from 'typeorm';

/** Injection token of the data source that an instance of the module uses. */
export const TOKENS_DATA_SOURCE = Symbol('TOKENS_DATA_SOURCE');

/** The options that this folder needs. */
export class DatabaseSettings {
  constructor(
    readonly connectionTimeoutMs: number,
    readonly preparedStatements: boolean,
    readonly hostQueryRunner?: () => QueryRunner | undefined,
  ) {}
}

/** The size of pg's pool if the options of the data source name none. */
const DEFAULT_POOL_SIZE = 10;

/** Returns how many connections the pool of a data source can have. */
export function poolSizeOf({ options }: DataSource): number {
  const extra: unknown = 'extra' in options ? options.extra : undefined;
  const max: unknown = typeof extra === 'object' && extra !== null ? Reflect.get(extra, 'max') : undefined;
  const poolSize: unknown = 'poolSize' in options ? options.poolSize : undefined;
  for (const size of [max, poolSize]) if (typeof size === 'number' && size > 0) return size;
  return DEFAULT_POOL_SIZE;
}
