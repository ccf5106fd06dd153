import { property } from './request-of-call.js';

/** Reads the id of the authenticated user from a request; `undefined` if there is none. */
export type UserIdResolver = (request: unknown) => string | undefined;

/** The options that the HTTP classes need. */
export class HttpSettings {
  constructor(readonly userId: UserIdResolver) {}
}

/** Reads `request.user.sub`, in which Passport and JWT guards put the subject of the token. It is the default. */
export function subjectOfUser(request: unknown): string | undefined {
  const subject = property(property(request, 'user'), 'sub');
  return typeof subject === 'string' ? subject : undefined;
}
