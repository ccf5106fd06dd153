import { Readable } from 'node:stream';

import type { ArgumentsHost, ExecutionContext } from '@nestjs/common';

import { TokensUsageError } from '../tokens.errors.js';

/**
 * Returns the HTTP request of a call. For a route this is the request of the platform. For a GraphQL resolver it is
 * `req`, `reply.request` or `request` of the GraphQL context, the first that is there. The function returns `undefined`
 * for every other call, because the arguments of a message are what its sender wrote. This includes calls of libraries
 * that name no type, although NestJS gives them the type `http`.
 */
export function findRequest(context: ExecutionContext): object | undefined {
  switch (context.getType<string>()) {
    case 'http':
      return requestOfRoute(context);
    case 'graphql': {
      const { context: graphql } = graphqlArguments(context);
      const requests = [property(graphql, 'req'), property(property(graphql, 'reply'), 'request')];
      return [...requests, property(graphql, 'request')].map(objectOf).find((request) => request !== undefined);
    }
    default:
      return undefined;
  }
}

/**
 * Returns the response of a route, as the platform has it. It is `undefined` for every other call, also if NestJS gives
 * the call the type `http`. A payload is no response, because it has no functions.
 */
export function findResponse(host: ArgumentsHost): object | undefined {
  if (host.getType<string>() !== 'http') return undefined;
  const response = objectOf(host.switchToHttp().getResponse());
  return ['setHeader', 'header'].some((name) => typeof property(response, name) === 'function') ? response : undefined;
}

/**
 * The request of a route is a stream, or Fastify has the stream as `raw`. No payload is or contains a stream. A context
 * without arguments is one that a unit test of the host made by hand.
 */
function requestOfRoute(context: ExecutionContext): object | undefined {
  const request = objectOf(context.switchToHttp().getRequest());
  const isStream = request instanceof Readable || property(request, 'raw') instanceof Readable;
  const isByHand = typeof property(context, 'getArgs') !== 'function';
  return isByHand || (isStream && findResponse(context)) ? request : undefined;
}

/**
 * Returns what {@link findRequest} finds, for a guard.
 *
 * @throws {@link TokensUsageError} when it finds nothing; the message says how to repair the guard
 */
export function requestOfCall(context: ExecutionContext, guard: object): object {
  return findRequest(context) ?? refuse(context, guard);
}

/**
 * Returns a request that a subclass of a guard found. A type cannot make sure of it, because many hosts have it as
 * `any`.
 *
 * @throws {@link TokensUsageError} when it is no object
 */
export function checkedRequest(request: unknown, context: ExecutionContext, guard: object): object {
  return objectOf(request) ?? refuse(context, guard);
}

/**
 * Returns an object that belongs to one call only, as far as a call has such an object, and that every guard and
 * parameter decorator of the call gets. It is `undefined` for a message of a WebSocket whose payload is no object,
 * because all messages of a client share the client.
 *
 * - Routes have their request.
 * - GraphQL resolvers have the `info` argument, because all resolvers of an operation share the other arguments.
 *   Resolvers of references and of types have the first argument, because all references share the `info`.
 * - Messages have their payload. A message without such a payload has the context, which most transports make for each.
 * - Other calls have the first argument.
 *
 * A transport or a library can use one object for several calls, so the caller must notice this.
 */
export function identityOfCall(context: ExecutionContext): object | undefined {
  const argument = (index: number): object | undefined => objectOf(context.getArgByIndex(index));
  switch (context.getType<string>()) {
    case 'graphql': {
      const { info, isOfReference } = graphqlArguments(context);
      return isOfReference ? argument(0) : objectOf(info);
    }
    case 'rpc': // data, context
      return argument(0) ?? argument(1);
    case 'ws': // client, data
      return argument(1);
    default:
      return argument(0);
  }
}

/** The arguments of a resolver are root, args, context and info. A resolver of references and types has no args. */
function graphqlArguments(context: ExecutionContext): { context: unknown; info: unknown; isOfReference: boolean } {
  const third: unknown = context.getArgByIndex(2);
  return property(third, 'fieldNodes') && property(third, 'schema')
    ? { context: context.getArgByIndex(1), info: third, isOfReference: true }
    : { context: third, info: context.getArgByIndex(3), isOfReference: false };
}

function refuse(context: ExecutionContext, guard: object): never {
  throw new TokensUsageError(
    `${guard.constructor.name} has no request in a call of type "${context.getType<string>()}" of ` +
      `${nameOfHandler(context)}. It finds the request of HTTP routes, and of GraphQL ` +
      'resolvers whose context has "req". For other calls extend the guard, and override getRequest.',
  );
}

/** Returns the name of the handler of a call, for messages to the operator. */
export function nameOfHandler(context: ExecutionContext): string {
  return `${context.getClass().name}.${context.getHandler().name}`;
}

/** Returns a property of any value; undefined if the value has none. */
export function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

function objectOf(value: unknown): object | undefined {
  return typeof value === 'object' && value !== null ? value : undefined;
}
