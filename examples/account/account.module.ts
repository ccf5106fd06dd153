import { Module } from '@nestjs/common';

import { DemoIdpModule } from '../demo-idp/demo-idp.module.js';
import { SessionModule } from '../session/session.module.js';
import { AccountController } from './account.controller.js';
import { AccountService } from './account.service.js';

/** Accounts at the identity provider, as their users see them. */
@Module({
  imports: [SessionModule, DemoIdpModule],
  controllers: [AccountController],
  providers: [AccountService],
  exports: [AccountService],
})
export class AccountModule {}
