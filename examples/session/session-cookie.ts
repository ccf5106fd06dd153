import type { IncomingMessage } from 'node:http';

const NAME = 'session';

/**
 * No script reads the cookie (`HttpOnly`). `SameSite=Lax` keeps it out of the requests that pages of other sites make,
 * except when such a page leads the browser here by a GET. The provider does that at the end of a link, so `Strict`
 * would lose the session there. `None` would let every site act as the user.
 *
 * Another port of the same host is the same site, so `SameSite` does not stop it. SameOriginGuard does.
 */
const ATTRIBUTES = 'Path=/; HttpOnly; SameSite=Lax';

/**
 * Returns the value of a `Set-Cookie` header. The cookie is `Secure` if browsers reach the application by https, so that
 * they never send it unencrypted.
 *
 * @param baseUrl the URL by which browsers reach the application
 */
export function sessionCookie(sessionToken: string, maxAgeSeconds: number, baseUrl: string): string {
  const secure = new URL(baseUrl).protocol === 'https:' ? '; Secure' : '';
  return `${NAME}=${sessionToken}; ${ATTRIBUTES}${secure}; Max-Age=${maxAgeSeconds}`;
}

/** Returns the value of a `Set-Cookie` header that ends the session of a browser. */
export function endingSessionCookie(baseUrl: string): string {
  return sessionCookie('', 0, baseUrl);
}

/** Returns the session token of a request: the bearer token, or the one in the cookie. */
export function sessionTokenOf({ headers }: IncomingMessage): string | undefined {
  const bearer = /^Bearer (\S+)$/i.exec(headers.authorization ?? '')?.[1];
  return bearer ?? new RegExp(`(?:^|;\\s*)${NAME}=([^;]+)`).exec(headers.cookie ?? '')?.[1];
}
