import { randomBytes } from 'node:crypto';

import { Injectable } from '@nestjs/common';
import { EncryptJWT, jwtDecrypt } from 'jose';

/** What must be known when the provider sends the browser back. */
export interface LinkAttempt {
  readonly userId: string;
  /** @see RFC 6749 section 10.12 */
  readonly state: string;
  /** @see RFC 7636 */
  readonly codeVerifier: string;
}

const NAME = 'link-attempt';
const ATTRIBUTES = 'Path=/link; HttpOnly; SameSite=Lax';
const TTL_SECONDS = 600;

/**
 * Keeps an attempt to link an account in an encrypted cookie. The state is thereby bound to the user and to the
 * browser that started: nobody can talk somebody else's browser into finishing it. Nothing is kept in the process.
 */
@Injectable()
export class LinkAttempts {
  readonly #key = randomBytes(32);

  /** Value of a `Set-Cookie` header. Over https, add `Secure`. */
  async toCookie(attempt: LinkAttempt): Promise<string> {
    const text = await new EncryptJWT({ ...attempt })
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
      .setExpirationTime(`${TTL_SECONDS}s`)
      .encrypt(this.#key);
    return `${NAME}=${text}; ${ATTRIBUTES}; Max-Age=${TTL_SECONDS}`;
  }

  /** The attempt in the `Cookie` header of a request; `null` when there is none, or none that still counts. */
  async findIn(cookies: string | undefined): Promise<LinkAttempt | null> {
    const text = new RegExp(`(?:^|;\\s*)${NAME}=([^;]+)`).exec(cookies ?? '')?.[1];
    if (!text) return null;
    try {
      const { payload } = await jwtDecrypt<LinkAttempt>(text, this.#key, { requiredClaims: ['exp'] });
      return payload;
    } catch {
      return null;
    }
  }

  /** Value of a `Set-Cookie` header that ends the attempt. */
  endingCookie(): string {
    return `${NAME}=; ${ATTRIBUTES}; Max-Age=0`;
  }
}
