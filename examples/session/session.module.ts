import { Module } from '@nestjs/common';

import { SessionTokens } from './session-tokens.service.js';
import { SessionController } from './session.controller.js';

/** Sessions of this application's users. */
@Module({
  controllers: [SessionController],
  providers: [SessionTokens],
  exports: [SessionTokens],
})
export class SessionModule {}
