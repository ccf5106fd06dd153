import { type CustomDecorator, SetMetadata } from '@nestjs/common';

/** Metadata key of {@link RequireIdpToken}. */
export const REQUIRED_IDPS = 'nestjs-idp-tokens:required-idps';

/**
 * Names the providers whose tokens a handler, or every handler of a controller, needs. {@link IdpTokenGuard} gets the
 * tokens before the handler runs. A decorator on the handler replaces the one on its controller.
 */
export function RequireIdpToken(...idps: [string, ...string[]]): CustomDecorator {
  return SetMetadata(REQUIRED_IDPS, idps);
}
