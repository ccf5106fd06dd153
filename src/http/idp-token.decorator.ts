import { createParamDecorator, type ExecutionContext, type PipeTransform, type Type } from '@nestjs/common';

import type { IdpToken as UsableToken } from '../refresh/idp-token.js';
import { TokensUsageError } from '../tokens.errors.js';
import type { RequestWithIdpTokens } from './request-with-idp-tokens.js';

/** A usable access token of a user at a provider. */
export type IdpToken = UsableToken;

/**
 * Gives the token that {@link IdpTokenGuard} got to a parameter of a handler.
 *
 * @throws {@link TokensUsageError} when the handler does not require a token of this provider
 */
export const IdpToken: (idp: string, ...pipes: (Type<PipeTransform> | PipeTransform)[]) => ParameterDecorator =
  createParamDecorator(tokenOf);

function tokenOf(idp: string, context: ExecutionContext): UsableToken {
  const token = context.switchToHttp().getRequest<RequestWithIdpTokens>().idpTokens?.[idp];
  if (token) return token;
  throw new TokensUsageError(
    `@IdpToken('${idp}') needs @RequireIdpToken('${idp}') and @UseGuards(IdpTokenGuard) on the same handler.`,
  );
}
