import { type DynamicModule, Module } from '@nestjs/common';

import { AppConfig } from './app.config.js';

/** Makes the configuration injectable everywhere, also in the factories of other modules. */
@Module({})
export class AppConfigModule {
  static forRoot(config: AppConfig): DynamicModule {
    return {
      module: AppConfigModule,
      global: true,
      providers: [{ provide: AppConfig, useValue: config }],
      exports: [AppConfig],
    };
  }
}
