/**
 * The identity providers that the module knows by name. Every other OAuth 2.0 provider needs an options entry with its
 * endpoints.
 */
export enum ProviderType {
  GITHUB = 'github',
  GITLAB = 'gitlab',
  BITBUCKET = 'bitbucket',
  BITBUCKET_DATA_CENTER = 'bitbucket_data_center',
  AZURE_DEVOPS = 'azure_devops',
}
