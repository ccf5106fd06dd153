import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';

import { type AccessTokenClaims, KeycloakTokenVerifier } from '../keycloak/keycloak-token-verifier.js';
import { bearerToken } from './bearer-token.js';

/** A request that {@link KeycloakAuthGuard} has let through. */
export interface RequestWithKeycloakUser {
  user?: AccessTokenClaims;
}

/**
 * Lets a request through if it has an access token of the Keycloak realm in the options. It puts the claims of the
 * token on the request as `request.user`, where {@link IdpTokenGuard} finds the user. It verifies signature, issuer,
 * audience and expiry in this process, by the realm's public keys. So an ended session at Keycloak has no effect until
 * the token expires. It works on Express and on Fastify. A singleton.
 *
 * @throws {@link AuthenticationRequiredError} when the request has no bearer token; {@link TokensExceptionFilter}
 * answers 401
 * @throws {@link KeycloakSessionExpiredError} when the token is not good; the filter answers 401
 * @throws {@link KeycloakUnavailableError} when the realm's keys cannot be fetched
 * @throws {@link KeycloakMisconfiguredError} when the realm is not the one of the options
 * @see RFC 6750 section 2.1
 */
@Injectable()
export class KeycloakAuthGuard implements CanActivate {
  constructor(private readonly verifier: KeycloakTokenVerifier) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<RequestWithKeycloakUser & { headers: Headers }>();
    request.user = await this.verifier.verify(bearerToken(request.headers.authorization));
    return true;
  }
}

type Headers = Partial<Record<string, string | string[]>>;
