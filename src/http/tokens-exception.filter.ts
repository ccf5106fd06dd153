import { type ArgumentsHost, Catch, type ExceptionFilter, Logger } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { type Observable, throwError } from 'rxjs';

import { TokensError } from '../tokens-error.js';
import { type AnswerToError, answerToError } from './answer-to-error.js';
import { findResponse, property } from './request-of-call.js';

/**
 * Answers every {@link TokensError} with `application/problem+json`: `type`, `title`, `status`, `detail`, `code`, and
 * also `idp`, `reason`, `account`, `accounts` and `missing_scopes` if the error has them. The answer has `Retry-After`
 * if trying again helps, and `WWW-Authenticate` if a login helps, with the error `invalid_token` if the request had a
 * bearer token. The message of the error is for the operator. The filter logs it for statuses from 500 on, and never
 * sends it.
 *
 * Outside of HTTP the caller gets the `detail` as the message, with `code` and the other members beside it:
 *
 * - A GraphQL resolver, and every other handler whose library formats errors by itself: the filter throws an error with
 *   these `extensions`. Its `cause` is the {@link TokensError}. This includes calls without a response to which NestJS
 *   gives the type `http`, because their library names no type.
 * - A message of a microservice: the filter returns an observable that fails with an object of the form of NestJS,
 *   `{ status: 'error', message, code, … }`. It logs every error, because the sender of an event gets no answer.
 * - A message of a WebSocket: the client gets that object as the event `exception`.
 *
 * @see RFC 9457, RFC 6750 section 3
 */
@Catch(TokensError)
export class TokensExceptionFilter implements ExceptionFilter<TokensError> {
  readonly #logger = new Logger(TokensExceptionFilter.name);

  constructor(private readonly adapterHost: HttpAdapterHost) {}

  catch(error: TokensError, host: ArgumentsHost): Observable<never> | undefined {
    const answer = answerToError(error);
    const type = host.getType<string>();
    if (answer.status >= 500) this.#logger.error(`${error.code}: ${error.message}`);
    else if (type === 'rpc') this.#logger.warn(`${error.code}: ${error.message}`);
    const response = findResponse(host);
    if (response && property(this.adapterHost, 'httpAdapter')) {
      this.#reply(response, answer);
      return undefined;
    }
    switch (type) {
      case 'rpc':
        return throwError(() => messageOf(answer));
      case 'ws':
        emitException(host.switchToWs().getClient(), messageOf(answer));
        return undefined;
      default:
        throw new PublicError(answer, error);
    }
  }

  #reply(response: object, { status, headers, problem }: AnswerToError): void {
    const { httpAdapter } = this.adapterHost;
    if (httpAdapter.isHeadersSent(response)) {
      httpAdapter.end(response);
      return;
    }
    httpAdapter.setHeader(response, 'Content-Type', 'application/problem+json');
    for (const [name, value] of Object.entries(headers)) httpAdapter.setHeader(response, name, value);
    // Serialised here, because Fastify takes only text for a media type of its own.
    httpAdapter.reply(response, JSON.stringify(problem), status);
  }
}

/** The form in which a GraphQL library finds what the client may learn: the message and the extensions. */
class PublicError extends Error {
  readonly extensions: object;

  constructor({ status, problem: { detail }, members }: AnswerToError, cause: TokensError) {
    super(detail, { cause });
    this.name = cause.name;
    this.extensions = { ...members, status };
  }
}

/** The form in which NestJS reports errors to the senders of messages. */
function messageOf({ problem: { detail }, members }: AnswerToError): object {
  return { ...members, status: 'error', message: detail };
}

/** Sends the event `exception`, as NestJS does. A client of `ws` has a `readyState`, and its `emit` sends nothing. */
function emitException(client: unknown, body: object): void {
  const isNative = typeof property(client, 'readyState') === 'number';
  const send = property(client, isNative ? 'send' : 'emit');
  if (typeof send !== 'function') return;
  Reflect.apply(send, client, isNative ? [JSON.stringify({ event: 'exception', data: body })] : ['exception', body]);
}
