import type { IncomingMessage } from 'node:http';

import { type CanActivate, type ExecutionContext, ForbiddenException, Injectable } from '@nestjs/common';

import { AppConfig } from '../app.config.js';

const SAFE_METHODS = ['GET', 'HEAD', 'OPTIONS'];

/**
 * Refuses requests by which a page of another origin changes something here. The browser adds the session cookie to
 * requests of other ports of this host too, because they are the same site. It names the origin of the page in every
 * request that can change something, and no page can forge that. Other clients name no origin, and have no cookie that
 * somebody else could use.
 */
@Injectable()
export class SameOriginGuard implements CanActivate {
  constructor(private readonly config: AppConfig) {}

  canActivate(context: ExecutionContext): boolean {
    const { method = '', headers } = context.switchToHttp().getRequest<IncomingMessage>();
    const { origin } = headers;
    if (SAFE_METHODS.includes(method) || origin === undefined || origin === this.config.baseUrl) return true;
    throw new ForbiddenException(`Only pages of ${this.config.baseUrl} may send this request. Open this URL.`);
  }
}
