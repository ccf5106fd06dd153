import { ConfigurableModuleBuilder } from '@nestjs/common';
import { getDataSourceToken, TypeOrmModule } from '@nestjs/typeorm';

import { TOKENS_DATA_SOURCE } from './postgres/database.options.js';
import { tokensEntities } from './storage/tokens-entities.js';
import type { TokensModuleOptions } from './tokens.options.js';

/**
 * Options that decide how Nest builds the module. Nest needs them before it calls `useFactory`. Give them to
 * `forRootAsync` beside `useFactory`, not in the options that `useFactory` returns. Give them to `forRoot` beside the
 * other options.
 */
export interface TokensModuleExtras {
  /** Whether every module of the application can inject the exports without importing the module. Default: false. */
  isGlobal?: boolean | undefined;
  /** Name of the data source, as the host gave it to `TypeOrmModule`. Default: the data source without a name. */
  dataSource?: string | undefined;
}

export const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN, OPTIONS_TYPE, ASYNC_OPTIONS_TYPE } =
  new ConfigurableModuleBuilder<TokensModuleOptions>({ moduleName: 'Tokens' })
    .setClassMethodName('forRoot')
    .setFactoryMethodName('createTokensOptions')
    .setExtras<TokensModuleExtras>(
      { isGlobal: false, dataSource: undefined },
      (definition, { isGlobal, dataSource }) => {
        // For hosts with autoLoadEntities. Nest gets no module with repositories, because that module could not see a data
        // source that only the imports of forRootAsync export.
        TypeOrmModule.forFeature(tokensEntities, dataSource);
        return {
          ...definition,
          global: isGlobal,
          providers: [
            ...(definition.providers ?? []),
            { provide: TOKENS_DATA_SOURCE, useExisting: getDataSourceToken(dataSource) },
          ],
        };
      },
    )
    .build();
