import { IdpToken } from '../refresh/idp-token.js';

/**
 * Returns a token as {@link TokenManager.getIdpToken} does, for a fake of the host. It prints without its text.
 *
 * @param options `expiresAt` in epoch seconds, 0 = it does not expire, which is the default; `version` is '1' by default
 */
export function idpToken(
  accessToken: string,
  {
    expiresAt = 0,
    version = '1',
  }: { readonly expiresAt?: number | undefined; readonly version?: string | undefined } = {},
): IdpToken {
  return new IdpToken(accessToken, expiresAt, version);
}
