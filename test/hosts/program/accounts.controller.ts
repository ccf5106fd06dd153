import { Body, Controller, Get, Put, Req, UseFilters, UseGuards } from '@nestjs/common';
import { IdpToken, IdpTokenGuard, RequireIdpToken, TokensExceptionFilter } from 'nestjs-idp-tokens';

import { AccountsService } from './accounts.service.js';
import { UserGuard, type RequestWithUser } from './user.guard.js';

@Controller('accounts')
@UseFilters(TokensExceptionFilter)
@UseGuards(UserGuard)
export class AccountsController {
  constructor(private readonly accounts: AccountsService) {}

  @Put()
  async connect(@Req() { user }: RequestWithUser, @Body() { accessToken }: { accessToken: string }) {
    await this.accounts.connect(user.sub, accessToken);
  }

  @Get('guarded')
  @UseGuards(IdpTokenGuard)
  @RequireIdpToken('github')
  guarded(@IdpToken('github') token: IdpToken) {
    return { accessToken: token.accessToken };
  }

  @Get('asked')
  async asked(@Req() { user }: RequestWithUser) {
    const { accessToken } = await this.accounts.token(user.sub);
    return { accessToken };
  }
}
