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

/** Tells whether the data source asks a function of the host for its password, as for the tokens of a cloud provider. */
export function hasPasswordFunction({ options }: DataSource): boolean {
  const passwordOf = (place: unknown): unknown => Reflect.get(Object(place) as object, 'password');
  const { extra, replication } = options as { extra?: unknown; replication?: { master?: unknown } };
  return [options, extra, replication?.master].some((place) => typeof passwordOf(place) === 'function');
}
