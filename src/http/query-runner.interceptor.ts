import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import { defer, lastValueFrom, type Observable } from 'rxjs';

import { QueryRunnerScope } from '../postgres/query-runner-scope.js';

/**
 * Gives every request of a controller or handler one transaction, which all its token writes join. The transaction is
 * committed before the answer is sent, and rolled back if the handler throws. It takes a connection at its first
 * statement, not before. Guards run before interceptors, so they are outside of the transaction. In GraphQL each resolver
 * has a transaction of its own, and in a microservice each message. Do not use it for a handler that answers with a
 * stream, nor for a GraphQL subscription, because only the last value is sent.
 */
@Injectable()
export class QueryRunnerInterceptor implements NestInterceptor {
  constructor(private readonly scope: QueryRunnerScope) {}

  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return defer(() => this.scope.run(() => lastValueFrom(next.handle(), { defaultValue: undefined }), { lazy: true }));
  }
}
