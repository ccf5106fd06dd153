import type { OptionsOf } from '../options-validation.js';
import { customOAuth2, type OAuth2Settings } from './custom-oauth2.provider.js';
import { type IdentityProvider, isIdentityProvider } from './identity-provider.js';
import { type AzureDevOpsSettings, azureDevOps } from './known/azure-devops.provider.js';
import { type BitbucketDataCenterSettings, bitbucketDataCenter } from './known/bitbucket-data-center.provider.js';
import { type BitbucketSettings, bitbucketCloud } from './known/bitbucket.provider.js';
import { type GitHubSettings, gitHub } from './known/github.provider.js';
import { type GitLabSettings, gitLab } from './known/gitlab.provider.js';
import { checkedProvider, type ProviderKind, type ProviderReading } from './provider-kind.js';
import { ProviderType } from './provider-type.js';

/**
 * A GitHub App or an OAuth app, at github.com or GitHub Enterprise Server.
 *
 * @interface
 */
export type GitHubOptions = OptionsOf<GitHubSettings>;
/**
 * An application at GitLab.com or at a self-managed GitLab.
 *
 * @interface
 */
export type GitLabOptions = OptionsOf<GitLabSettings>;
/**
 * An OAuth consumer at Bitbucket Cloud.
 *
 * @interface
 */
export type BitbucketOptions = OptionsOf<BitbucketSettings>;
/**
 * An application link of Bitbucket Data Center.
 *
 * @interface
 */
export type BitbucketDataCenterOptions = OptionsOf<BitbucketDataCenterSettings>;
/**
 * An app registration in Microsoft Entra that may use Azure DevOps.
 *
 * @interface
 */
export type AzureDevOpsOptions = OptionsOf<AzureDevOpsSettings>;
/**
 * Any other OAuth 2.0 provider, described by its endpoints.
 *
 * @interface
 */
export type OAuth2Options = OptionsOf<OAuth2Settings>;

/**
 * The identity providers by name. A known name takes the options of its provider. Every other name takes OAuth 2.0
 * options, or the options of the known provider that its `kind` names. Every name also takes a provider object.
 */
export interface IdentityProvidersOptions {
  github?: GitHubOptions | IdentityProvider;
  gitlab?: GitLabOptions | IdentityProvider;
  bitbucket?: BitbucketOptions | IdentityProvider;
  bitbucket_data_center?: BitbucketDataCenterOptions | IdentityProvider;
  azure_devops?: AzureDevOpsOptions | IdentityProvider;
  [idp: string]:
    | GitHubOptions
    | GitLabOptions
    | BitbucketOptions
    | BitbucketDataCenterOptions
    | AzureDevOpsOptions
    | OAuth2Options
    | IdentityProvider
    | undefined;
}

const KINDS = new Map<string, ProviderKind>([
  [ProviderType.GITHUB, gitHub],
  [ProviderType.GITLAB, gitLab],
  [ProviderType.BITBUCKET, bitbucketCloud],
  [ProviderType.BITBUCKET_DATA_CENTER, bitbucketDataCenter],
  [ProviderType.AZURE_DEVOPS, azureDevOps],
]);

const MAX_NAME_LENGTH = 255;

/** Returns whether an entry of the options can have this name. */
export function isProviderName(idp: unknown): idp is string {
  return typeof idp === 'string' && idp.trim() !== '' && idp.length <= MAX_NAME_LENGTH;
}

/** Makes the providers that the options describe, and lists every fault of their entries. */
export function readIdentityProviders(entries: object): { providers: Map<string, IdentityProvider>; faults: string[] } {
  const providers = new Map<string, IdentityProvider>();
  const faults: string[] = [];
  for (const [idp, entry] of Object.entries(entries)) {
    if (entry === undefined) continue;
    const path = `identityProviders.${idp}`;
    if (!isProviderName(idp)) {
      faults.push(`${path} must have a name of 1 to ${MAX_NAME_LENGTH} characters`);
      continue;
    }
    const reading = isIdentityProvider(entry) ? checkedProvider(entry, path) : readEntry(idp, entry, path);
    if ('provider' in reading) providers.set(idp, reading.provider);
    else faults.push(...reading.faults);
  }
  return { providers, faults: [...faults, ...sharedRedirectUris(providers)] };
}

/**
 * Lists the redirect URIs that two providers have. Each needs its own, because it tells which provider answers. With one
 * URI a malicious provider could send the browser on to another one, and get the code of that one.
 *
 * @see RFC 9700 section 4.4.2
 */
function sharedRedirectUris(providers: ReadonlyMap<string, IdentityProvider>): string[] {
  const names = new Map<string, string>();
  const faults: string[] = [];
  for (const [idp, { codeFlow }] of providers) {
    if (!codeFlow) continue;
    const other = names.get(codeFlow.redirectUri);
    if (other === undefined) names.set(codeFlow.redirectUri, idp);
    else
      faults.push(
        `identityProviders.${idp}.redirectUri must differ from that of "${other}", because it tells who answers`,
      );
  }
  return faults;
}

function readEntry(idp: string, entry: unknown, path: string): ProviderReading {
  const named: unknown = typeof entry === 'object' && entry !== null && 'kind' in entry ? entry.kind : undefined;
  const kind = KINDS.get((named ?? idp) as string);
  if (kind || named === undefined || named === null) return (kind ?? customOAuth2)(entry, path);
  return {
    faults: [
      `${path}.kind must be one of ${[...KINDS.keys()].join(', ')}, or be left out for another OAuth 2.0 provider`,
    ],
  };
}
