import { Module } from '@nestjs/common';

import { DemoIdpClient } from './demo-idp.client.js';
import { RequestCountsController } from './request-counts.controller.js';

/** The identity provider `demo`. */
@Module({ controllers: [RequestCountsController], providers: [DemoIdpClient], exports: [DemoIdpClient] })
export class DemoIdpModule {}
