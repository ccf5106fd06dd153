import { randomBytes } from 'node:crypto';

import { Injectable } from '@nestjs/common';
import { EncryptJWT, jwtDecrypt } from 'jose';

/** The data that the application needs when the provider sends the browser back. */
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
 * Keeps an attempt to link an account in an encrypted cookie. The cookie binds the state to the user and to the browser
 * that started. So an attacker cannot make the browser of another user finish the attempt. The process keeps no
 * attempt.
 */
@Injectable()
export class LinkAttempts {
  readonly #key = randomBytes(32);

  /** Returns the value of a `Set-Cookie` header. Add `Secure` if the application uses https. */
  async toCookie(attempt: LinkAttempt): Promise<string> {
    const text = await new EncryptJWT({ ...attempt })
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
      .setExpirationTime(`${TTL_SECONDS}s`)
      .encrypt(this.#key);
    return `${NAME}=${text}; ${ATTRIBUTES}; Max-Age=${TTL_SECONDS}`;
  }

  /**
   * Returns the attempt in the `Cookie` header of a request; `null` if there is none, or if it is not valid any more.
   */
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

  /** Returns the value of a `Set-Cookie` header that ends the attempt. */
  endingCookie(): string {
    return `${NAME}=; ${ATTRIBUTES}; Max-Age=0`;
  }
}
