import { BadGatewayException, Injectable } from '@nestjs/common';

import { AppConfig } from '../app.config.js';
import { COUNTS_PATH, isRequestCounts, type RequestCounts } from '../support/request-counts.js';

/** What the identity provider says about an account. */
export interface UserInfo {
  readonly sub: string;
  /** Absent if the token does not have the scope `email`. */
  readonly email?: string;
}

/** Asks the identity provider `demo`. The links and the refreshes are the work of the module. */
@Injectable()
export class DemoIdpClient {
  constructor(private readonly config: AppConfig) {}

  /**
   * Returns the account to which the access token belongs; `null` if the provider refuses the token.
   *
   * @throws BadGatewayException when the provider does not answer, or gives an unexpected answer
   */
  async findUserInfo(accessToken: string): Promise<UserInfo | null> {
    const { status, body } = await this.#get('/me', { authorization: `Bearer ${accessToken}` });
    if (status === 401) return null;
    if (isUserInfo(body)) return body;
    throw new BadGatewayException('The identity provider did not answer as expected.');
  }

  /**
   * Returns how many answers the provider has given since its start, to all its clients.
   *
   * @throws BadGatewayException when the provider does not answer, or gives an unexpected answer
   */
  async countRequests(): Promise<RequestCounts> {
    const { body } = await this.#get(COUNTS_PATH);
    if (isRequestCounts(body)) return body;
    throw new BadGatewayException('The identity provider does not count its requests.');
  }

  async #get(path: string, headers: Record<string, string> = {}): Promise<{ status: number; body: unknown }> {
    try {
      const response = await fetch(`${this.config.idp.issuer}${path}`, { headers });
      const body: unknown = await response.json().catch(() => null);
      return { status: response.status, body };
    } catch (error) {
      throw new BadGatewayException('The identity provider cannot be reached.', { cause: error });
    }
  }
}

function isUserInfo(body: unknown): body is UserInfo {
  return typeof body === 'object' && body !== null && 'sub' in body && typeof body.sub === 'string';
}
