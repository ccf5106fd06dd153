import { Controller, Get, Req, UseGuards } from '@nestjs/common';

import {
  IdpToken,
  IdpTokenGuard,
  KeycloakAuthGuard,
  RequireIdpToken,
  type RequestWithKeycloakUser,
} from '../../src/index.js';

/**
 * A controller of a host behind both guards. It has a route for users of the realm, and a route for users who have
 * linked an account.
 */
@Controller()
@UseGuards(KeycloakAuthGuard, IdpTokenGuard)
export class KeycloakMeController {
  @Get('me')
  me(@Req() { user }: RequestWithKeycloakUser): unknown {
    return { sub: user?.sub };
  }

  @Get('acme')
  @RequireIdpToken('acme')
  acme(@IdpToken('acme') token: IdpToken): unknown {
    return { expiresAt: token.expiresAt };
  }
}
