import { randomBytes } from 'node:crypto';

import { Injectable } from '@nestjs/common';
import { jwtVerify, SignJWT } from 'jose';

import { AppConfig } from '../app.config.js';

/** How long a session lasts, in seconds. */
export const SESSION_TTL_SECONDS = 900;

/** Signs and verifies the tokens of this application's sessions. The secret is new at every start. */
@Injectable()
export class SessionTokens {
  readonly #secret = randomBytes(32);

  constructor(private readonly config: AppConfig) {}

  sign(userId: string): Promise<string> {
    return new SignJWT()
      .setProtectedHeader({ alg: 'HS256' })
      .setIssuer(this.config.baseUrl)
      .setAudience(this.config.baseUrl)
      .setSubject(userId)
      .setIssuedAt()
      .setExpirationTime(`${SESSION_TTL_SECONDS}s`)
      .sign(this.#secret);
  }

  /**
   * Returns the user id in a session token.
   *
   * @throws the errors of `jose` for a token that is forged, expired or meant for another audience
   */
  async verify(sessionToken: string): Promise<string> {
    const { baseUrl } = this.config;
    const { payload } = await jwtVerify<{ sub: string }>(sessionToken, this.#secret, {
      algorithms: ['HS256'],
      issuer: baseUrl,
      audience: baseUrl,
      requiredClaims: ['sub', 'exp'],
    });
    return payload.sub;
  }
}
