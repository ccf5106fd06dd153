import type { CodeFlow } from '../identity-providers/code-flow.js';
import type { IdentityProvider } from '../identity-providers/identity-provider.js';
import { DiscoveryError, type ServerMetadata } from '../identity-providers/server-metadata.js';
import { ProviderUnavailableError } from '../link.errors.js';
import type { TokenKey } from '../token-key.js';
import { ProviderMisconfiguredError, TokensConfigurationError } from '../tokens.errors.js';

/**
 * Returns the code flow of a provider.
 *
 * @throws {@link TokensConfigurationError} when its entry has no `redirectUri`
 */
export function flowOf({ codeFlow }: IdentityProvider, idp: string): CodeFlow {
  if (codeFlow) return codeFlow;
  throw new TokensConfigurationError(
    `The module cannot link an account at identity provider "${idp}", because its entry has no redirect URI. ` +
      `Set identityProviders.${idp}.redirectUri to the URL that is registered at the provider.`,
  );
}

/**
 * Returns the metadata of the provider.
 *
 * @throws {@link ProviderUnavailableError} | {@link ProviderMisconfiguredError} when the provider has to be asked and
 * does not name them
 */
export async function serverOf(flow: CodeFlow, subject: TokenKey): Promise<ServerMetadata> {
  try {
    return await flow.server();
  } catch (error) {
    if (!(error instanceof DiscoveryError)) throw error;
    const { kind, code, retryAfterMs } = error;
    const { idp } = subject;
    if (kind === 'unavailable') {
      throw new ProviderUnavailableError(idp, `the issuer gave no usable metadata (${code})`, retryAfterMs);
    }
    throw new ProviderMisconfiguredError(
      subject,
      code,
      `the metadata of the issuer cannot be used (${code}). Check identityProviders.${idp}.issuer`,
    );
  }
}
