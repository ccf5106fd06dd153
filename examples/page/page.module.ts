import { Module } from '@nestjs/common';

import { PageController } from './page.controller.js';

/** The page of the demo. It uses the routes of the application as any other client does. */
@Module({ controllers: [PageController] })
export class PageModule {}
