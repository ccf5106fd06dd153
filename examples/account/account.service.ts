import { BadGatewayException, Injectable } from '@nestjs/common';
import { type IdpToken, TokenManager } from 'nestjs-idp-tokens';

import { DemoIdpClient } from '../demo-idp/demo-idp.client.js';
import { AccountDto } from './account.dto.js';

/** Asks the identity provider about the linked accounts. */
@Injectable()
export class AccountService {
  constructor(
    private readonly idp: DemoIdpClient,
    private readonly tokenManager: TokenManager,
  ) {}

  /**
   * Returns the linked account of a user. If the provider refuses a token before its expiry, the token was revoked
   * there. So the service asks once more with the next token.
   *
   * @throws {@link ReauthenticationRequiredError} when there is no next token, because the whole grant was revoked
   */
  async getAccount(userId: string, token: IdpToken): Promise<AccountDto> {
    const account = await this.#findAccount(userId, token);
    if (account) return account;
    const next = await this.tokenManager.getIdpToken(userId, 'demo', { rejectedVersion: token.version });
    const second = await this.#findAccount(userId, next);
    if (second) return second;
    throw new BadGatewayException('The identity provider refuses the tokens that it issues.');
  }

  async #findAccount(userId: string, token: IdpToken): Promise<AccountDto | null> {
    const userInfo = await this.idp.findUserInfo(token.accessToken);
    return userInfo && new AccountDto(userId, userInfo.sub, token);
  }
}
