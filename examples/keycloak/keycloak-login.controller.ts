import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';

import {
  BadGatewayException,
  BadRequestException,
  Controller,
  Get,
  Inject,
  Query,
  Req,
  Res,
  UseGuards,
} from '@nestjs/common';
import { ApiBearerAuth, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import {
  IdpToken,
  IdpTokenGuard,
  KeycloakAuthGuard,
  type KeycloakModuleOptions,
  KeycloakSessions,
  RequireIdpToken,
  TokenManager,
} from 'nestjs-idp-tokens';

import { AccountDto } from '../account/account.dto.js';
import { AccountService } from '../account/account.service.js';
import { AppConfig } from '../app.config.js';
import { UserId } from '../session/user-id.decorator.js';
import { IDP_ALIAS } from './demo-realm.js';
import { KeycloakLoginDto } from './keycloak-login.dto.js';

/** The cookie that binds a login to the browser that began it. @see RFC 6749 section 10.12, RFC 7636 */
const COOKIE = 'keycloak-login';
const COOKIE_ATTRIBUTES = 'Path=/keycloak; HttpOnly; SameSite=Lax'; // add Secure if the application uses https

/** The injection token of the realm at which users log in. */
export const KEYCLOAK_OPTIONS = Symbol('KEYCLOAK_OPTIONS');

/** Logs users in at Keycloak, which brokers the identity provider, and imports the tokens that Keycloak has stored. */
@ApiTags('4. Keycloak')
@Controller('keycloak')
export class KeycloakLoginController {
  constructor(
    @Inject(KEYCLOAK_OPTIONS) private readonly keycloak: KeycloakModuleOptions,
    private readonly config: AppConfig,
    private readonly sessions: KeycloakSessions,
    private readonly tokenManager: TokenManager,
    private readonly accounts: AccountService,
  ) {}

  @Get('login')
  @ApiOperation({ summary: 'Get the URL to open in a browser.' })
  begin(@Res({ passthrough: true }) response: ServerResponse): { authorizationUrl: string } {
    const { serverUrl, realm, clientId } = this.keycloak;
    const state = randomBytes(32).toString('base64url');
    const codeVerifier = randomBytes(32).toString('base64url');
    response.setHeader('Set-Cookie', `${COOKIE}=${state}.${codeVerifier}; ${COOKIE_ATTRIBUTES}; Max-Age=600`);
    const url = new URL(`${serverUrl}/realms/${realm}/protocol/openid-connect/auth`);
    url.search = new URLSearchParams({
      client_id: clientId,
      response_type: 'code',
      scope: 'openid offline_access',
      redirect_uri: this.#redirectUri,
      kc_idp_hint: IDP_ALIAS,
      state,
      code_challenge: createHash('sha256').update(codeVerifier).digest('base64url'),
      code_challenge_method: 'S256',
    }).toString();
    return { authorizationUrl: url.href };
  }

  @Get('callback')
  @ApiOperation({
    summary: 'Keycloak sends the browser back to this URL. It stores the offline token and imports the pair.',
  })
  @ApiOkResponse({ type: KeycloakLoginDto })
  async finish(
    @Query('code') code: string,
    @Query('state') state: string,
    @Req() request: IncomingMessage,
    @Res({ passthrough: true }) response: ServerResponse,
  ): Promise<KeycloakLoginDto> {
    const [, begun, codeVerifier] =
      new RegExp(`${COOKIE}=([\\w-]+)\\.([\\w-]+)`).exec(request.headers.cookie ?? '') ?? [];
    if (begun === undefined || begun !== state) {
      throw new BadRequestException('This browser has not begun this login. Begin with GET /keycloak/login.');
    }
    response.setHeader('Set-Cookie', `${COOKIE}=; ${COOKIE_ATTRIBUTES}; Max-Age=0`);
    const tokens = await this.sessions.getKeycloakTokens(code, this.#redirectUri, codeVerifier);
    if (!tokens) throw new BadGatewayException('Keycloak issued no refresh token.');
    const { sub } = await this.sessions.getUserInfo(tokens.accessToken);
    const userId = String(sub);
    await this.tokenManager.storeOfflineToken(userId, tokens.refreshToken);
    const isImported = await this.tokenManager.importIdpTokens(userId, IDP_ALIAS, tokens.accessToken);
    return new KeycloakLoginDto(userId, tokens.accessToken, isImported);
  }

  @Get('me')
  @ApiBearerAuth()
  @UseGuards(KeycloakAuthGuard, IdpTokenGuard)
  @RequireIdpToken(IDP_ALIAS)
  @ApiOperation({ summary: 'The same as GET /me, for a user of Keycloak.' })
  @ApiOkResponse({ type: AccountDto })
  show(@UserId() userId: string, @IdpToken(IDP_ALIAS) token: IdpToken): Promise<AccountDto> {
    return this.accounts.getAccount(userId, token);
  }

  get #redirectUri(): string {
    return `${this.config.baseUrl}/keycloak/callback`;
  }
}
