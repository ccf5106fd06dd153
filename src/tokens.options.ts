import { IsBoolean, IsEmpty, IsInt, IsObject, IsOptional, Max, Min, ValidateBy } from 'class-validator';
import type { QueryRunner } from 'typeorm';

import { subjectOfUser, type UserIdResolver } from './http/http.options.js';
import type { IdentityProvider } from './identity-providers/identity-provider.js';
import {
  type IdentityProvidersOptions,
  readIdentityProviders,
} from './identity-providers/identity-providers.options.js';
import { KeycloakRealm } from './keycloak/keycloak-realm.js';
import { type KeycloakModuleOptions, KeycloakSettings } from './keycloak/keycloak.options.js';
import { faultsOf, instantiate, type OptionsOf } from './options-validation.js';
import { type RefreshOptions, RefreshSettings } from './refresh/refresh.options.js';
import { encryptionFaults } from './sealing/encryption-faults.js';
import type { EncryptionOptions } from './sealing/encryption.options.js';
import { Keyring } from './sealing/keyring.js';
import { TokensConfigurationError } from './tokens.errors.js';

type Required = 'encryption' | 'identityProviders';
type OfTheModule = 'dataSource' | 'isGlobal';

/** Options of {@link TokensModule}. Durations carry their unit in the name. */
export type TokensModuleOptions = OptionsOf<
  Pick<TopLevelSettings, Required> & Partial<Omit<TopLevelSettings, Required | OfTheModule>>
>;

function IsFunctionValue(): PropertyDecorator {
  return ValidateBy({
    name: 'isFunction',
    validator: {
      validate: (value) => typeof value === 'function',
      defaultMessage: () => '$property must be a function',
    },
  });
}

/** An object with entries of its own: not a list, a Map or an instance of a class. */
function IsPlainObject({ message }: { message: string }): PropertyDecorator {
  return ValidateBy({
    name: 'isPlainObject',
    validator: { validate: (value) => isPlainObject(value), defaultMessage: () => message },
  });
}

/** The options that are not a group of their own, with their rules and defaults. */
class TopLevelSettings {
  @IsObject({ message: 'encryption is missing: give it the keys that seal the tokens' })
  encryption!: EncryptionOptions;

  @IsPlainObject({ message: 'identityProviders is missing: name the providers whose tokens are stored, {} for none' })
  identityProviders!: IdentityProvidersOptions;

  @IsObject({ message: 'refresh must be an object' })
  refresh: Partial<RefreshOptions> = {};

  /** The Keycloak realm of the users. Without it, everything works that does not ask Keycloak. */
  @IsOptional()
  @IsObject({ message: 'keycloak must be an object' })
  keycloak?: KeycloakModuleOptions;

  /**
   * Whether statements are prepared by name. Default: true. Switch it off for a pooler that loses them, such as
   * PgBouncer before 1.21 in transaction mode.
   */
  @IsBoolean()
  preparedStatements = true;

  /**
   * How long a statement waits for a free connection of the pool, and outside of a transaction then for its answer, in
   * milliseconds. Default: 10,000. A connection that stays silent is closed.
   */
  @IsInt()
  @Min(1)
  @Max(600_000)
  connectionTimeoutMs = 10_000;

  /** Offers the query runner of the host's current transaction, so that token writes join it. */
  @IsOptional()
  @IsFunctionValue()
  hostQueryRunner?: () => QueryRunner | undefined;

  /** Reads the user id from a request, for {@link IdpTokenGuard}. Default: `request.user.sub`. */
  @IsFunctionValue()
  userId: UserIdResolver = subjectOfUser;

  @IsEmpty({ message: 'dataSource stands beside useFactory, not in what it returns' })
  dataSource?: undefined;

  @IsEmpty({ message: 'isGlobal stands beside useFactory, not in what it returns' })
  isGlobal?: undefined;
}

/** The options with every default filled in and the providers made. */
export interface TokensSettings {
  /** The keys; prints without them. */
  readonly keyring: Keyring;
  readonly identityProviders: ReadonlyMap<string, IdentityProvider>;
  readonly refresh: RefreshSettings;
  /** Prints without its secret; null when the options name no realm. */
  readonly keycloak: KeycloakRealm | null;
  readonly preparedStatements: boolean;
  readonly connectionTimeoutMs: number;
  readonly hostQueryRunner?: () => QueryRunner | undefined;
  readonly userId: UserIdResolver;
}

/** Injection token of the validated options. They print without a secret. */
export const TOKENS_SETTINGS = Symbol('TOKENS_SETTINGS');

/**
 * Checks the options and fills in their defaults.
 *
 * @throws {@link TokensConfigurationError} that names every fault, not only the first
 */
export function readTokensOptions(plain: unknown): TokensSettings {
  const options = instantiate(TopLevelSettings, plain);
  const refresh = instantiate(RefreshSettings, options.refresh);
  const keycloak = options.keycloak && instantiate(KeycloakSettings, options.keycloak);
  const { providers, faults: providerFaults } = readIdentityProviders(Object(options.identityProviders) as object);

  const faults = [
    ...faultsOf(options, ''),
    ...(isObject(options.encryption) ? encryptionFaults(options.encryption, 'encryption') : []),
    ...providerFaults,
    ...faultsOf(refresh, 'refresh'),
    ...(keycloak ? faultsOf(keycloak, 'keycloak') : []),
  ];
  if (faults.length > 0) {
    throw new TokensConfigurationError(
      `The options of TokensModule are wrong:\n${faults.map((f) => `- ${f}`).join('\n')}`,
    );
  }
  const { preparedStatements, connectionTimeoutMs, hostQueryRunner, userId } = options;
  return {
    preparedStatements,
    connectionTimeoutMs,
    hostQueryRunner,
    userId,
    keyring: new Keyring(options.encryption.keys),
    refresh,
    keycloak: keycloak ? new KeycloakRealm(keycloak) : null,
    identityProviders: providers,
  };
}

function isPlainObject(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}
