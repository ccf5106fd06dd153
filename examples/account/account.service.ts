import { BadGatewayException, Injectable } from '@nestjs/common';
import { type IdpToken, TokenManager } from 'nestjs-idp-tokens';

import { DemoIdpClient, type UserInfo } from '../demo-idp/demo-idp.client.js';
import { AccountDto, EmailDto } from './account.dto.js';

/** Asks the identity provider about the connected accounts. */
@Injectable()
export class AccountService {
  constructor(
    private readonly idp: DemoIdpClient,
    private readonly tokenManager: TokenManager,
  ) {}

  /**
   * Returns the connected account of a user.
   *
   * @throws {@link ReauthenticationRequiredError} when the provider accepts no token any more
   */
  async getAccount(userId: string, token: IdpToken): Promise<AccountDto> {
    const { userInfo, accepted } = await this.#getUserInfo(userId, token);
    return new AccountDto(userId, userInfo.sub, accepted);
  }

  /**
   * Returns the email address of the connected account. The token needs the scope `email`.
   *
   * @throws {@link ReauthenticationRequiredError} when the provider accepts no token any more
   */
  async getEmail(userId: string, token: IdpToken): Promise<EmailDto> {
    const { email } = (await this.#getUserInfo(userId, token)).userInfo;
    if (email === undefined) throw new BadGatewayException('The identity provider knows no email address.');
    return new EmailDto(email);
  }

  /**
   * If the provider refuses a token before its expiry, the token was revoked there. So the service asks once more with
   * the next token. There is no next token if the whole grant was revoked.
   */
  async #getUserInfo(userId: string, token: IdpToken): Promise<{ userInfo: UserInfo; accepted: IdpToken }> {
    const userInfo = await this.idp.findUserInfo(token.accessToken);
    if (userInfo) return { userInfo, accepted: token };
    const { account, version } = token;
    const accepted = await this.tokenManager.getIdpToken(userId, 'demo', { account, rejectedVersion: version });
    const second = await this.idp.findUserInfo(accepted.accessToken);
    if (second) return { userInfo: second, accepted };
    throw new BadGatewayException('The identity provider refuses the tokens that it issues.');
  }
}
