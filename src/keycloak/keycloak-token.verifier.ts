import { Injectable } from '@nestjs/common';
import { createRemoteJWKSet, customFetch, errors, type JWTPayload, jwtVerify } from 'jose';

import { KeycloakSessionExpiredError, KeycloakUnavailableError } from '../tokens.errors.js';
import { KeycloakClient } from './keycloak.client.js';

/** Signatures by public keys only: with a shared secret among them, the public key itself could be taken for one. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];

const NEW_KEYS_EVERY_MS = 5000;

/** Verifies access tokens of the realm on this side, by the realm's public keys. */
@Injectable()
export class KeycloakTokenVerifier {
  #keys: ReturnType<typeof createRemoteJWKSet> | undefined;

  constructor(private readonly client: KeycloakClient) {}

  /**
   * The claims of an access token whose signature, issuer, audience and expiry are good. The keys are fetched once and
   * again when a token names another one, at most every 5 s.
   *
   * @throws {@link KeycloakSessionExpiredError} when the token is not good
   * @throws {@link KeycloakUnavailableError} when the keys cannot be fetched
   * @see RFC 7519 section 7.2, RFC 8725 section 3.1
   */
  async verify(accessToken: string): Promise<JWTPayload> {
    const { issuer, audience } = this.client.realm;
    const keys = await this.#keySet();
    try {
      const { payload } = await jwtVerify(accessToken, keys, {
        issuer,
        audience,
        algorithms: ALGORITHMS,
        requiredClaims: ['exp', 'sub'],
      });
      // ID tokens and refresh tokens are signed by the same realm.
      if (payload.typ !== undefined && payload.typ !== 'Bearer') throw new errors.JWTInvalid('not an access token');
      return payload;
    } catch (error) {
      if (error instanceof KeycloakUnavailableError) throw error;
      const code = error instanceof errors.JOSEError ? error.code : 'ERR_JOSE_GENERIC';
      if (code === errors.JWKSTimeout.code || code === errors.JWKSInvalid.code || code === 'ERR_JOSE_GENERIC') {
        throw new KeycloakUnavailableError(`Keycloak's public keys cannot be fetched (${code}). Try again shortly.`);
      }
      throw new KeycloakSessionExpiredError(`The bearer token is not good (${code}). Log in again.`);
    }
  }

  async #keySet(): Promise<ReturnType<typeof createRemoteJWKSet>> {
    const { jwks_uri: uri } = await this.client.metadata();
    if (!uri) throw new KeycloakUnavailableError("Keycloak's metadata name no jwks_uri.");
    this.#keys ??= createRemoteJWKSet(new URL(uri), {
      timeoutDuration: this.client.realm.timeoutMs,
      cooldownDuration: NEW_KEYS_EVERY_MS,
      [customFetch]: async (url: string) => {
        const { status, body } = await this.client.getPublic(new URL(url));
        return new Response(body, { status });
      },
    });
    return this.#keys;
  }
}
