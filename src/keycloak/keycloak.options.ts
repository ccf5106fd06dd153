import { Contains, IsIn, IsInt, IsNotEmpty, IsOptional, IsString, Max, Min } from 'class-validator';

import { IsBaseUrl } from '../oauth-http/endpoint-url.js';
import type { OptionsOf } from '../options-validation.js';

/**
 * The system that redeems the refresh tokens of brokered providers. Only one system may redeem them, because two would
 * end the grants.
 */
export type RefreshOwner = 'module' | 'keycloak';

type Required = 'serverUrl' | 'realm' | 'clientId' | 'clientSecret';

/**
 * The Keycloak realm of the application's users.
 *
 * @interface
 */
export type KeycloakModuleOptions = OptionsOf<
  Pick<KeycloakSettings, Required> & Partial<Omit<KeycloakSettings, Required>>
>;

/** {@link KeycloakModuleOptions} with their rules and defaults. */
export class KeycloakSettings {
  /** URL of the server as this process reaches it, with its path if it has one. */
  @IsBaseUrl()
  serverUrl!: string;

  /** Name of the realm. */
  @IsString()
  @IsNotEmpty()
  realm!: string;

  /** A confidential client of the realm. Its service account needs `view-users` for the lookups of users. */
  @IsString()
  @IsNotEmpty()
  clientId!: string;

  /** The secret of the client. */
  @IsString()
  @IsNotEmpty()
  clientSecret!: string;

  /**
   * The issuer in Keycloak's tokens, if Keycloak's public URL differs from `serverUrl`. Default: the URL of the realm
   * below `serverUrl`.
   */
  @IsOptional()
  @IsBaseUrl()
  issuer?: string;

  /** The audience that `aud` of a bearer token must contain for {@link KeycloakAuthGuard}. Default: `clientId`. */
  @IsOptional()
  @IsString()
  @IsNotEmpty()
  audience?: string;

  /**
   * The system that redeems the refresh tokens of brokered providers. Default: `module`.
   *
   * - `module`: the module imports whole pairs and refreshes them. No other program may then ask Keycloak's broker for
   *   these pairs, because the broker would redeem its own copy.
   * - `keycloak`: the module imports only access tokens. It imports a stale one again from the broker, which refreshes
   *   it.
   */
  @IsIn(['module', 'keycloak'])
  refreshOwner: RefreshOwner = 'module';

  /**
   * Name of the user attribute that has the user's id at a provider, for `getUserIdFromIdpUserId`. `{idp}` in it is the
   * name of the provider: `{idp}_id`. Default: none. Keycloak's link of the account decides then.
   *
   * Set it only for a realm whose users have the attribute and no link. If users may write the attribute, one of them can
   * pass for another by writing that user's id.
   */
  @IsOptional()
  @IsString()
  @Contains('{idp}', { message: "$property must contain {idp}, in the place of the provider's name" })
  idpUserIdAttribute?: string;

  /** How long Keycloak may take for a request, its second try included, in milliseconds. */
  @IsInt()
  @Min(1)
  @Max(600_000)
  timeoutMs = 10_000;
}
