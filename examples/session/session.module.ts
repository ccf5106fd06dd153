import { Module } from '@nestjs/common';

import { SessionController } from './session.controller.js';
import { SessionTokens } from './session-tokens.service.js';

/** Sessions of this application's users. */
@Module({
  controllers: [SessionController],
  providers: [SessionTokens],
  exports: [SessionTokens],
})
export class SessionModule {}
