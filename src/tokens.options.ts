import { IsBoolean, IsEmpty, IsInt, IsObject, IsOptional, Max, Min } from 'class-validator';
import type { QueryRunner } from 'typeorm';

import { type AccountLinksOptions, AccountLinksSettings } from './account-links/account-links.options.js';
import { subjectOfUser, type UserIdResolver } from './http/http.options.js';
import type { IdentityProvider } from './identity-providers/identity-provider.js';
import {
  type IdentityProvidersOptions,
  readIdentityProviders,
} from './identity-providers/identity-providers.options.js';
import { KeycloakRealm } from './keycloak/keycloak-realm.js';
import { type KeycloakModuleOptions, KeycloakSettings } from './keycloak/keycloak.options.js';
import { faultsOf, instantiate, IsFunction, IsPlainObject, type OptionsOf } from './options-validation.js';
import { type RefreshOptions, RefreshSettings } from './refresh/refresh.options.js';
import { encryptionFaults } from './sealing/encryption-faults.js';
import type { EncryptionKeysLoader, EncryptionOptions } from './sealing/encryption.options.js';
import { Keyring } from './sealing/keyring.js';
import { loadKeys } from './sealing/load-keys.js';
import { loadSodium } from './sealing/sodium.js';
import { versionFaults } from './supported-versions.js';
import { TokensConfigurationError } from './tokens.errors.js';

type Required = 'encryption' | 'identityProviders';
type OfTheModule = 'dataSource' | 'isGlobal';

/**
 * Options of {@link TokensModule}. The name of a duration ends in its unit.
 *
 * @interface
 */
export type TokensModuleOptions = OptionsOf<
  Pick<TopLevelSettings, Required> & Partial<Omit<TopLevelSettings, Required | OfTheModule>>
>;

/** The options of the first level, with their rules and defaults. The groups have classes of their own. */
class TopLevelSettings {
  /** The keys that seal the tokens. */
  @IsObject({ message: 'encryption is missing: give it the keys that seal the tokens' })
  encryption!: EncryptionOptions;

  /** The identity providers by name; `{}` for none. */
  @IsPlainObject({ message: 'identityProviders is missing: name the providers whose tokens are stored, {} for none' })
  identityProviders!: IdentityProvidersOptions;

  /** How the module refreshes tokens, for all providers. */
  @IsObject({ message: 'refresh must be an object' })
  refresh: RefreshOptions = {};

  /** The Keycloak realm of the users. Without it, every call works that sends no request to Keycloak. */
  @IsOptional()
  @IsObject({ message: 'keycloak must be an object' })
  keycloak?: KeycloakModuleOptions;

  /**
   * Whether the module prepares statements by name. Default: true. Set it to false for a pooler that loses prepared
   * statements, such as PgBouncer before 1.21 in transaction mode.
   */
  @IsBoolean()
  preparedStatements = true;

  /**
   * How long a statement waits for a free connection of the pool, in milliseconds. Default: 10,000. Outside of a
   * transaction, a statement then waits as long again for its answer. The module closes a connection that does not
   * answer.
   */
  @IsInt()
  @Min(1)
  @Max(600_000)
  connectionTimeoutMs = 10_000;

  /** Returns the query runner of the host's current transaction, if there is one. Token statements join it. */
  @IsOptional()
  @IsFunction()
  hostQueryRunner?: () => QueryRunner | undefined;

  /** How users connect accounts. */
  @IsObject({ message: 'accountLinks must be an object' })
  accountLinks: AccountLinksOptions = {};

  /** Reads the user id from a request, for {@link IdpTokenGuard} and {@link AccountLinksController}. Default: `request.user.sub`. */
  @IsFunction()
  userId: UserIdResolver = subjectOfUser;

  @IsEmpty({ message: 'dataSource must not be in what useFactory returns: give it to forRootAsync, beside useFactory' })
  dataSource?: undefined;

  @IsEmpty({ message: 'isGlobal must not be in what useFactory returns: give it to forRootAsync, beside useFactory' })
  isGlobal?: undefined;
}

/** The validated options, with every default and with the providers that they describe. */
export interface TokensSettings {
  /** The key ring. It prints without its keys. */
  readonly keyring: Keyring;
  readonly identityProviders: ReadonlyMap<string, IdentityProvider>;
  readonly refresh: RefreshSettings;
  readonly accountLinks: AccountLinksSettings;
  /** The realm, or null if the options name none. It prints without its secret. */
  readonly keycloak: KeycloakRealm | null;
  readonly preparedStatements: boolean;
  readonly connectionTimeoutMs: number;
  readonly hostQueryRunner?: () => QueryRunner | undefined;
  readonly userId: UserIdResolver;
}

/** Injection token of the validated options. They print without a secret. */
export const TOKENS_SETTINGS = Symbol('TOKENS_SETTINGS');

/**
 * Loads what the options need, and reads them.
 *
 * @throws {@link TokensConfigurationError} when the module does not support the version of Node.js, NestJS or TypeORM
 * @see {@link readTokensOptions}
 */
export async function loadTokensSettings(plain: unknown): Promise<TokensSettings> {
  const unsupported = versionFaults();
  if (unsupported.length > 0) throw new TokensConfigurationError(`${unsupported.join('. ')}.`);
  await loadSodium();
  const encryption: unknown = isObject(plain) ? Reflect.get(plain, 'encryption') : undefined;
  const load: unknown = isObject(encryption) ? Reflect.get(encryption, 'keys') : undefined;
  if (!isObject(plain) || !isObject(encryption) || typeof load !== 'function') return readTokensOptions(plain);
  const loaded = await loadKeys(load as EncryptionKeysLoader);
  if ('fault' in loaded) return readTokensOptions(plain, loaded.fault);
  return readTokensOptions({ ...plain, encryption: { ...encryption, keys: loaded.keys } });
}

/**
 * Checks the options and adds the defaults.
 *
 * @param keysFault why the function in `encryption.keys` has returned no keys
 * @throws {@link TokensConfigurationError} that names every fault, not only the first
 */
export function readTokensOptions(plain: unknown, keysFault?: string): TokensSettings {
  const options = instantiate(TopLevelSettings, plain);
  const refresh = instantiate(RefreshSettings, options.refresh);
  const accountLinks = instantiate(AccountLinksSettings, options.accountLinks);
  const keycloak = options.keycloak && instantiate(KeycloakSettings, options.keycloak);
  const { providers, faults: providerFaults } = readIdentityProviders(Object(options.identityProviders) as object);

  const faults = [
    ...faultsOf(options, ''),
    ...encryptionFaultsOf(options.encryption, keysFault),
    ...providerFaults,
    ...faultsOf(refresh, 'refresh'),
    ...faultsOf(accountLinks, 'accountLinks'),
    ...(keycloak ? faultsOf(keycloak, 'keycloak') : []),
  ];
  if (faults.length > 0) {
    throw new TokensConfigurationError(
      `The options of TokensModule are wrong:\n${faults.map((f) => `- ${f}`).join('\n')}`,
    );
  }
  const { preparedStatements, connectionTimeoutMs, hostQueryRunner, userId } = options;
  const { keys } = options.encryption; // no function, because the rules of the keys want a list
  return {
    preparedStatements,
    connectionTimeoutMs,
    hostQueryRunner,
    userId,
    keyring: new Keyring(typeof keys === 'function' ? [] : keys),
    refresh,
    accountLinks,
    keycloak: keycloak ? new KeycloakRealm(keycloak) : null,
    identityProviders: providers,
  };
}

function encryptionFaultsOf(encryption: unknown, keysFault: string | undefined): string[] {
  if (keysFault !== undefined) return [keysFault];
  return isObject(encryption) ? encryptionFaults(encryption, 'encryption') : [];
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
