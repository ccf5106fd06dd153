import { SecretHolder } from '../sealing/secret-holder.js';

/**
 * A usable access token. Prints and serialises without the token, however it is logged or returned: the token is no
 * field of the object, so that copies and serialisers that ignore `toJSON` do not find it either.
 */
export class IdpToken extends SecretHolder {
  readonly #accessToken: string;

  constructor(
    accessToken: string,
    /** Epoch seconds; 0 = does not expire. */
    readonly expiresAt: number,
    /** Names the stored token; pass it as `rejectedVersion` when the provider's API refuses the token. */
    readonly version: string,
  ) {
    super();
    this.#accessToken = accessToken;
  }

  /** The access token in plaintext. */
  get accessToken(): string {
    return this.#accessToken;
  }

  toJSON(): object {
    return { accessToken: '[redacted]', expiresAt: this.expiresAt, version: this.version };
  }
}
