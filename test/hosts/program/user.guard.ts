import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';

export interface RequestWithUser {
  headers: Record<string, string | undefined>;
  user: { sub: string };
}

/** Stands for the authentication of the host. */
@Injectable()
export class UserGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<RequestWithUser>();
    request.user = { sub: String(request.headers['x-user']) };
    return true;
  }
}
