import type { IdpToken } from '../refresh/idp-token.js';

/** A request that {@link IdpTokenGuard} has let through. The tokens print redacted. */
export interface RequestWithIdpTokens {
  idpTokens?: Readonly<Record<string, IdpToken>>;
}

/** Adds tokens to those that another guard has put on a request. */
export function putIdpTokens(request: RequestWithIdpTokens, tokens: Record<string, IdpToken>): void {
  request.idpTokens = { ...request.idpTokens, ...tokens };
}
