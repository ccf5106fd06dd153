import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import type { JWTPayload } from 'jose';

import { KeycloakTokenVerifier } from '../keycloak/keycloak-token.verifier.js';
import { KeycloakSessionExpiredError } from '../tokens.errors.js';

/** A request that passed {@link KeycloakAuthGuard}. */
export interface RequestWithKeycloakUser {
  user?: JWTPayload;
}

/**
 * Lets requests pass that bear an access token of the Keycloak realm in the options, and puts its claims on the request
 * as `request.user`, where {@link IdpTokenGuard} finds the user. The token is verified here, by the realm's public keys:
 * signature, issuer, audience, expiry. A session that Keycloak has ended is noticed when its token expires. Works on
 * Express and on Fastify; a singleton.
 *
 * @throws {@link KeycloakSessionExpiredError} without a good token; {@link TokensExceptionFilter} answers 401
 * @throws {@link KeycloakUnavailableError} when the realm's keys cannot be fetched
 * @see RFC 6750 section 2.1
 */
@Injectable()
export class KeycloakAuthGuard implements CanActivate {
  constructor(private readonly verifier: KeycloakTokenVerifier) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<RequestWithKeycloakUser & { headers: Headers }>();
    const { authorization } = request.headers;
    const token = typeof authorization === 'string' ? /^Bearer +([\w~+/.-]+=*)$/i.exec(authorization)?.[1] : undefined;
    if (!token) throw new KeycloakSessionExpiredError('The request bears no access token. Log in first.');
    request.user = await this.verifier.verify(token);
    return true;
  }
}

type Headers = Partial<Record<string, string | string[]>>;
