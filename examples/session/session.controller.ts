import { Body, Controller, Post } from '@nestjs/common';
import { ApiCreatedResponse, ApiOperation, ApiTags } from '@nestjs/swagger';

import { CreateSessionDto } from './create-session.dto.js';
import { SESSION_TTL_SECONDS, SessionTokens } from './session-tokens.service.js';
import { SessionDto } from './session.dto.js';

/** Signs users in. */
@ApiTags('1. Session')
@Controller('session')
export class SessionController {
  constructor(private readonly sessionTokens: SessionTokens) {}

  @Post()
  @ApiOperation({ summary: 'Sign in under any name. Put the session token into "Authorize".' })
  @ApiCreatedResponse({ type: SessionDto })
  async create(@Body() { userId }: CreateSessionDto): Promise<SessionDto> {
    return new SessionDto(await this.sessionTokens.sign(userId), SESSION_TTL_SECONDS);
  }
}
