import type { IncomingMessage, ServerResponse } from 'node:http';

import {
  BadRequestException,
  Controller,
  Delete,
  Get,
  HttpCode,
  NotFoundException,
  Req,
  Res,
  UseGuards,
} from '@nestjs/common';
import { ApiBearerAuth, ApiExcludeEndpoint, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { TokenManager } from 'nestjs-idp-tokens';

import { AppConfig } from '../app.config.js';
import { DemoIdpClient } from '../demo-idp/demo-idp.client.js';
import { SessionGuard } from '../session/session.guard.js';
import { UserId } from '../session/user-id.decorator.js';
import { LinkAttempts } from './link-attempt.service.js';
import { AuthorizationDto, LinkedDto } from './link.dto.js';

/** Links accounts at the identity provider to users, and unlinks them. */
@ApiTags('2. Link')
@Controller('link')
export class LinkController {
  constructor(
    private readonly config: AppConfig,
    private readonly idp: DemoIdpClient,
    private readonly attempts: LinkAttempts,
    private readonly tokenManager: TokenManager,
  ) {}

  @Get()
  @UseGuards(SessionGuard)
  @ApiBearerAuth()
  @ApiOperation({ summary: 'Begin to link an account. Open the URL in a new tab and log in under any name.' })
  @ApiOkResponse({ type: AuthorizationDto })
  async begin(
    @UserId() userId: string,
    @Res({ passthrough: true }) response: ServerResponse,
  ): Promise<AuthorizationDto> {
    const { url, state, codeVerifier } = await this.idp.requestAuthorization();
    response.setHeader('Set-Cookie', await this.attempts.toCookie({ userId, state, codeVerifier }));
    return new AuthorizationDto(url.href);
  }

  @Get('callback')
  @ApiExcludeEndpoint()
  async finish(
    @Req() request: IncomingMessage,
    @Res({ passthrough: true }) response: ServerResponse,
  ): Promise<LinkedDto> {
    const attempt = await this.attempts.findIn(request.headers.cookie);
    if (!attempt) {
      throw new BadRequestException(
        `This browser has not begun to link an account. Begin with GET /link at ${this.config.baseUrl}/docs.`,
      );
    }
    response.setHeader('Set-Cookie', this.attempts.endingCookie());
    const tokens = await this.idp.exchangeCode(new URL(request.url ?? '', this.config.baseUrl), attempt);
    await this.tokenManager.storeIdpTokens(attempt.userId, 'demo', tokens);
    return new LinkedDto(attempt.userId);
  }

  @Delete()
  @HttpCode(204)
  @UseGuards(SessionGuard)
  @ApiBearerAuth()
  @ApiOperation({ summary: 'Unlink the account. Its tokens are deleted here and revoked at the provider.' })
  async remove(@UserId() userId: string): Promise<void> {
    const wasLinked = await this.tokenManager.revokeIdpTokens(userId, 'demo');
    if (!wasLinked) throw new NotFoundException('No account is linked.');
  }
}
