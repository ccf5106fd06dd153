import { Body, Controller, Get, Put, Req, UseFilters, UseGuards } from '@nestjs/common';
import { TokensExceptionFilter } from 'nestjs-idp-tokens';

import { AccountsService } from './accounts.service.js';
import { UserGuard, type RequestWithUser } from './user.guard.js';

@Controller('accounts')
@UseGuards(UserGuard)
@UseFilters(TokensExceptionFilter)
export class AccountsController {
  constructor(private readonly accounts: AccountsService) {}

  @Put()
  async connect(@Req() { user }: RequestWithUser, @Body() { accessToken }: { accessToken: string }) {
    await this.accounts.connect(user.sub, accessToken);
  }

  @Get()
  async token(@Req() { user }: RequestWithUser) {
    const { accessToken } = await this.accounts.token(user.sub);
    return { accessToken };
  }
}
