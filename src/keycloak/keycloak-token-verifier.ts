import { Injectable, Logger } from '@nestjs/common';
import { createRemoteJWKSet, customFetch, errors, jwtVerify } from 'jose';

import { TokensError } from '../tokens-error.js';
import { KeycloakSessionExpiredError, KeycloakUnavailableError } from '../tokens.errors.js';
import { KeycloakClient } from './keycloak-client.js';
import { type AccessTokenClaims, assertUnbound } from './token-claims.js';
import { ALGORITHMS, verifyingKeysIn } from './verifying-keys.js';

/** Errors of jose for a fault of the keys, not of the token. */
const KEY_FAULTS: ReadonlySet<string> = new Set([
  errors.JOSEError.code,
  errors.JWKSTimeout.code,
  errors.JWKSInvalid.code,
]);

/**
 * The shortest time, in milliseconds, between two fetches because of an unknown key, and between two fetches of which
 * the first one failed.
 */
const UNKNOWN_KEY_EVERY_MS = 5000;
/**
 * The age at which the verifier fetches the keys again, in milliseconds. Meanwhile it verifies tokens by the keys that
 * it has.
 */
const RENEWED_AFTER_MS = 600_000;
/**
 * The age from which the verifier does not use the keys any more, in milliseconds. The tokens that these keys signed
 * have expired long ago, and Keycloak may have withdrawn one of the keys.
 */
const TRUSTED_FOR_MS = 3_600_000;

/** Verifies access tokens of the realm in this process, by the public keys of the realm. */
@Injectable()
export class KeycloakTokenVerifier {
  readonly #logger = new Logger(KeycloakTokenVerifier.name);
  #keys: ReturnType<typeof createRemoteJWKSet> | undefined;
  #fetchedAt = -Infinity;
  #failedAt = -Infinity;

  constructor(private readonly client: KeycloakClient) {}

  /**
   * Returns the claims of an access token with a good signature, issuer, audience and expiry. The verifier fetches the
   * keys when a token names an unknown key, every 5 s at most, and every ten minutes in the background. While Keycloak
   * is away, it uses the known keys for up to an hour, and asks for new ones every 5 s at most.
   *
   * @throws {@link KeycloakSessionExpiredError} when the token is not good, or is bound to a key of its holder
   * @throws {@link KeycloakUnavailableError} when the keys cannot be fetched
   * @throws {@link KeycloakMisconfiguredError} when the realm is not the one of the options
   * @see RFC 7519 section 7.2, RFC 8725 section 3.1
   */
  async verify(accessToken: string): Promise<AccessTokenClaims> {
    try {
      // The spelling of the metadata counts, because the tokens have it. The options may have another one.
      const { issuer } = await this.client.metadata();
      const { audience } = this.client.realm;
      const { payload } = await jwtVerify(accessToken, await this.#keySet(), {
        issuer,
        audience,
        algorithms: ALGORITHMS,
        requiredClaims: ['exp', 'sub'],
      });
      // The same realm also signs ID tokens and refresh tokens.
      if (payload.typ !== undefined && payload.typ !== 'Bearer') throw new errors.JWTInvalid('not an access token');
      assertUnbound(payload, 'The access token');
      return payload;
    } catch (error) {
      // A failure of Keycloak is a TokensError already, and a fault of the program must not look like a bad token.
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
      cacheMaxAge: Infinity, // the code below renews the keys
      [customFetch]: (url: string) => this.#fetch(new URL(url)),
    });
    const keys = this.#keys;
    const age = performance.now() - this.#fetchedAt;
    if (!keys.jwks() || age < RENEWED_AFTER_MS) return keys;
    if (age > TRUSTED_FOR_MS) {
      await keys.reload();
    } else if (!this.#hasJustFailed()) {
      void keys.reload().catch((error: unknown) => {
        if (error instanceof TokensError || error instanceof errors.JOSEError) return; // the verifier uses the known keys
        this.#logger.error(`The public keys of the realm are not renewed: ${String(error)}`);
      });
    }
    return keys;
  }

  /** Fetches the keys. Only a set with a key that can verify a token renews the trust in the keys. */
  async #fetch(url: URL): Promise<Response> {
    // The first fetch has no pause, because without keys the verifier can verify no token.
    if (this.#keys?.jwks() && this.#hasJustFailed()) {
      throw new KeycloakUnavailableError(
        `Keycloak's public keys could not be fetched a moment ago. Try again shortly.`,
        UNKNOWN_KEY_EVERY_MS,
      );
    }
    const startedAt = performance.now();
    this.#failedAt = startedAt;
    const { status, body } = await this.client.getPublic(url);
    // Only keys that can be imported, because jose throws other errors than its own for broken keys.
    const keys = status === 200 ? await verifyingKeysIn(body) : [];
    if (keys.length === 0) return new Response(null, { status: 502 });
    this.#fetchedAt = startedAt;
    this.#failedAt = -Infinity;
    return new Response(JSON.stringify({ keys }));
  }

  #hasJustFailed(): boolean {
    return performance.now() - this.#failedAt < UNKNOWN_KEY_EVERY_MS;
  }
}
