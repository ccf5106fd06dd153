import { AuthenticationRequiredError, KeycloakSessionExpiredError } from '../tokens.errors.js';

/**
 * Returns the token of an `Authorization` header with the scheme Bearer, in upper or lower case. If a request has
 * several such headers, Express and Fastify pass on the first one. A joined value, as of `joinDuplicateHeaders`, and a
 * list of several values have no single token.
 *
 * @throws {@link AuthenticationRequiredError} without a header, and for every other scheme
 * @throws {@link KeycloakSessionExpiredError} when the text after the scheme cannot be one token
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
