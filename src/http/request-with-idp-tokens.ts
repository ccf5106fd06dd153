import type { ExecutionContext } from '@nestjs/common';

import type { IdpToken } from '../refresh/idp-token.js';
import { TokensUsageError } from '../tokens.errors.js';
import { findRequest, identityOfCall, nameOfHandler } from './request-of-call.js';

/** A request that {@link IdpTokenGuard} has let through. The tokens print redacted. */
export interface RequestWithIdpTokens {
  idpTokens?: Readonly<Record<string, IdpToken>>;
}

/** What a guard got for a call whose request only the guard can find. */
interface TokensOfCall {
  /** NestJS makes one for all guards of a call. */
  readonly context: ExecutionContext;
  /** The tokens by provider. They are missing once a second call of the handler has had the same object. */
  tokens: Readonly<Record<string, IdpToken>> | undefined;
}

/** The tokens of calls by {@link identityOfCall}, then by handler, because an event can have several handlers. */
const ofCalls = new WeakMap<object, Map<unknown, TokensOfCall>>();

/**
 * Puts tokens on the request of a call, and adds them to those that another guard has put there. If only the guard can
 * find the request, the tokens are also remembered for the call, so that {@link findIdpToken} finds them. They are
 * forgotten when another call has the same identity, because it can be the call of another user.
 */
export function putIdpTokens(
  context: ExecutionContext,
  request: RequestWithIdpTokens,
  tokens: Record<string, IdpToken>,
): void {
  request.idpTokens = { ...request.idpTokens, ...tokens };
  if (request === findRequest(context)) return;
  const identity = identityOfCall(context);
  if (!identity) return;
  const ofHandlers = ofCalls.get(identity) ?? new Map<unknown, TokensOfCall>();
  const ofCall = ofHandlers.get(context.getHandler());
  if (!ofCall) ofCalls.set(identity, ofHandlers.set(context.getHandler(), { context, tokens }));
  else if (ofCall.context === context) ofCall.tokens &&= { ...ofCall.tokens, ...tokens };
  else ofCall.tokens = undefined;
}

/**
 * Returns the token of a provider that a guard has got for this call.
 *
 * @throws {@link TokensUsageError} when the call has no object that belongs to it alone, so that the token could be one
 * of another user
 */
export function findIdpToken(context: ExecutionContext, idp: string): IdpToken | undefined {
  const request: RequestWithIdpTokens | undefined = findRequest(context);
  const identity = identityOfCall(context);
  if (!identity && !request) {
    throw indistinct(context, 'has no argument that belongs to it alone. Let its payload be an object');
  }
  const ofCall = identity && ofCalls.get(identity)?.get(context.getHandler());
  if (ofCall && !ofCall.tokens) throw indistinct(context, 'shares its arguments with another call. Use new ones');
  return ofCall?.tokens?.[idp] ?? request?.idpTokens?.[idp];
}

function indistinct(context: ExecutionContext, problem: string): TokensUsageError {
  return new TokensUsageError(
    `@IdpToken gives no token, because the call of type "${context.getType<string>()}" of ${nameOfHandler(context)} ` +
      `${problem}, or read idpTokens of the object that getRequest of your guard returns.`,
  );
}
