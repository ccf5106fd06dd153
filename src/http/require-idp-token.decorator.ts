import { type CustomDecorator, SetMetadata } from '@nestjs/common';

import type { Scopes } from '../scopes.js';
import { checkRequiredScopes } from '../token-input.js';
import { TokensUsageError } from '../tokens.errors.js';

/** Metadata key of {@link RequireIdpToken}. */
export const REQUIRED_IDPS = 'nestjs-idp-tokens:required-idps';

/** A token that a handler needs. */
export interface IdpTokenRequirement {
  readonly idp: string;
  /**
   * The account of the user at the provider, or a function that returns it for a request. If it is absent, or the
   * function returns undefined, the account counts that counts for {@link TokenManager.getIdpToken} then. The request
   * is what its sender wrote, so the function must return only accounts that the handler may use for this user.
   */
  readonly account?: string | ((request: object) => string | undefined) | undefined;
  /** The scopes that the token must have, at least one. If it is absent, the handler requires none. */
  readonly scopes?: Scopes | undefined;
  /** Whether scopes that are not known count as missing. Default: that of the provider. */
  readonly requireKnownScopes?: boolean | undefined;
  /** The name of the token in `request.idpTokens` and for `@IdpToken(name)`. Default: the idp. */
  readonly as?: string | undefined;
}

/**
 * Names the tokens that a handler, or every handler of a controller, needs: by their providers, or by requirements with
 * an account and with scopes. {@link IdpTokenGuard} gets the tokens before the handler runs. A decorator on the handler
 * replaces the one on its controller.
 *
 * @throws {@link TokensUsageError} when two requirements have one name
 * @throws {@link InvalidTokenInputError} when the scopes of a requirement name none, or are no texts
 */
export function RequireIdpToken(
  ...required: [string | IdpTokenRequirement, ...(string | IdpTokenRequirement)[]]
): CustomDecorator {
  const byName = new Map<string, string | IdpTokenRequirement>();
  for (const each of required) {
    const name = nameOf(each);
    if (byName.has(name) && byName.get(name) !== each) {
      throw new TokensUsageError(
        `@RequireIdpToken has two requirements with the name "${name}". Give one of them another name by "as".`,
      );
    }
    if (typeof each !== 'string' && each.scopes !== undefined) checkRequiredScopes(each.scopes);
    byName.set(name, each);
  }
  return SetMetadata(REQUIRED_IDPS, [...byName.values()]);
}

/** Returns the name under which the guard puts a required token. */
export function nameOf(required: string | IdpTokenRequirement): string {
  return typeof required === 'string' ? required : (required.as ?? required.idp);
}
