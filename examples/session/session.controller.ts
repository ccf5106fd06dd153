import type { IncomingMessage, ServerResponse } from 'node:http';

import { Body, Controller, Delete, Get, Header, HttpCode, Post, Req, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';

import { AppConfig } from '../app.config.js';
import { CreateSessionDto } from './create-session.dto.js';
import { endingSessionCookie, sessionCookie, sessionTokenOf } from './session-cookie.js';
import { SESSION_TTL_SECONDS, SessionTokens } from './session-tokens.service.js';
import { SessionDto, SessionUserDto } from './session.dto.js';

/** Signs users in and out. */
@ApiTags('1. Session')
@Controller('session')
export class SessionController {
  constructor(
    private readonly sessionTokens: SessionTokens,
    private readonly config: AppConfig,
  ) {}

  @Post()
  @Header('Cache-Control', 'no-store')
  @ApiOperation({ summary: 'Sign in under any name. This browser gets a cookie, other clients use the session token.' })
  @ApiCreatedResponse({ type: SessionDto })
  async create(
    @Body() { userId }: CreateSessionDto,
    @Res({ passthrough: true }) response: ServerResponse,
  ): Promise<SessionDto> {
    const sessionToken = await this.sessionTokens.sign(userId);
    response.setHeader('Set-Cookie', sessionCookie(sessionToken, SESSION_TTL_SECONDS, this.config.baseUrl));
    return new SessionDto(sessionToken, SESSION_TTL_SECONDS);
  }

  @Get()
  @Header('Cache-Control', 'no-store')
  @ApiOperation({ summary: 'Who is signed in?' })
  @ApiOkResponse({ type: SessionUserDto })
  async show(@Req() request: IncomingMessage): Promise<SessionUserDto> {
    const userId = await this.sessionTokens.verify(sessionTokenOf(request) ?? '').catch(() => null);
    return new SessionUserDto(userId);
  }

  @Delete()
  @HttpCode(204)
  @ApiOperation({ summary: 'Sign this browser out.' })
  remove(@Res({ passthrough: true }) response: ServerResponse): void {
    response.setHeader('Set-Cookie', endingSessionCookie(this.config.baseUrl));
  }
}
