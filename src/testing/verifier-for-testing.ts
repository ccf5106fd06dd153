import type { KeycloakTokenVerifier } from '../keycloak/keycloak-token-verifier.js';
import type { AccessTokenClaims } from '../keycloak/token-claims.js';
import { KeycloakSessionExpiredError } from '../tokens.errors.js';

/** Returns a verifier that knows the claims of some bearer tokens, and refuses every other one. */
export function verifierForTesting(
  claims: Readonly<Record<string, AccessTokenClaims>>,
): Pick<KeycloakTokenVerifier, 'verify'> {
  const known = new Map(Object.entries(claims));
  return {
    verify(accessToken) {
      const payload = known.get(accessToken);
      if (payload) return Promise.resolve({ ...payload });
      const cause = 'it is not in bearerTokens of TokensTestingModule';
      return Promise.reject(new KeycloakSessionExpiredError(`The bearer token is not good (${cause}). Log in again.`));
    },
  };
}
