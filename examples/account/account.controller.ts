import { Controller, Get, UseGuards } from '@nestjs/common';
import { ApiBearerAuth, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { IdpToken, IdpTokenGuard, RequireIdpToken } from 'nestjs-idp-tokens';

import { SessionGuard } from '../session/session.guard.js';
import { UserId } from '../session/user-id.decorator.js';
import { AccountDto } from './account.dto.js';
import { AccountService } from './account.service.js';

/** Calls the identity provider for the user. The token is fresh, however long ago the account was linked. */
@ApiTags('3. Account')
@ApiBearerAuth()
@Controller('me')
@UseGuards(SessionGuard, IdpTokenGuard)
export class AccountController {
  constructor(private readonly accounts: AccountService) {}

  @Get()
  @RequireIdpToken('demo')
  @ApiOperation({
    summary: 'Ask the provider who the linked account is. Its token is refreshed first when it is stale.',
  })
  @ApiOkResponse({ type: AccountDto })
  show(@UserId() userId: string, @IdpToken('demo') token: IdpToken): Promise<AccountDto> {
    return this.accounts.getAccount(userId, token);
  }
}
