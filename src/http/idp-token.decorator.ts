import 'reflect-metadata';

import { createParamDecorator, type ExecutionContext, type PipeTransform, type Type } from '@nestjs/common';

import type { IdpToken as UsableIdpToken } from '../refresh/idp-token.js';
import { TokensUsageError } from '../tokens.errors.js';
import { findIdpToken } from './request-with-idp-tokens.js';

/** A usable access token of a user at a provider. */
export type IdpToken = UsableIdpToken;

/**
 * Gives the token that {@link IdpTokenGuard} got to a parameter of a handler. If only a subclass of the guard can find
 * the request, the decorator finds the token by an argument that belongs to this call alone: the payload of a message,
 * the `info` of a GraphQL resolver, the first argument of other calls. No `ValidationPipe` validates or copies the token, also with
 * `validateCustomDecorators`.
 *
 * The name is that of the provider, or the `as` of the requirement.
 *
 * @throws {@link TokensUsageError} when the handler does not require a token of this provider, and when the call has no
 * such argument or shares it with another call, because the token could be one of another user
 */
export const IdpToken: (name: string, ...pipes: (Type<PipeTransform> | PipeTransform)[]) => ParameterDecorator =
  createParamDecorator(tokenOf, [hideTypeFromPipes]);

function tokenOf(name: string, context: ExecutionContext): UsableIdpToken {
  const token = findIdpToken(context, name);
  if (token) return token;
  throw new TokensUsageError(
    `@IdpToken('${name}') needs @RequireIdpToken('${name}') and @UseGuards(IdpTokenGuard) on the same handler.`,
  );
}

/**
 * Replaces the type of the parameter in the metadata by Object, which pipes leave alone. The compiler writes the
 * decorator itself as the type, because both have the name IdpToken. A pipe that makes an object of this "type" fails.
 * A pipe that copies the token loses it, because the token is a private field.
 */
function hideTypeFromPipes(target: object, method: string | symbol | undefined, index: number): void {
  if (method === undefined) return;
  const types: unknown = Reflect.getOwnMetadata('design:paramtypes', target, method);
  if (!Array.isArray(types)) return; // the compiler writes no metadata
  Reflect.defineMetadata('design:paramtypes', types.with(index, Object), target, method);
}
