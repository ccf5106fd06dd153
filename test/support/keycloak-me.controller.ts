import { Controller, Get, Req, UseGuards } from '@nestjs/common';

import {
  IdpToken,
  IdpTokenGuard,
  KeycloakAuthGuard,
  RequireIdpToken,
  type RequestWithKeycloakUser,
} from '../../src/index.js';

/** What a host puts behind both guards: a route for users of the realm, and one for those who have linked an account. */
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
