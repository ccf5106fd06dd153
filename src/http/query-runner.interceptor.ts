import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import { defer, lastValueFrom, type Observable } from 'rxjs';

import { QueryRunnerScope } from '../postgres/query-runner-scope.js';

/**
 * Gives every request of a controller or handler one transaction, which all token writes below join: committed before
 * the answer is sent, rolled back when the handler throws. A connection is taken at the first statement only. Guards
 * run before interceptors and stand outside. Not for handlers that answer with a stream of events: the last value
 * counts.
 */
@Injectable()
export class QueryRunnerInterceptor implements NestInterceptor {
  constructor(private readonly scope: QueryRunnerScope) {}

  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return defer(() => this.scope.run(() => lastValueFrom(next.handle(), { defaultValue: undefined }), { lazy: true }));
  }
}
