import { type DynamicModule, Module, ValidationPipe } from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_PIPE } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { tokensEntities, TokensExceptionFilter, TokensModule } from 'nestjs-idp-tokens';

import { AccountModule } from './account/account.module.js';
import { AppConfigModule } from './app-config.module.js';
import { AppConfig } from './app.config.js';
import { KeycloakModule } from './keycloak/keycloak.module.js';
import { LinkModule } from './link/link.module.js';
import { PageModule } from './page/page.module.js';
import { SameOriginGuard } from './session/same-origin.guard.js';
import { SessionModule } from './session/session.module.js';

/**
 * A host application. It signs its users in, connects their accounts at the identity provider `demo`, and calls the
 * provider for them.
 */
@Module({
  imports: [
    TypeOrmModule.forRootAsync({
      inject: [AppConfig],
      useFactory: ({ databaseUrl }: AppConfig) => ({ type: 'postgres', url: databaseUrl, entities: tokensEntities }),
    }),
    TokensModule.forRootAsync({
      isGlobal: true,
      inject: [AppConfig],
      useFactory: ({ tokensKey, idp, redirectUri, keycloak }: AppConfig) => ({
        keycloak,
        encryption: { keys: [{ id: 'demo', secret: tokensKey }] },
        identityProviders: {
          demo: {
            ...idp,
            redirectUri,
            scopes: ['openid', 'profile', 'offline_access'],
            // This provider gives a refresh token only with the consent of the user. The login lets a user who is still
            // logged in there connect another account.
            authorizationParameters: { prompt: 'login consent' },
          },
        },
      }),
    }),
    PageModule,
    SessionModule,
    LinkModule,
    AccountModule,
  ],
  providers: [
    { provide: APP_GUARD, useClass: SameOriginGuard },
    { provide: APP_FILTER, useClass: TokensExceptionFilter },
    { provide: APP_PIPE, useValue: new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true }) },
  ],
})
export class AppModule {
  static forRoot(config: AppConfig): DynamicModule {
    const keycloak = config.keycloak ? [KeycloakModule.forRoot(config.keycloak)] : [];
    return { module: AppModule, imports: [AppConfigModule.forRoot(config), ...keycloak] };
  }
}
