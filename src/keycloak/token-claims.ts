import { decodeJwt } from 'jose';

import type { Fields } from '../oauth-http/answer-fields.js';
import { KeycloakSessionExpiredError } from '../tokens.errors.js';

/** The claims of an access token, whose names Keycloak and its mappers choose. @see RFC 7519 section 4.1 */
export interface AccessTokenClaims {
  /** The Keycloak user. */
  sub?: string;
  iss?: string;
  aud?: string | string[];
  /** Epoch seconds. */
  exp?: number;
  /** Epoch seconds. */
  iat?: number;
  [claim: string]: unknown;
}

/** Returns the claims of a JWT without verifying it. Every other token has none. */
export function claimsOf(token: string): AccessTokenClaims {
  try {
    return decodeJwt(token);
  } catch {
    return {};
  }
}

/**
 * Returns the user to whom a token belongs.
 *
 * @throws {@link KeycloakSessionExpiredError} when the claims name none
 */
export function subjectIn({ sub }: Fields): string {
  if (typeof sub === 'string' && sub !== '') return sub;
  throw new KeycloakSessionExpiredError(
    'Keycloak names no subject for this token. Give the client the scope "basic", and let the user log in again.',
  );
}

/**
 * Returns the client to which Keycloak issued a token that it calls active; undefined if nothing names one. The answer
 * of the introspection has it as `client_id` and as `azp`. The token itself has it as `azp`, and Keycloak has verified
 * the token. If two of them differ, the function returns the one that is not `clientId`.
 *
 * @see RFC 7662 section 2.2
 */
export function clientOf(token: string, introspected: Fields, clientId: string): string | undefined {
  const named = [introspected.client_id, introspected.azp, claimsOf(token).azp].filter(
    (each): each is string => typeof each === 'string',
  );
  return named.find((each) => each !== clientId) ?? named[0];
}

/** Returns whether only the holder of a key may use a token. @see RFC 7800 section 3.1 */
export function isBound({ cnf }: Fields): boolean {
  return cnf !== undefined && cnf !== null;
}

/**
 * Refuses a token that only the holder of a key may use. A bearer token that was stolen from its holder looks the same,
 * because the module does not see the proof.
 *
 * @param what the token, as the message names it
 * @throws {@link KeycloakSessionExpiredError} when the claims have `cnf`
 * @see RFC 7800 section 3.1, RFC 8705 section 3, RFC 9449 section 6
 */
export function assertUnbound(claims: Fields, what: string): void {
  if (!isBound(claims)) return;
  throw new KeycloakSessionExpiredError(
    `${what} is bound to a key of its holder (claim "cnf"), but the module gets no proof of this key. Let the user log ` +
      'in with a client that issues bearer tokens, without DPoP and without certificate-bound access tokens.',
  );
}
