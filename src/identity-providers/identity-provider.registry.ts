import { UnsupportedProviderError } from '../tokens.errors.js';
import type { IdentityProvider } from './identity-provider.js';
import { completePolicy, type RefreshPolicy } from './refresh-policy.js';

/** The configured identity providers by name. */
export class IdentityProviderRegistry {
  readonly #providers: ReadonlyMap<string, IdentityProvider>;

  constructor(providers: ReadonlyMap<string, IdentityProvider>) {
    this.#providers = providers;
  }

  /** @throws {@link UnsupportedProviderError} when the options have no entry of this name */
  get(idp: string): IdentityProvider {
    const provider = this.find(idp);
    if (!provider) throw new UnsupportedProviderError(idp, [...this.#providers.keys()]);
    return provider;
  }

  find(idp: string): IdentityProvider | null {
    return this.#providers.get(idp) ?? null;
  }

  /** Names of the providers that can revoke tokens. */
  get revocable(): string[] {
    return [...this.#providers].filter(([, provider]) => typeof provider.revoke === 'function').map(([idp]) => idp);
  }

  /** Policy of a provider; for one that is not configured, the cautious default. */
  policyOf(idp: string): RefreshPolicy {
    return this.find(idp)?.policy ?? completePolicy();
  }
}
