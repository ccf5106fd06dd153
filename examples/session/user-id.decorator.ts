import { createParamDecorator, type ExecutionContext, UnauthorizedException } from '@nestjs/common';

import type { RequestWithUser } from './session.guard.js';

/** Hands the id of the signed-in user to a handler's parameter; the handler stands behind `SessionGuard`. */
export const UserId = createParamDecorator((_: unknown, context: ExecutionContext): string => {
  const { user } = context.switchToHttp().getRequest<RequestWithUser>();
  if (!user) throw new UnauthorizedException();
  return user.sub;
});
