import type { HttpRequest } from './http-exchange.js';

/** Returns the value of an `Authorization` header. @see RFC 7617 */
export function basicAuthorization(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

/**
 * Returns a request with an access token, for an endpoint that accepts every token that works. @see RFC 6750 section
 * 2.1
 */
export function bearerRequest(url: string, accessToken: string): HttpRequest {
  return {
    method: 'GET',
    url,
    headers: {
      accept: 'application/json',
      authorization: `Bearer ${accessToken}`,
      'user-agent': 'nestjs-idp-tokens',
    },
  };
}
