import type { KeycloakTokenVerifier } from '../keycloak/keycloak-token-verifier.js';
import { type AccessTokenClaims, assertUnbound } from '../keycloak/token-claims.js';
import { KeycloakSessionExpiredError } from '../tokens.errors.js';

/**
 * Returns a verifier that knows the claims of some bearer tokens, and refuses every other one. It checks the claims as
 * the real one does, but a token needs no `exp`.
 */
export function verifierForTesting(
  claims: Readonly<Record<string, AccessTokenClaims>>,
): Pick<KeycloakTokenVerifier, 'verify'> {
  const known = new Map(Object.entries(claims));
  return {
    async verify(accessToken) {
      const payload = known.get(accessToken);
      const fault = payload ? faultOf(payload) : 'it is not in bearerTokens of TokensTestingModule';
      if (!payload || fault) {
        throw new KeycloakSessionExpiredError(`The bearer token is not good (${fault}). Log in again.`);
      }
      assertUnbound(payload, 'The access token');
      return Promise.resolve({ ...payload });
    },
  };
}

/** Returns why the real verifier refuses the claims; undefined if it accepts them. @see RFC 7519 section 4.1 */
function faultOf({ sub, exp, nbf, typ }: AccessTokenClaims): string | undefined {
  const now = Math.floor(Date.now() / 1000);
  if (sub === undefined) return 'it has no claim "sub"';
  if (exp !== undefined && !(typeof exp === 'number' && exp > now)) return 'its claim "exp" is over or is no number';
  if (nbf !== undefined && !(typeof nbf === 'number' && nbf <= now)) return 'its claim "nbf" is not yet over';
  if (typ !== undefined && typ !== 'Bearer') return 'it is no access token';
  return undefined;
}
