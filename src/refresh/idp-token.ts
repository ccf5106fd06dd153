import { SecretHolder } from '../sealing/secret-holder.js';

/**
 * A usable access token. A log entry or a serialised copy of the object does not contain the token. The token is a
 * private field, because copies of the object and serialisers that ignore `toJSON` would find a public one.
 */
export class IdpToken extends SecretHolder {
  readonly #accessToken: string;

  constructor(
    accessToken: string,
    /** Epoch seconds; 0 = does not expire. */
    readonly expiresAt: number,
    /** Token version. Pass it as `rejectedVersion` when the API of the provider refuses the token. */
    readonly version: string,
    /** The account of the user at the provider; '' is the default account. */
    readonly account = '',
  ) {
    super();
    this.#accessToken = accessToken;
  }

  /** The access token in plaintext. */
  get accessToken(): string {
    return this.#accessToken;
  }

  toJSON(): object {
    const { expiresAt, version, account } = this;
    return { accessToken: '[redacted]', expiresAt, version, ...(account && { account }) };
  }
}
