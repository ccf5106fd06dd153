import {
  type CanActivate,
  type ExecutionContext,
  Injectable,
  Logger,
  Optional,
  UnauthorizedException,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';

import type { IdpToken } from '../refresh/idp-token.js';
import { TokenManager } from '../token-manager/token-manager.js';
import { HttpSettings, subjectOfUser } from './http.options.js';
import { checkedRequest, requestOfCall } from './request-of-call.js';
import { putIdpTokens } from './request-with-idp-tokens.js';
import { type IdpTokenRequirement, nameOf, REQUIRED_IDPS } from './require-idp-token.decorator.js';

/**
 * Puts fresh tokens of the authenticated user on the request as `request.idpTokens`, one for each requirement of {@link
 * RequireIdpToken}. Use it after the guard that authenticates the user. It works on Express and on Fastify, for
 * routes and for GraphQL resolvers. It refuses all other calls, because their arguments are what the caller wrote. For
 * those, a subclass overrides {@link getRequest}. A singleton.
 *
 * @throws UnauthorizedException when the request has no user
 * @throws {@link TokensUsageError} when the call has no request
 * @throws every error of {@link TokenManager.getIdpToken}; of several errors the one of the provider that is named
 * first. {@link TokensExceptionFilter} answers them
 */
@Injectable()
export class IdpTokenGuard implements CanActivate {
  readonly #logger = new Logger(IdpTokenGuard.name);

  constructor(
    private readonly reflector: Reflector,
    private readonly tokenManager: TokenManager,
    // Optional, because a unit test of the host may provide a TokenManager of its own and no TokensModule.
    @Optional() private readonly settings: HttpSettings = new HttpSettings(subjectOfUser),
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const idps = this.reflector.getAllAndOverride<(string | IdpTokenRequirement)[] | undefined>(REQUIRED_IDPS, [
      context.getHandler(),
      context.getClass(),
    ]);
    if (!idps) return true;
    const request = checkedRequest(this.getRequest(context), context, this);
    const userId = this.settings.userId(request);
    if (!userId) {
      // Only the log says this, because the client must not learn how the server is built.
      this.#logger.debug(
        'The request has no authenticated user. Put the guard that authenticates before IdpTokenGuard, ' +
          'or set userId in the options of TokensModule.',
      );
      throw new UnauthorizedException();
    }
    const [only] = idps; // the usual case needs no list of promises
    if (only !== undefined && idps.length === 1) {
      putIdpTokens(context, request, { [nameOf(only)]: await this.#tokenOf(userId, only, request) });
      return true;
    }
    const tokens = idps.map(async (each) => [nameOf(each), await this.#tokenOf(userId, each, request)] as const);
    // Waits for all of them first, so that no statement outlives the answer, and the answer does not depend on which
    // one fails first.
    await Promise.allSettled(tokens);
    putIdpTokens(context, request, Object.fromEntries(await Promise.all(tokens)));
    return true;
  }

  async #tokenOf(userId: string, required: string | IdpTokenRequirement, request: object): Promise<IdpToken> {
    if (typeof required === 'string') return this.tokenManager.getIdpToken(userId, required);
    const { idp, account, scopes, requireKnownScopes } = required;
    return this.tokenManager.getIdpToken(userId, idp, {
      account: typeof account === 'function' ? account(request) : account,
      scopes,
      requireKnownScopes,
    });
  }

  /**
   * Returns the object that has the authenticated user and gets `idpTokens`: the request of a route, or `req`,
   * `reply.request` or `request` of a GraphQL context. Override it for messages of microservices and WebSockets, and
   * for other GraphQL contexts. Return only what the application itself has made or authenticated. Never return the
   * payload of a message, because its sender could name any user.
   *
   * @throws {@link TokensUsageError} when the call has no request
   */
  protected getRequest(context: ExecutionContext): object {
    return requestOfCall(context, this);
  }
}
