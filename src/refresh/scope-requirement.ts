import { InsufficientScopeError } from '../account.errors.js';
import type { IdentityProvider } from '../identity-providers/identity-provider.js';
import { type ImpliedScopes, missingFrom, type Scopes, scopeList } from '../scopes.js';
import { checkRequiredScopes } from '../token-input.js';
import type { AccountKey } from '../token-key.js';

/** The scopes that a caller requires of a token. */
export class ScopeRequirement {
  constructor(
    private readonly required: readonly string[],
    private readonly implied: ImpliedScopes,
    private readonly mustBeKnown: boolean,
  ) {}

  /**
   * Accepts a token that has the scopes.
   *
   * @param granted the text of the column; null if the scopes are not known
   * @throws {@link InsufficientScopeError} for every other token
   */
  check(key: AccountKey, granted: string | null): void {
    if (granted === null) {
      if (this.mustBeKnown) throw new InsufficientScopeError(key, this.required, 'unknown');
      return;
    }
    const missing = missingFrom(scopeList(granted), this.required, this.implied);
    if (missing.length > 0) throw new InsufficientScopeError(key, missing);
  }
}

/**
 * Returns the requirement of a caller, by the rules of the provider.
 *
 * @throws {@link InvalidTokenInputError} unless the scopes are a text or a list of texts that names at least one
 */
export function requirementOf(
  scopes: Scopes,
  { requireKnownScopes }: { readonly requireKnownScopes?: boolean | undefined },
  provider: IdentityProvider,
): ScopeRequirement {
  const required = checkRequiredScopes(scopes);
  const mustBeKnown = requireKnownScopes ?? provider.requireKnownScopes ?? false;
  return new ScopeRequirement(required, provider.impliedScopes ?? {}, mustBeKnown);
}
