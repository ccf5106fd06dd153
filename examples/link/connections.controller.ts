import { Controller, UseFilters, UseGuards } from '@nestjs/common';
import { ApiBearerAuth, ApiTags } from '@nestjs/swagger';
import { AccountLinksController } from 'nestjs-idp-tokens';

import { BackToPageFilter } from '../page/back-to-page.filter.js';
import { SessionGuard } from '../session/session.guard.js';

/** Connects accounts at the identity provider. The class that it extends has all the routes. */
@ApiTags('2. Connections')
@ApiBearerAuth()
@Controller('connections')
@UseGuards(SessionGuard)
@UseFilters(BackToPageFilter)
export class ConnectionsController extends AccountLinksController {}
