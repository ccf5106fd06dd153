/** Reads the id of the authenticated user from a request; `undefined` when nobody is. */
export type UserIdResolver = (request: unknown) => string | undefined;

/** What the HTTP side needs of the options. */
export class HttpSettings {
  constructor(readonly userId: UserIdResolver) {}
}

/** The default: `request.user.sub`, where Passport and JWT guards leave the subject of the token. */
export function subjectOfUser(request: unknown): string | undefined {
  const subject = property(property(request, 'user'), 'sub');
  return typeof subject === 'string' ? subject : undefined;
}

function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}
