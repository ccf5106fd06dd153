import { SecretHolder } from '../sealing/secret-holder.js';

/**
 * The tokens of a Keycloak session. The object prints and serialises without the tokens, because they are no fields of
 * it.
 */
export class KeycloakTokens extends SecretHolder {
  readonly #accessToken: string;
  readonly #refreshToken: string;

  constructor(accessToken: string, refreshToken: string) {
    super();
    this.#accessToken = accessToken;
    this.#refreshToken = refreshToken;
  }

  /** The access token in plaintext. */
  get accessToken(): string {
    return this.#accessToken;
  }

  /** The refresh token in plaintext. It is an offline token if the login asked for `offline_access`. */
  get refreshToken(): string {
    return this.#refreshToken;
  }

  toJSON(): object {
    return { accessToken: '[redacted]', refreshToken: '[redacted]' };
  }
}
