import { Injectable, Logger } from '@nestjs/common';
import { createRemoteJWKSet, customFetch, errors, type JWTPayload, jwtVerify } from 'jose';

import { KeycloakSessionExpiredError, KeycloakUnavailableError, TokensError } from '../tokens.errors.js';
import { KeycloakClient } from './keycloak-client.js';

/** Signatures by public keys only: with a shared secret among them, the public key itself could be taken for one. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];

/** Of jose, when the fault is in the keys and not in the token. */
const KEY_FAULTS: ReadonlySet<string> = new Set([
  errors.JOSEError.code,
  errors.JWKSTimeout.code,
  errors.JWKSInvalid.code,
]);

/** A token that names an unknown key has the keys fetched again, at most this often. */
const UNKNOWN_KEY_EVERY_MS = 5000;
/** Keys of this age are fetched again, beside the verification that goes by them, */
const RENEWED_AFTER_MS = 600_000;
/** and are not taken any more at this age: what they signed has expired long since, and one may have been withdrawn. */
const TRUSTED_FOR_MS = 3_600_000;

/** Verifies access tokens of the realm on this side, by the realm's public keys. */
@Injectable()
export class KeycloakTokenVerifier {
  readonly #logger = new Logger(KeycloakTokenVerifier.name);
  #keys: ReturnType<typeof createRemoteJWKSet> | undefined;
  #fetchedAt = -Infinity;
  #renewedAt = -Infinity;

  constructor(private readonly client: KeycloakClient) {}

  /**
   * The claims of an access token whose signature, issuer, audience and expiry are good. The keys are fetched when a token
   * names an unknown one, at most every 5 s, and every ten minutes in the background: while Keycloak is away, for up to an
   * hour, its tokens are verified by the keys that are known.
   *
   * @throws {@link KeycloakSessionExpiredError} when the token is not good
   * @throws {@link KeycloakUnavailableError} when the keys cannot be fetched
   * @throws {@link KeycloakMisconfiguredError} when the realm is not the one of the options
   * @see RFC 7519 section 7.2, RFC 8725 section 3.1
   */
  async verify(accessToken: string): Promise<JWTPayload> {
    const { issuer, audience } = this.client.realm;
    try {
      const { payload } = await jwtVerify(accessToken, await this.#keySet(), {
        issuer,
        audience,
        algorithms: ALGORITHMS,
        requiredClaims: ['exp', 'sub'],
      });
      // ID tokens and refresh tokens are signed by the same realm.
      if (payload.typ !== undefined && payload.typ !== 'Bearer') throw new errors.JWTInvalid('not an access token');
      return payload;
    } catch (error) {
      // What Keycloak did has an error of its own already, and a fault of the program is not Keycloak's.
      if (!(error instanceof errors.JOSEError)) throw error;
      const { code } = error;
      if (KEY_FAULTS.has(code)) {
        throw new KeycloakUnavailableError(`Keycloak's public keys cannot be fetched (${code}). Try again shortly.`);
      }
      throw new KeycloakSessionExpiredError(`The bearer token is not good (${code}). Log in again.`);
    }
  }

  async #keySet(): Promise<ReturnType<typeof createRemoteJWKSet>> {
    const { jwks_uri: uri } = await this.client.metadata();
    this.#keys ??= createRemoteJWKSet(new URL(uri), {
      timeoutDuration: this.client.realm.timeoutMs,
      cooldownDuration: UNKNOWN_KEY_EVERY_MS,
      cacheMaxAge: Infinity, // renewed below
      [customFetch]: async (url: string) => {
        const { status, body } = await this.client.getPublic(new URL(url));
        if (status === 200) this.#fetchedAt = performance.now();
        return new Response(status === 200 ? body : null, { status });
      },
    });
    const keys = this.#keys;
    const age = performance.now() - this.#fetchedAt;
    if (!keys.jwks() || age < RENEWED_AFTER_MS) return keys;
    if (age > TRUSTED_FOR_MS) {
      await keys.reload();
    } else if (performance.now() - this.#renewedAt > UNKNOWN_KEY_EVERY_MS) {
      this.#renewedAt = performance.now();
      void keys.reload().catch((error: unknown) => {
        if (error instanceof TokensError || error instanceof errors.JOSEError) return; // the known keys are good enough
        this.#logger.error(`The public keys of the realm are not renewed: ${String(error)}`);
      });
    }
    return keys;
  }
}
