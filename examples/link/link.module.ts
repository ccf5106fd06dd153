import { Module } from '@nestjs/common';

import { DemoIdpModule } from '../demo-idp/demo-idp.module.js';
import { SessionModule } from '../session/session.module.js';
import { LinkAttempts } from './link-attempt.service.js';
import { LinkController } from './link.controller.js';

/** Accounts at the identity provider: linked by the users, in a code flow. */
@Module({
  imports: [SessionModule, DemoIdpModule],
  controllers: [LinkController],
  providers: [LinkAttempts],
})
export class LinkModule {}
