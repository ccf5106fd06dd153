import { IsNotEmpty, IsOptional, IsString } from 'class-validator';

import { endpoint, IsBaseUrl } from '../../oauth-http/endpoint-url.js';
import { providerKind } from '../provider-kind.js';
import { describedProvider, KnownProviderSettings, unlessMoved } from '../provider.options.js';

/** The resource id of Azure DevOps, which is the same in every tenant, and the scope of a refresh token. */
const AZURE_DEVOPS_SCOPE = '499b84ac-1321-427f-aa17-267ca6975798/.default offline_access';

export class AzureDevOpsSettings extends KnownProviderSettings {
  declare kind?: 'azure_devops';

  /** URL of the Entra authority. Default: the public cloud. */
  @IsOptional()
  @IsBaseUrl()
  authority?: string;

  /** Directory (tenant) id or name. Default: `organizations`, any work or school account. */
  @IsOptional()
  @IsString()
  @IsNotEmpty()
  tenant?: string;

  /** Default: everything that the application was granted on Azure DevOps, and a refresh token. */
  @IsOptional()
  @IsString()
  @IsNotEmpty()
  scope?: string;
}

/**
 * Azure DevOps through Microsoft Entra. Each refresh gives a new refresh token, and the old one stays valid. So the
 * module can send a refresh token again when the answer is lost. Entra has no endpoint to revoke tokens.
 *
 * @see https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow
 */
export const azureDevOps = providerKind(AzureDevOpsSettings, (options) => {
  const { authority = 'https://login.microsoftonline.com', tenant = 'organizations' } = options;
  return describedProvider(options, {
    clientAuthentication: 'client_secret_post',
    tokenEndpoint: options.tokenEndpoint ?? endpoint(authority, `/${encodeURIComponent(tenant)}/oauth2/v2.0/token`),
    authorizationEndpoint: unlessMoved(
      { tokenEndpoint: options.tokenEndpoint, baseUrl: options.authority },
      endpoint(authority, `/${encodeURIComponent(tenant)}/oauth2/v2.0/authorize`),
    ),
    scopes: (options.scope ?? AZURE_DEVOPS_SCOPE).split(' '),
    refreshParameters: { scope: options.scope ?? AZURE_DEVOPS_SCOPE },
    policy: { replayWindowMs: 86_400_000, oldAccessTokenSurvives: true },
  });
});
