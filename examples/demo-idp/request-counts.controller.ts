import { Controller, Get, Header } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';

import type { RequestCounts } from '../support/request-counts.js';
import { DemoIdpClient } from './demo-idp.client.js';

/** Shows how often the provider was asked. No real provider tells that, and the demo needs it as a proof. */
@ApiTags('3. Account')
@Controller('provider/requests')
export class RequestCountsController {
  constructor(private readonly idp: DemoIdpClient) {}

  @Get()
  @Header('Cache-Control', 'no-store')
  @ApiOperation({ summary: 'How many refresh tokens has the provider redeemed since its start, and what else?' })
  @ApiOkResponse({ schema: { type: 'object', additionalProperties: { type: 'integer' } } })
  show(): Promise<RequestCounts> {
    return this.idp.countRequests();
  }
}
