import { AuthenticationRequiredError, KeycloakSessionExpiredError } from '../tokens.errors.js';

/**
 * The token of an `Authorization` header with the scheme Bearer, in whatever case. Express and Fastify hand over the
 * first of several such headers. Joined ones, as of `joinDuplicateHeaders`, and a list of several hold no one token.
 *
 * @throws {@link AuthenticationRequiredError} without a header, and for every other scheme
 * @throws {@link KeycloakSessionExpiredError} when what follows the scheme cannot be one token
 * @see RFC 6750 section 2.1, RFC 9110 section 11.1
 */
export function bearerToken(authorization: string | string[] | undefined): string {
  const values = [authorization ?? []].flat().map((value) => value.trim());
  if (!values.some((value) => /^bearer(?!\S)/i.test(value))) throw new AuthenticationRequiredError();
  const [value = ''] = values.length === 1 ? values : [];
  const token = /^bearer +([\w~+/.-]+=*)$/i.exec(value)?.[1];
  if (token) return token;
  throw new KeycloakSessionExpiredError('The bearer token is not good (malformed). Log in again.');
}
