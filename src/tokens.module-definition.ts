import { ConfigurableModuleBuilder } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';

import { TOKENS_DATA_SOURCE } from './postgres/database.options.js';
import type { TokensModuleOptions } from './tokens.options.js';

/** What the shape of the module depends on, so that it is known before the options are: stands beside `useFactory`. */
export interface TokensModuleExtras {
  /** Whether the exports are there for every module of the application. Default: false. */
  isGlobal?: boolean;
  /** Name of the data source, as it was given to `TypeOrmModule`. Default: the one without a name. */
  dataSource?: string;
}

export const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN, OPTIONS_TYPE, ASYNC_OPTIONS_TYPE } =
  new ConfigurableModuleBuilder<TokensModuleOptions>({ moduleName: 'Tokens' })
    .setClassMethodName('forRoot')
    .setFactoryMethodName('createTokensOptions')
    .setExtras<TokensModuleExtras>(
      { isGlobal: false, dataSource: undefined },
      (definition, { isGlobal, dataSource }) => ({
        ...definition,
        global: isGlobal,
        providers: [
          ...(definition.providers ?? []),
          { provide: TOKENS_DATA_SOURCE, useExisting: getDataSourceToken(dataSource) },
        ],
      }),
    )
    .build();
