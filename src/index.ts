/**
 * The public API. In the API reference its names stand at the top, so that the other entry points can link to them.
 *
 * @module
 * @mergeModuleWith <project>
 */
import './process-copies.js';

export type { AccountLinksOptions } from './account-links/account-links.options.js';
export {
  AccountLinks,
  type BeginLinkOptions,
  type LinkAuthorization,
  type LinkedAccount,
} from './account-links/account-links.js';
export type { LinkCallback } from './account-links/callback.js';
export { AccountLinksController, type ConnectionAnswer } from './http/account-links.controller.js';
export type { UserIdResolver } from './http/http.options.js';
export { IdpToken } from './http/idp-token.decorator.js';
export { IdpTokenGuard } from './http/idp-token.guard.js';
export { KeycloakAuthGuard, type RequestWithKeycloakUser } from './http/keycloak-auth.guard.js';
export { QueryRunnerInterceptor } from './http/query-runner.interceptor.js';
export type { RequestWithIdpTokens } from './http/request-with-idp-tokens.js';
export { type IdpTokenRequirement, RequireIdpToken } from './http/require-idp-token.decorator.js';
export { TokensExceptionFilter } from './http/tokens-exception.filter.js';
export type { AccessTokenQuestion } from './identity-providers/access-token-question.js';
export type {
  ClientAssertionAlgorithm,
  ClientAssertionOptions,
  ClientAuthentication,
  ClientCredentials,
} from './identity-providers/client-authentication.js';
export type { AccountQuestion, ReadAccount } from './identity-providers/code-flow.js';
export type {
  AccessTokenLife,
  IdentityProvider,
  IssuedTokens,
  RefreshAnswer,
  RevocationAnswer,
  TokenPair,
} from './identity-providers/identity-provider.js';
export type {
  AzureDevOpsOptions,
  BitbucketDataCenterOptions,
  BitbucketOptions,
  GitHubOptions,
  GitLabOptions,
  IdentityProvidersOptions,
  OAuth2Options,
} from './identity-providers/identity-providers.options.js';
export {
  OAuth2Provider,
  type OAuth2ProviderProfile,
  type RequestFormat,
} from './identity-providers/oauth2.provider.js';
export { ProviderType } from './identity-providers/provider-type.js';
export { completePolicy, type RefreshPolicy } from './identity-providers/refresh-policy.js';
export type { AnswerRules, ReadAnswer } from './identity-providers/token-answer.js';
export type { ResealProgress, ResealResult } from './key-rotation/reseal-walk.js';
export type { UnreadableText } from './key-rotation/text-sealer.js';
export {
  type KeyRotationStatus,
  type ResealOptions,
  type RetireOptions,
  type TextsByTable,
  TokenKeyRotation,
  type TokenKeyStatus,
} from './key-rotation/token-key-rotation.js';
export { KeycloakSessions } from './keycloak/keycloak-sessions.js';
export { KeycloakTokens } from './keycloak/keycloak-tokens.js';
export { KeycloakUsers } from './keycloak/keycloak-users.js';
export type { KeycloakModuleOptions, RefreshOwner } from './keycloak/keycloak.options.js';
export type { AccessTokenClaims } from './keycloak/token-claims.js';
export type { HttpRequest } from './oauth-http/http-exchange.js';
export { QueryRunnerScope, type TransactionOptions } from './postgres/query-runner-scope.js';
export { runTokenMigrations, tokensMigrations } from './postgres/run-token-migrations.js';
export type { IsolationLevel } from './postgres/transaction.js';
export { IdpToken as UsableIdpToken } from './refresh/idp-token.js';
export type { RefreshOptions } from './refresh/refresh.options.js';
export type {
  EncryptionKeyOptions,
  EncryptionKeysLoader,
  EncryptionOptions,
  LegacyFernetKeyOptions,
  SealingKeyOptions,
} from './sealing/encryption.options.js';
export type { ImpliedScopes, Scopes } from './scopes.js';
export type { SealedToken, TokenLocation } from './sealing/sealed-token.js';
export { TokenCipher } from './sealing/token-cipher.js';
export type { AccountConnection } from './storage/auth-tokens/auth-tokens-link.statements.js';
export { AuthTokens } from './storage/auth-tokens/auth-tokens.entity.js';
export { DisconnectedAccount } from './storage/disconnected-accounts/disconnected-account.entity.js';
export type { FailureKind, GrantStatus } from './storage/leases/leased.entity.js';
export { StoredOfflineToken } from './storage/offline-tokens/stored-offline-token.entity.js';
export { LinkAttempt } from './storage/link-attempts/link-attempt.entity.js';
export type { SealedTable } from './storage/sealed-texts/sealed-texts.table.js';
export type { SealedTokens, StoredTokens } from './storage/stored-tokens.js';
export { TokenKeyRecord } from './storage/token-keys/token-key-record.entity.js';
export { TokenRevocation } from './storage/token-revocations/token-revocation.entity.js';
export { tokensEntities } from './storage/tokens-entities.js';
export type { EndedGrants } from './token-input.js';
export type { TokenKey } from './token-key.js';
export {
  AuthTokenStore,
  type CheckExpirationAndRefresh,
  type RefreshedTokens,
  type TokensToStore,
  UserAuthTokens,
} from './token-manager/auth-token.store.js';
export type { IdpTokens } from './token-manager/idp-tokens.js';
export { OfflineTokenStore, UserOfflineToken } from './token-manager/offline-token.store.js';
export { type GetIdpTokenOptions, type OfAccount, TokenManager } from './token-manager/token-manager.js';
export { AmbiguousAccountError, InsufficientScopeError, type InsufficientScopeReason } from './account.errors.js';
export { type LinkRefusalReason, LinkRefusedError, ProviderUnavailableError } from './link.errors.js';
export { TokensError, type TokensErrorCode } from './tokens-error.js';
export {
  type AnyTokensError,
  AuthenticationRequiredError,
  InvalidTokenInputError,
  KeyInUseError,
  KeycloakMisconfiguredError,
  KeycloakSessionExpiredError,
  KeycloakUnavailableError,
  ProviderMisconfiguredError,
  type ReauthenticationReason,
  ReauthenticationRequiredError,
  RefreshInProgressError,
  RefreshUnavailableError,
  TokenDecryptionError,
  TokensConfigurationError,
  TokensNotFoundError,
  TokenStoreUnavailableError,
  TokensUsageError,
  UnsupportedProviderError,
} from './tokens.errors.js';
export {
  type DataSourceOfConfig,
  defineTokensConfig,
  type TokensConfig,
  type TokensOfConfig,
} from './tokens-config.js';
export type { TokensModuleExtras } from './tokens.module-definition.js';
export { TokensModule } from './tokens.module.js';
export type { TokensModuleOptions } from './tokens.options.js';
