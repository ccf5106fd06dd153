import { createParamDecorator, type ExecutionContext, UnauthorizedException } from '@nestjs/common';

import type { RequestWithUser } from './session.guard.js';

/** Gives the id of the signed-in user to a parameter of a handler. The handler needs `SessionGuard`. */
export const UserId = createParamDecorator((_: unknown, context: ExecutionContext): string => {
  const { user } = context.switchToHttp().getRequest<RequestWithUser>();
  if (!user) throw new UnauthorizedException();
  return user.sub;
});
