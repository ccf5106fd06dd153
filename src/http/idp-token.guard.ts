import {
  type CanActivate,
  type ExecutionContext,
  Injectable,
  Logger,
  Optional,
  UnauthorizedException,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';

import { TokenManager } from '../token-manager/token-manager.js';
import { HttpSettings, subjectOfUser } from './http.options.js';
import { putIdpTokens, type RequestWithIdpTokens } from './request-with-idp-tokens.js';
import { REQUIRED_IDPS } from './require-idp-token.decorator.js';

/**
 * Puts fresh tokens of the authenticated user on the request as `request.idpTokens`, one for each provider that {@link
 * RequireIdpToken} names. Use it after the guard that authenticates the user. It works on Express and on Fastify. A
 * singleton.
 *
 * @throws UnauthorizedException when the request has no user
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
    const idps = this.reflector.getAllAndOverride<string[] | undefined>(REQUIRED_IDPS, [
      context.getHandler(),
      context.getClass(),
    ]);
    if (!idps) return true;
    const request = context.switchToHttp().getRequest<RequestWithIdpTokens>();
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
      putIdpTokens(request, { [only]: await this.tokenManager.getIdpToken(userId, only) });
      return true;
    }
    const tokens = idps.map(async (idp) => [idp, await this.tokenManager.getIdpToken(userId, idp)] as const);
    // Waits for all of them first, so that no statement outlives the answer, and the answer does not depend on which
    // one fails first.
    await Promise.allSettled(tokens);
    putIdpTokens(request, Object.fromEntries(await Promise.all(tokens)));
    return true;
  }
}
