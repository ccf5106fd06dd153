import { type DynamicModule, Module, type Provider } from '@nestjs/common';

import { AccountLinks } from '../account-links/account-links.js';
import { IdentityProviderRegistry } from '../identity-providers/identity-provider.registry.js';
import { KeyRingCheck } from '../key-rotation/key-ring-check.js';
import { TokenKeyRotation } from '../key-rotation/token-key-rotation.js';
import { KeycloakTokenVerifier } from '../keycloak/keycloak-token-verifier.js';
import { TOKENS_DATA_SOURCE } from '../postgres/database.options.js';
import { QueryRunnerScope } from '../postgres/query-runner-scope.js';
import { RefreshPace } from '../refresh/refresh-pace.js';
import { RefreshTokenRedeemer } from '../refresh/refresh-token-redeemer.js';
import { TokenRefresher } from '../refresh/token-refresher.js';
import { TokenCipher } from '../sealing/token-cipher.js';
import { AuthTokensTable } from '../storage/auth-tokens/auth-tokens.table.js';
import { DisconnectedAccountsTable } from '../storage/disconnected-accounts/disconnected-accounts.table.js';
import { OfflineTokensTable } from '../storage/offline-tokens/offline-tokens.table.js';
import { TokenRevocationsTable } from '../storage/token-revocations/token-revocations.table.js';
import { checkKey } from '../token-input.js';
import { AuthTokenStore } from '../token-manager/auth-token.store.js';
import { sealIdpTokens } from '../token-manager/idp-tokens.js';
import { TokenRevoker } from '../token-manager/token-revoker.js';
import { TokensModule } from '../tokens.module.js';
import { TOKENS_SETTINGS } from '../tokens.options.js';
import { AccountLinksForTesting } from './account-links-for-testing.js';
import { MemoryAuthTokensTable } from './memory-auth-tokens.table.js';
import { MemoryDisconnectedAccountsTable } from './memory-disconnected-accounts.table.js';
import { MemoryOfflineTokensTable } from './memory-offline-tokens.table.js';
import { memoryDataSource, MemoryQueryRunnerScope } from './memory-query-runner.js';
import { MemoryTokenRevocationsTable } from './memory-token-revocations.table.js';
import { MemoryTransactions } from './memory-transactions.js';
import { RedeemerForTesting } from './redeemer-for-testing.js';
import { rotationForTesting } from './rotation-for-testing.js';
import { TestTokens } from './test-tokens.js';
import {
  type AccountsForTesting,
  TESTING_OPTIONS,
  testingSettings,
  type TokensForTesting,
  type TokensTestingOptions,
} from './testing.options.js';
import { verifierForTesting } from './verifier-for-testing.js';

/**
 * `TokensModule` for the tests of a host, without a database, a provider, Keycloak and a key. It is the real module
 * with its tables in memory, so its stores, its refreshes, its guards and its errors are the real ones. It begins with
 * the tokens of its options.
 */
@Module({})
export class TokensTestingModule {
  /**
   * Returns a module to import in place of `TokensModule.forRoot`, or to give to `overrideModule(…).useModule`. It
   * exports {@link TestTokens} beside the exports of `TokensModule`.
   *
   * The query runner that {@link QueryRunnerScope.run} gives to its work executes no SQL. {@link QueryRunnerScope.join}
   * accepts a runner of every data source. The tokens in memory then commit or roll back with the transaction of that
   * runner. Calls that need a Keycloak realm throw {@link TokensConfigurationError}. Calls of
   * {@link TokenKeyRotation}, and `begin` and `finish` of {@link AccountLinks}, throw {@link TokensUsageError}.
   *
   * @throws {@link InvalidTokenInputError} | {@link UnsupportedProviderError} when the module boots, for tokens that
   * `storeIdpTokens` would refuse
   */
  static forRoot(options: TokensTestingOptions = {}): DynamicModule {
    return { module: TokensModule, global: options.isGlobal, providers: replacements(options), exports: [TestTokens] };
  }
}

function accountsOf(given: TokensForTesting | AccountsForTesting): Readonly<Record<string, TokensForTesting>> {
  return typeof given === 'object' && 'accounts' in given ? given.accounts : { '': given };
}

/** Nest takes the last provider of a token, and those of a dynamic module after those of its class. */
function replacements(options: TokensTestingOptions): Provider[] {
  return [
    { provide: TESTING_OPTIONS, useValue: options },
    { provide: TOKENS_SETTINGS, useFactory: () => testingSettings(options) },
    { provide: TOKENS_DATA_SOURCE, useFactory: memoryDataSource },
    { provide: QueryRunnerScope, useClass: MemoryQueryRunnerScope },
    MemoryTransactions,
    MemoryTokenRevocationsTable,
    MemoryDisconnectedAccountsTable,
    MemoryOfflineTokensTable,
    MemoryAuthTokensTable,
    { provide: TokenRevocationsTable, useExisting: MemoryTokenRevocationsTable },
    { provide: DisconnectedAccountsTable, useExisting: MemoryDisconnectedAccountsTable },
    { provide: OfflineTokensTable, useExisting: MemoryOfflineTokensTable },
    { provide: AuthTokensTable, useExisting: MemoryAuthTokensTable },
    { provide: RefreshTokenRedeemer, useClass: RedeemerForTesting },
    // Refreshes start at once, because the timers of a test may be fakes that stand still.
    { provide: RefreshPace, useValue: { turn: () => Promise.resolve(true) } },
    { provide: TokenRevoker, useValue: { wakeAfterCommit: () => undefined } },
    {
      provide: KeyRingCheck,
      useValue: { run: () => Promise.resolve(undefined), presentFaults: () => Promise.resolve([]) },
    },
    { provide: TokenKeyRotation, useValue: rotationForTesting() },
    { provide: AccountLinks, useClass: AccountLinksForTesting },
    { provide: KeycloakTokenVerifier, useValue: verifierForTesting(options.bearerTokens ?? {}) },
    {
      provide: AuthTokenStore,
      inject: [AuthTokensTable, TokenRefresher, IdentityProviderRegistry, TokenCipher],
      // Nest makes the store before everything that can read from it, so no reader misses the tokens of the options.
      useFactory: async (
        table: AuthTokensTable,
        refresher: TokenRefresher,
        providers: IdentityProviderRegistry,
        cipher: TokenCipher,
      ) => {
        const store = new AuthTokenStore(table, refresher, providers);
        for (const [keycloakUserId, pairs] of Object.entries(options.tokens ?? {})) {
          for (const [idp, given] of Object.entries(pairs)) {
            providers.get(idp);
            for (const [account, pair] of Object.entries(accountsOf(given))) {
              const key = checkKey({ keycloakUserId, idp, account });
              const tokens = typeof pair === 'string' ? { accessToken: pair, refreshToken: `${pair}-refresh` } : pair;
              await store.storeTokens(key, sealIdpTokens(cipher, key, tokens));
            }
          }
        }
        return store;
      },
    },
    TestTokens,
  ];
}
