import type { IdpToken } from '../refresh/idp-token.js';

/** A request that passed {@link IdpTokenGuard}. The tokens print redacted. */
export interface RequestWithIdpTokens {
  idpTokens?: Readonly<Record<string, IdpToken>>;
}

/** Puts tokens on a request, beside those that another guard has put there. */
export function putIdpTokens(request: RequestWithIdpTokens, tokens: Record<string, IdpToken>): void {
  request.idpTokens = { ...request.idpTokens, ...tokens };
}
