import { Module } from '@nestjs/common';

import { DemoIdpModule } from '../demo-idp/demo-idp.module.js';
import { SessionModule } from '../session/session.module.js';
import { LinkAttempts } from './link-attempt.service.js';
import { LinkController } from './link.controller.js';

/** Links the accounts of the users at the identity provider, by a code flow. */
@Module({
  imports: [SessionModule, DemoIdpModule],
  controllers: [LinkController],
  providers: [LinkAttempts],
})
export class LinkModule {}
