import { Module } from '@nestjs/common';

import { SessionModule } from '../session/session.module.js';
import { ConnectionsController } from './connections.controller.js';

/** Connects the accounts of the users at the identity provider. */
@Module({ imports: [SessionModule], controllers: [ConnectionsController] })
export class LinkModule {}
