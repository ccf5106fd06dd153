import { createHash } from 'node:crypto';

import { randomBytes } from '../random-bytes.js';

const SECRET_BYTES = 32;

/** Returns 256 random bits as base64url, for a state or a code verifier. @see RFC 6749 section 10.10, RFC 7636 section 4.1 */
export function newSecret(): string {
  return randomBytes(SECRET_BYTES).toString('base64url');
}

/** Returns the digest by which an attempt is found, so that a copy of the table finishes nothing. */
export function hashOf(state: string): string {
  return createHash('sha256').update(state).digest('base64url');
}

/** @see RFC 7636 section 4.2 */
export function codeChallengeOf(codeVerifier: string): string {
  return createHash('sha256').update(codeVerifier).digest('base64url');
}

/**
 * Returns the nonce of an attempt. It is a digest of the code verifier, so no column has to keep it. Only the process
 * that opens the code verifier can tell it.
 *
 * @see OpenID Connect Core 1.0 section 15.5.2
 */
export function nonceOf(codeVerifier: string): string {
  return createHash('sha256').update(`nonce ${codeVerifier}`).digest('base64url');
}
