import type { TypeOrmModuleOptions } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';

import type { TokensModuleExtras } from './tokens.module-definition.js';
import type { TokensModuleOptions } from './tokens.options.js';

/** The default export of `idp-tokens.config.js`: what the application and the command line both use. */
export interface TokensConfig {
  /**
   * The options of the data source that has the tokens, or the data source, or a function that returns one of them. The
   * command line opens a connection pool of its own with these options and with the entities of this package alone.
   */
  readonly dataSource: TypeOrmModuleOptions | DataSource | (() => DataSourceOfConfig | Promise<DataSourceOfConfig>);
  /** The options of `TokensModule`, or a function that returns them. */
  readonly tokens: TokensOfConfig | (() => TokensOfConfig | Promise<TokensOfConfig>);
}

/** The options of a data source, or the data source. */
export type DataSourceOfConfig = TypeOrmModuleOptions | DataSource;

/** The options that `TokensModule.forRoot` takes. */
export type TokensOfConfig = TokensModuleOptions & TokensModuleExtras;

/**
 * Returns its argument. TypeScript checks it, and keeps its type, so the application gives `config.dataSource` to
 * `TypeOrmModule.forRoot` and `config.tokens` to `TokensModule.forRoot`. The command line `idp-tokens` reads the default
 * export of `idp-tokens.config.js`.
 */
export function defineTokensConfig<Config extends TokensConfig>(config: Config): Config {
  return config;
}
