import { IsIn, IsInt, IsNotEmpty, IsOptional, IsString, Max, Min } from 'class-validator';

import { IsBaseUrl } from '../oauth-http/endpoint-url.js';
import type { OptionsOf } from '../options-validation.js';

/** Who redeems the provider's refresh tokens that Keycloak's broker stores: both at once would end the grants. */
export type RefreshOwner = 'module' | 'keycloak';

/** The Keycloak realm of the application's users. */
export type KeycloakModuleOptions = OptionsOf<
  Pick<KeycloakSettings, 'serverUrl' | 'realm' | 'clientId' | 'clientSecret'> & Partial<KeycloakSettings>
>;

/** {@link KeycloakModuleOptions} with their rules and defaults. */
export class KeycloakSettings {
  /** URL of the server as this process reaches it; may carry a path. */
  @IsBaseUrl()
  serverUrl!: string;

  @IsString()
  @IsNotEmpty()
  realm!: string;

  /** A confidential client of the realm. Its service account needs `view-users` for the lookups of users. */
  @IsString()
  @IsNotEmpty()
  clientId!: string;

  @IsString()
  @IsNotEmpty()
  clientSecret!: string;

  /** The issuer in Keycloak's tokens, where its public URL is another than `serverUrl`. Default: the realm below `serverUrl`. */
  @IsOptional()
  @IsBaseUrl()
  issuer?: string;

  /** What `aud` of a bearer token must hold for {@link KeycloakAuthGuard}. Default: `clientId`. */
  @IsOptional()
  @IsString()
  @IsNotEmpty()
  audience?: string;

  /**
   * Default `module`: imported pairs are stored whole and refreshed here; then nothing else may ask Keycloak's broker for
   * them, because it would redeem its own copy. `keycloak`: only access tokens are imported, and imported again from
   * the broker, which refreshes them, when they are stale.
   */
  @IsIn(['module', 'keycloak'])
  refreshOwner: RefreshOwner = 'module';

  /** How long Keycloak may take for a request, its second try included, in milliseconds. */
  @IsInt()
  @Min(1)
  @Max(600_000)
  timeoutMs = 10_000;
}
