import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';

import { KeycloakTokenVerifier } from '../keycloak/keycloak-token-verifier.js';
import type { AccessTokenClaims } from '../keycloak/token-claims.js';
import { TokensError } from '../tokens-error.js';
import { answerToError } from './answer-to-error.js';
import { bearerToken } from './bearer-token.js';
import { challengeAt401 } from './challenge-at-401.js';
import { checkedRequest, findResponse, property, requestOfCall } from './request-of-call.js';

/** A request that {@link KeycloakAuthGuard} has let through. */
export interface RequestWithKeycloakUser {
  user?: AccessTokenClaims;
}

/**
 * Lets a request through if it has an access token of the Keycloak realm in the options. It puts the claims of the
 * token on the request as `request.user`, where {@link IdpTokenGuard} finds the user. It verifies signature, issuer,
 * audience and expiry in this process, by the realm's public keys. So an ended session at Keycloak has no effect until
 * the token expires. It works on Express and on Fastify, for routes and for GraphQL resolvers. It refuses all other
 * calls, because their arguments are what the caller wrote. For those, a subclass overrides {@link getRequest}. A
 * singleton.
 *
 * Without {@link TokensExceptionFilter}, NestJS answers 401 to the first two errors, with the same `WWW-Authenticate`,
 * because they also have the `status`, `statusCode` and `expose` of the errors of `http-errors`. It logs them, which it
 * does not do with the filter. If a subclass catches the error, the answer has this header only if its status is 401.
 *
 * @throws {@link AuthenticationRequiredError} when the request has no bearer token; {@link TokensExceptionFilter}
 * answers 401
 * @throws {@link KeycloakSessionExpiredError} when the token is not good; the filter answers 401
 * @throws {@link KeycloakUnavailableError} when the realm's keys cannot be fetched
 * @throws {@link KeycloakMisconfiguredError} when the realm is not the one of the options
 * @throws {@link TokensUsageError} when the call has no request
 * @see RFC 6750 section 2.1
 */
@Injectable()
export class KeycloakAuthGuard implements CanActivate {
  constructor(private readonly verifier: KeycloakTokenVerifier) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request: RequestWithKeycloakUser = checkedRequest(this.getRequest(context), context, this);
    try {
      request.user = await this.verifier.verify(bearerToken(authorizationOf(request)));
    } catch (error) {
      if (error instanceof TokensError) announceUnauthorized(error, context);
      throw error;
    }
    return true;
  }

  /**
   * Returns the object that has the `headers` with `authorization` and gets `user`: the request of a route, or `req`,
   * `reply.request` or `request` of a GraphQL context. Override it for messages of microservices and WebSockets, and
   * for other GraphQL contexts.
   *
   * @throws {@link TokensUsageError} when the call has no request
   */
  protected getRequest(context: ExecutionContext): object {
    return requestOfCall(context, this);
  }
}

/** Reads the header from the headers of Node.js, or from those of the Fetch standard, which GraphQL servers also use. */
function authorizationOf(request: object): string[] {
  const headers = property(request, 'headers');
  const get = property(headers, 'get');
  const value: unknown =
    typeof get === 'function' ? Reflect.apply(get, headers, ['authorization']) : property(headers, 'authorization');
  return [value].flat().filter((each) => typeof each === 'string');
}

/**
 * Makes NestJS answer 401 to an error also without the filter. The error stays what it is, because filters and
 * `catch` blocks of hosts go by its class. An `UnauthorizedException` in its place would reach none of them.
 */
function announceUnauthorized(error: TokensError, context: ExecutionContext): void {
  const { status, headers } = answerToError(error);
  if (status !== 401) return;
  const properties = { status, statusCode: status, expose: false };
  for (const [name, value] of Object.entries(properties)) {
    Object.defineProperty(error, name, { value, configurable: true }); // not enumerable, so that no log repeats it
  }
  const response = findResponse(context);
  const challenge = headers['WWW-Authenticate'];
  if (response && challenge !== undefined) challengeAt401(response, challenge);
}
