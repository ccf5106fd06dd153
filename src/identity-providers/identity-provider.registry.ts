import { UnsupportedProviderError } from '../tokens.errors.js';
import type { IdentityProvider } from './identity-provider.js';
import { completePolicy, type RefreshPolicy } from './refresh-policy.js';

/** The configured identity providers by name. */
export class IdentityProviderRegistry {
  readonly #providers: ReadonlyMap<string, IdentityProvider>;

  constructor(providers: ReadonlyMap<string, IdentityProvider>) {
    this.#providers = providers;
  }

  /**
   * Returns the provider of this name.
   *
   * @throws {@link UnsupportedProviderError} when the options have no entry of this name
   */
  get(idp: string): IdentityProvider {
    const provider = this.find(idp);
    if (!provider) throw new UnsupportedProviderError(idp, [...this.#providers.keys()]);
    return provider;
  }

  find(idp: string): IdentityProvider | null {
    return this.#providers.get(idp) ?? null;
  }

  /** The names of the providers that can revoke tokens. */
  get revocable(): string[] {
    return [...this.#providers].filter(([, provider]) => typeof provider.revoke === 'function').map(([idp]) => idp);
  }

  /** The lifetime in seconds of an access token without an expiry; undefined if such a token never expires. */
  assumedLifetimeOf(idp: string): number | undefined {
    return this.find(idp)?.assumedLifetimeSeconds;
  }

  /**
   * Returns the policy of a provider. A provider that is not configured gets the default policy, with single-use
   * refresh tokens.
   */
  policyOf(idp: string): RefreshPolicy {
    return this.find(idp)?.policy ?? completePolicy();
  }
}
