import type { IncomingMessage } from 'node:http';

import { type CanActivate, type ExecutionContext, Injectable, UnauthorizedException } from '@nestjs/common';

import { sessionTokenOf } from './session-cookie.js';
import { SessionTokens } from './session-tokens.service.js';

/** A request that {@link SessionGuard} checks. The guard sets `user.sub`, which `IdpTokenGuard` reads by default. */
export interface RequestWithUser extends IncomingMessage {
  user?: { readonly sub: string };
}

/** Lets a request with a valid session through, and puts its user on the request. */
@Injectable()
export class SessionGuard implements CanActivate {
  constructor(private readonly sessionTokens: SessionTokens) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<RequestWithUser>();
    const sessionToken = sessionTokenOf(request);
    if (!sessionToken) throw new UnauthorizedException('Sign in first, by POST /session.');
    try {
      request.user = { sub: await this.sessionTokens.verify(sessionToken) };
    } catch (error) {
      throw new UnauthorizedException('The session is over. Sign in again, by POST /session.', { cause: error });
    }
    return true;
  }
}
