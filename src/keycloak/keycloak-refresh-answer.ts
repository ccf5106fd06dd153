import type { IssuedTokens } from '../identity-providers/identity-provider.js';
import { nonEmptyText, parseFields } from '../oauth-http/answer-fields.js';
import { type KeycloakAnswer, type KeycloakFailure, refusalOf } from './keycloak-failure.js';

/** The tokens that the token endpoint issued. */
export interface IssuedKeycloakTokens extends Pick<IssuedTokens, 'accessToken' | 'refreshToken'> {
  /** Seconds; absent when Keycloak did not say. */
  readonly expiresIn?: number;
}

/** The outcome of an attempt to redeem a grant. */
export type KeycloakRefreshAnswer =
  { readonly kind: 'success'; readonly tokens: IssuedKeycloakTokens } | KeycloakFailure;

/**
 * Classifies the outcome of a request to the token endpoint. Returns the tokens if they can be read. It checks nothing
 * else of the answer, because a refresh token may have been spent for them.
 *
 * @see RFC 6749 section 5
 */
export function refreshAnswerOf(answer: KeycloakAnswer | KeycloakFailure, clientId: string): KeycloakRefreshAnswer {
  if (answer.kind !== 'answered') return answer;
  const fields = answer.status < 300 ? parseFields(answer.body) : undefined;
  const accessToken = nonEmptyText(fields?.access_token);
  if (!accessToken) return refusalOf(answer, 'the token endpoint', clientId);
  const refreshToken = nonEmptyText(fields?.refresh_token);
  const expiresIn = typeof fields?.expires_in === 'number' ? fields.expires_in : undefined;
  return { kind: 'success', tokens: { accessToken, refreshToken, expiresIn } };
}
