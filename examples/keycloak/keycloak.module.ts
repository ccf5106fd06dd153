import { type DynamicModule, Module } from '@nestjs/common';
import type { KeycloakModuleOptions } from 'nestjs-idp-tokens';

import { AccountModule } from '../account/account.module.js';
import { KEYCLOAK_OPTIONS, KeycloakLoginController } from './keycloak-login.controller.js';

/** Users who log in at Keycloak. */
@Module({})
export class KeycloakModule {
  static forRoot(options: KeycloakModuleOptions): DynamicModule {
    return {
      module: KeycloakModule,
      imports: [AccountModule],
      controllers: [KeycloakLoginController],
      providers: [{ provide: KEYCLOAK_OPTIONS, useValue: options }],
    };
  }
}
