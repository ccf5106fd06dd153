import {
  type Abstract,
  type ConfigurableModuleAsyncOptions,
  type DynamicModule,
  type FactoryProvider,
  Inject,
  Module,
  type OnModuleInit,
  type Type,
} from '@nestjs/common';
import { DataSource } from 'typeorm';

import { AccountLinks } from './account-links/account-links.js';
import { AccountLinksSettings } from './account-links/account-links.options.js';
import { LinkedTokens } from './account-links/linked-tokens.js';
import { HttpSettings } from './http/http.options.js';
import { IdentityProviderRegistry } from './identity-providers/identity-provider.registry.js';
import { KeyRingCheck } from './key-rotation/key-ring-check.js';
import { TextSealer } from './key-rotation/text-sealer.js';
import { TokenKeyRegistry } from './key-rotation/token-key-registry.js';
import { TokenKeyRotation } from './key-rotation/token-key-rotation.js';
import { KeycloakBroker } from './keycloak/keycloak-broker.js';
import { KeycloakClient } from './keycloak/keycloak-client.js';
import { KeycloakIdpTokens } from './keycloak/keycloak-idp-tokens.js';
import { KeycloakImports } from './keycloak/keycloak-imports.js';
import { KeycloakSessions } from './keycloak/keycloak-sessions.js';
import { KeycloakTokenVerifier } from './keycloak/keycloak-token-verifier.js';
import { KeycloakUsers } from './keycloak/keycloak-users.js';
import { OfflineSessions } from './keycloak/offline-sessions.js';
import { OfflineTokenVault } from './keycloak/offline-token-vault.js';
import { DatabaseSettings, TOKENS_DATA_SOURCE } from './postgres/database.options.js';
import { QueryRunnerScope } from './postgres/query-runner-scope.js';
import { StatementExecutor } from './postgres/statement-executor.js';
import { tablePathOf } from './postgres/table-path.js';
import { IdpTokenReader } from './refresh/idp-token-reader.js';
import { LeaseEnding } from './refresh/lease-ending.js';
import { LeasedRefresh } from './refresh/leased-refresh.js';
import { RefreshCommitter } from './refresh/refresh-committer.js';
import { RefreshDrain } from './refresh/refresh-drain.js';
import { RefreshExchange } from './refresh/refresh-exchange.js';
import { RefreshFlights } from './refresh/refresh-flights.js';
import { RefreshPace } from './refresh/refresh-pace.js';
import { RefreshTakeover } from './refresh/refresh-takeover.js';
import { RefreshTokenRedeemer } from './refresh/refresh-token-redeemer.js';
import { RefreshSettings } from './refresh/refresh.options.js';
import { TokenFreshness } from './refresh/token-freshness.js';
import { TokenRefresher } from './refresh/token-refresher.js';
import { Keyring } from './sealing/keyring.js';
import { TokenCipher } from './sealing/token-cipher.js';
import { AuthTokensTable } from './storage/auth-tokens/auth-tokens.table.js';
import { DisconnectedAccountsTable } from './storage/disconnected-accounts/disconnected-accounts.table.js';
import { LinkAttemptsTable } from './storage/link-attempts/link-attempts.table.js';
import { OfflineTokensTable } from './storage/offline-tokens/offline-tokens.table.js';
import { SealedTextsTable } from './storage/sealed-texts/sealed-texts.table.js';
import { TokenKeysTable } from './storage/token-keys/token-keys.table.js';
import { TokenRevocationsTable } from './storage/token-revocations/token-revocations.table.js';
import { tokensEntities } from './storage/tokens-entities.js';
import { AuthTokenStore } from './token-manager/auth-token.store.js';
import { OfflineTokenStore } from './token-manager/offline-token.store.js';
import { TokenManager } from './token-manager/token-manager.js';
import { TokenRevoker } from './token-manager/token-revoker.js';
import { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN, type TokensModuleExtras } from './tokens.module-definition.js';
import {
  loadTokensSettings,
  TOKENS_SETTINGS,
  type TokensModuleOptions,
  type TokensSettings,
} from './tokens.options.js';

/**
 * Stores and refreshes the identity-provider tokens of an application's users. The host registers `tokensEntities`
 * with the data source that it gives to `TypeOrmModule`, or sets `autoLoadEntities` there. It imports this module by
 * `forRoot` or `forRootAsync`.
 *
 * Two instances on two data sources share nothing. Import each instance where its providers are injected.
 */
@Module({
  providers: [
    { provide: TOKENS_SETTINGS, inject: [MODULE_OPTIONS_TOKEN], useFactory: loadTokensSettings },
    fromSettings(
      DatabaseSettings,
      (options) =>
        new DatabaseSettings(options.connectionTimeoutMs, options.preparedStatements, options.hostQueryRunner),
    ),
    fromSettings(HttpSettings, ({ userId }) => new HttpSettings(userId)),
    fromSettings(RefreshSettings, ({ refresh }) => refresh),
    fromSettings(AccountLinksSettings, ({ accountLinks }) => accountLinks),
    fromSettings(Keyring, ({ keyring }) => keyring),
    fromSettings(IdentityProviderRegistry, ({ identityProviders }) => new IdentityProviderRegistry(identityProviders)),
    QueryRunnerScope,
    StatementExecutor,
    TokenCipher,
    AuthTokensTable,
    OfflineTokensTable,
    TokenRevocationsTable,
    DisconnectedAccountsTable,
    TokenKeysTable,
    SealedTextsTable,
    LinkAttemptsTable,
    RefreshDrain,
    RefreshCommitter,
    LeaseEnding,
    RefreshTakeover,
    RefreshExchange,
    {
      provide: RefreshPace,
      inject: [AuthTokensTable, RefreshSettings, RefreshDrain],
      useFactory: (table: AuthTokensTable, { waitTimeoutMs }: RefreshSettings, { stopping }: RefreshDrain) =>
        new RefreshPace(() => table.isReading, waitTimeoutMs / 2, stopping),
    },
    LeasedRefresh,
    RefreshFlights,
    TokenFreshness,
    TokenRefresher,
    RefreshTokenRedeemer,
    AuthTokenStore,
    OfflineTokenStore,
    TokenRevoker,
    IdpTokenReader,
    OfflineTokenVault,
    OfflineSessions,
    {
      provide: KeycloakClient,
      inject: [TOKENS_SETTINGS],
      useFactory: ({ keycloak }: TokensSettings) => new KeycloakClient(keycloak),
    },
    KeycloakBroker,
    KeycloakSessions,
    KeycloakUsers,
    KeycloakTokenVerifier,
    KeycloakIdpTokens,
    KeycloakImports,
    TokenManager,
    LinkedTokens,
    AccountLinks,
    TextSealer,
    KeyRingCheck,
    TokenKeyRegistry,
    TokenKeyRotation,
  ],
  exports: [
    TokenManager,
    AccountLinks,
    AuthTokenStore,
    OfflineTokenStore,
    KeycloakSessions,
    KeycloakUsers,
    QueryRunnerScope,
    TokenCipher,
    TokenKeyRotation,
    HttpSettings,
    KeycloakTokenVerifier,
    // TokensHealthIndicator needs these.
    KeyRingCheck,
    RefreshCommitter,
    RefreshDrain,
  ],
})
export class TokensModule extends ConfigurableModuleClass implements OnModuleInit {
  constructor(@Inject(TOKENS_DATA_SOURCE) private readonly dataSource: DataSource) {
    super();
  }

  /**
   * Returns the module for these options. The application does not boot with options that are wrong.
   *
   * @throws {@link TokensConfigurationError} at the boot. It names every fault of the options
   */
  static override forRoot(options: TokensModuleOptions & TokensModuleExtras): DynamicModule {
    return super.forRoot(options);
  }

  /**
   * Returns the module for options that the application makes when it boots: by `useFactory`, or by the method
   * `createTokensOptions` of `useClass` or `useExisting`. `isGlobal` and `dataSource` are beside them.
   *
   * @throws {@link TokensConfigurationError} at the boot. It names every fault of the options
   */
  static override forRootAsync(
    options: ConfigurableModuleAsyncOptions<TokensModuleOptions, 'createTokensOptions'> & TokensModuleExtras,
  ): DynamicModule {
    return super.forRootAsync(options);
  }

  /**
   * Stops the boot if the data source does not know the entities, because otherwise the first request would fail. The
   * check is left out if the host initialises the data source later.
   */
  onModuleInit(): void {
    if (!this.dataSource.isInitialized) return;
    for (const entity of tokensEntities) tablePathOf(this.dataSource, entity);
  }
}

/** Provides one part of the options to the classes that need only this part. */
function fromSettings<T>(
  provide: Type<T> | Abstract<T>,
  useFactory: (options: TokensSettings) => T,
): FactoryProvider<T> {
  return { provide, inject: [TOKENS_SETTINGS], useFactory };
}
