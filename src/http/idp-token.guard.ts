import { type CanActivate, type ExecutionContext, Injectable, Logger, UnauthorizedException } from '@nestjs/common';
import { Reflector } from '@nestjs/core';

import { TokenManager } from '../token-manager/token-manager.js';
import { HttpSettings } from './http.options.js';
import { putIdpTokens, type RequestWithIdpTokens } from './request-with-idp-tokens.js';
import { REQUIRED_IDPS } from './require-idp-token.decorator.js';

/**
 * Puts fresh tokens of the authenticated user on the request as `request.idpTokens`, one for each provider named by
 * {@link RequireIdpToken}. Stands behind the guard that authenticates the user. Works on Express and on Fastify; a
 * singleton.
 *
 * @throws UnauthorizedException when the request has no user
 * @throws every error of {@link TokenManager.getIdpToken}, of several that of the provider that is named first;
 * {@link TokensExceptionFilter} answers them
 */
@Injectable()
export class IdpTokenGuard implements CanActivate {
  readonly #logger = new Logger(IdpTokenGuard.name);

  /** @internal */
  constructor(
    private readonly reflector: Reflector,
    private readonly tokenManager: TokenManager,
    private readonly settings: HttpSettings,
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
      // For the developer: the client is not told how the server is put together.
      this.#logger.debug(
        'The request has no authenticated user. Put the guard that authenticates before IdpTokenGuard, ' +
          'or set userId in the options of TokensModule.',
      );
      throw new UnauthorizedException();
    }
    const tokens = idps.map(async (idp) => [idp, await this.tokenManager.getIdpToken(userId, idp)] as const);
    // First all of them, so that no statement outlives the answer, and the answer does not depend on which fails first.
    await Promise.allSettled(tokens);
    putIdpTokens(request, Object.fromEntries(await Promise.all(tokens)));
    return true;
  }
}
