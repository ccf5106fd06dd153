import { Controller, Get, Header, UseGuards } from '@nestjs/common';
import { ApiBearerAuth, ApiOkResponse, ApiOperation, ApiQuery, ApiTags } from '@nestjs/swagger';
import { IdpToken, IdpTokenGuard, RequireIdpToken } from 'nestjs-idp-tokens';

import { SessionGuard } from '../session/session.guard.js';
import { UserId } from '../session/user-id.decorator.js';
import { AccountDto, EmailDto } from './account.dto.js';
import { AccountService } from './account.service.js';
import { type StoredRow, StoredRows } from './stored-rows.service.js';

/** The account that the query names. The module looks for it among the accounts of the signed-in user only. */
function accountOf(request: object): string | undefined {
  const { account } = (request as { query: { account?: unknown } }).query;
  return typeof account === 'string' ? account : undefined;
}

/** Calls the identity provider for the user. The token is fresh, however long ago the account was connected. */
@ApiTags('3. Account')
@ApiBearerAuth()
@Controller('me')
@UseGuards(SessionGuard, IdpTokenGuard)
export class AccountController {
  constructor(
    private readonly accounts: AccountService,
    private readonly rows: StoredRows,
  ) {}

  @Get()
  @Header('Cache-Control', 'no-store')
  @RequireIdpToken({ idp: 'demo', account: accountOf })
  @ApiQuery({ name: 'account', required: false })
  @ApiOperation({
    summary: 'Ask the provider who the connected account is. Its token is refreshed first when it is stale.',
  })
  @ApiOkResponse({ type: AccountDto })
  show(@UserId() userId: string, @IdpToken('demo') token: IdpToken): Promise<AccountDto> {
    return this.accounts.getAccount(userId, token);
  }

  @Get('email')
  @Header('Cache-Control', 'no-store')
  @RequireIdpToken({ idp: 'demo', account: accountOf, scopes: ['email'] })
  @ApiQuery({ name: 'account', required: false })
  @ApiOperation({ summary: 'The same with a scope that the first link does not ask for: 403 names what is missing.' })
  @ApiOkResponse({ type: EmailDto })
  email(@UserId() userId: string, @IdpToken('demo') token: IdpToken): Promise<EmailDto> {
    return this.accounts.getEmail(userId, token);
  }

  @Get('rows')
  @Header('Cache-Control', 'no-store')
  @ApiOperation({ summary: 'See the rows of your accounts as PostgreSQL has them. Only the demo has this route.' })
  @ApiOkResponse({ schema: { type: 'array', items: { type: 'object', additionalProperties: { type: 'string' } } } })
  stored(@UserId() userId: string): Promise<StoredRow[]> {
    return this.rows.find(userId);
  }
}
