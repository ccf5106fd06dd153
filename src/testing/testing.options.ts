import { randomBytes } from 'node:crypto';

import type { QueryRunner } from 'typeorm';

import { AccountLinksSettings } from '../account-links/account-links.options.js';
import { subjectOfUser, type UserIdResolver } from '../http/http.options.js';
import type { IdentityProvider, RefreshAnswer } from '../identity-providers/identity-provider.js';
import { isProviderName, readIdentityProviders } from '../identity-providers/identity-providers.options.js';
import { ProviderType } from '../identity-providers/provider-type.js';
import type { AccessTokenClaims } from '../keycloak/token-claims.js';
import { RefreshSettings } from '../refresh/refresh.options.js';
import { Keyring } from '../sealing/keyring.js';
import type { IdpTokens } from '../token-manager/idp-tokens.js';
import { TokensConfigurationError } from '../tokens.errors.js';
import type { TokensSettings } from '../tokens.options.js';

/** An answer of a provider by which it issues no tokens, such as `{ kind: 'terminal', code: 'invalid_grant' }`. */
export type RefusedRefresh = Exclude<RefreshAnswer, { readonly kind: 'success' }>;

/** Answers a refresh in place of the provider. `account` is absent for the default account. If it throws, the callers get what it threw. */
export type RefreshForTesting = (
  userId: string,
  idp: string,
  refreshToken: string,
  account?: string,
) => IdpTokens | RefusedRefresh | Promise<IdpTokens | RefusedRefresh>;

/** An access token that does not expire, or tokens as {@link TokenManager.storeIdpTokens} takes them. */
export type TokensForTesting = string | IdpTokens;

/** The tokens of a user at one provider, by account; '' is the default account. */
export interface AccountsForTesting {
  readonly accounts: Readonly<Record<string, TokensForTesting>>;
}

/** Options of {@link TokensTestingModule}. */
export interface TokensTestingOptions {
  /**
   * The stored tokens, by user id and idp. A text is an access token that does not expire, and has a refresh token. For
   * several accounts of a user at a provider, `accounts` has the tokens by account. Default: none.
   */
  readonly tokens?:
    Readonly<Record<string, Readonly<Record<string, TokensForTesting | AccountsForTesting>>>> | undefined;
  /** The names of the configured providers. Default: every name is configured. */
  readonly providers?: readonly string[] | undefined;
  /** Whether every module of the application can inject the exports without importing the module. Default: false. */
  readonly isGlobal?: boolean | undefined;
  /** Reads the user id from a request, for {@link IdpTokenGuard}. Default: `request.user.sub`. */
  readonly userId?: UserIdResolver | undefined;
  /**
   * Answers the refresh of a stale or rejected token. An answer without an access token counts as lost. Default: the
   * access token and the refresh token with `-refreshed-1`, `-refreshed-2` and so on at their ends. The access token
   * expires after an hour.
   */
  readonly refresh?: RefreshForTesting | undefined;
  /** Returns the query runner of the host's current transaction, if there is one. Token statements join it. */
  readonly hostQueryRunner?: (() => QueryRunner | undefined) | undefined;
  /**
   * The claims of each bearer token that {@link KeycloakAuthGuard} accepts. It refuses them as the real module does when
   * `exp` is over, and when `sub`, `nbf`, `typ` or `cnf` is not good. Without `exp` a token does not expire. Default:
   * none.
   */
  readonly bearerTokens?: Readonly<Record<string, AccessTokenClaims>> | undefined;
}

/** Injection token of the options of {@link TokensTestingModule}. */
export const TESTING_OPTIONS = Symbol('TESTING_OPTIONS');

/**
 * Returns the settings of a module that tests itself. The key is random and seals by AES-256-GCM, because that needs no
 * libsodium. No realm of Keycloak is configured.
 *
 * @throws {@link TokensConfigurationError} for a provider without a name
 */
export function testingSettings(options: TokensTestingOptions): TokensSettings {
  const { providers, userId = subjectOfUser, hostQueryRunner } = options;
  const secret = randomBytes(32).toString('base64');
  return {
    keyring: new Keyring([{ id: 'testing', secret, algorithm: 'aes-256-gcm' }]),
    identityProviders: providers
      ? new Map(providers.map((idp) => [idp, providerForTesting(idp)]))
      : new EveryIdentityProvider(),
    refresh: new RefreshSettings(),
    accountLinks: new AccountLinksSettings(),
    keycloak: null,
    preparedStatements: true,
    connectionTimeoutMs: 10_000,
    hostQueryRunner,
    userId,
  };
}

/**
 * The providers of a module that has every name configured that options can have. It makes each one at its first use.
 */
class EveryIdentityProvider extends Map<string, IdentityProvider> {
  override get(idp: string): IdentityProvider | undefined {
    if (!isProviderName(idp)) return undefined;
    const provider = super.get(idp) ?? providerForTesting(idp);
    this.set(idp, provider);
    return provider;
  }
}

/** What the options of a known provider need beside the client. Every other provider needs a token endpoint. */
const NEEDED: ReadonlyMap<string, object> = new Map<string, object>([
  ...Object.values(ProviderType).map((idp) => [idp, {}] as const),
  [ProviderType.BITBUCKET_DATA_CENTER, { baseUrl: 'https://provider.invalid' }],
]);

/**
 * Returns a provider with the rules of the provider of this name: its refresh policy, its assumed lifetime and the
 * scopes that others contain. It can
 * revoke, so that every pair is noted for revocation. The module sends it nothing.
 */
function providerForTesting(idp: string): IdentityProvider {
  const needed = NEEDED.get(idp) ?? { tokenEndpoint: 'https://provider.invalid/token' };
  const entry = { clientId: 'testing', clientSecret: 'testing', ...needed };
  const { providers, faults } = readIdentityProviders({ [idp]: entry });
  const provider = providers.get(idp);
  if (!provider)
    throw new TokensConfigurationError(`The options of TokensTestingModule are wrong: ${faults.join('; ')}.`);
  const { policy, clientId, assumedLifetimeSeconds, impliedScopes } = provider;
  return {
    ...{ policy, clientId, assumedLifetimeSeconds, impliedScopes },
    refresh: () => Promise.resolve({ kind: 'configuration', code: 'TESTING' }),
    revoke: () => Promise.resolve({ kind: 'revoked' }),
  };
}
