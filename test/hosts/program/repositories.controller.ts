import { Controller, Get, UseFilters, UseGuards } from '@nestjs/common';
import { IdpToken, IdpTokenGuard, RequireIdpToken, TokensExceptionFilter } from 'nestjs-idp-tokens';

import { UserGuard } from './user.guard.js';

@Controller('repositories')
@UseGuards(UserGuard, IdpTokenGuard)
@UseFilters(TokensExceptionFilter)
export class RepositoriesController {
  @Get()
  @RequireIdpToken('github')
  list(@IdpToken('github') token: IdpToken) {
    return { accessToken: token.accessToken };
  }
}
