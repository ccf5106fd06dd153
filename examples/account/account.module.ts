import { Module } from '@nestjs/common';

import { DemoIdpModule } from '../demo-idp/demo-idp.module.js';
import { SessionModule } from '../session/session.module.js';
import { AccountController } from './account.controller.js';
import { AccountService } from './account.service.js';
import { StoredRows } from './stored-rows.service.js';

/** The accounts of the users at the identity provider. */
@Module({
  imports: [SessionModule, DemoIdpModule],
  controllers: [AccountController],
  providers: [AccountService, StoredRows],
  exports: [AccountService, StoredRows],
})
export class AccountModule {}
