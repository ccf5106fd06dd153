import type { ExecutionContext } from '@nestjs/common';

import type { IdpToken } from '../refresh/idp-token.js';
import { findRequest, identityOfCall } from './request-of-call.js';

/** A request that {@link IdpTokenGuard} has let through. The tokens print redacted. */
export interface RequestWithIdpTokens {
  idpTokens?: Readonly<Record<string, IdpToken>>;
}

/** The tokens of calls whose request only a subclass of the guard can find. */
const ofCalls = new WeakMap<object, Readonly<Record<string, IdpToken>>>();

/**
 * Puts tokens on the request of a call, and adds them to those that another guard has put there. If only the guard can
 * find the request, the tokens are also remembered for the call, so that {@link findIdpToken} finds them.
 */
export function putIdpTokens(
  context: ExecutionContext,
  request: RequestWithIdpTokens,
  tokens: Record<string, IdpToken>,
): void {
  request.idpTokens = { ...request.idpTokens, ...tokens };
  if (request === findRequest(context)) return;
  const call = identityOfCall(context);
  if (call) ofCalls.set(call, { ...ofCalls.get(call), ...tokens });
}

/** Returns the token of a provider that a guard has got for this call. */
export function findIdpToken(context: ExecutionContext, idp: string): IdpToken | undefined {
  const call = identityOfCall(context);
  const request: RequestWithIdpTokens | undefined = findRequest(context);
  return (call && ofCalls.get(call)?.[idp]) ?? request?.idpTokens?.[idp];
}
