import type { ExecutionContext } from '@nestjs/common';

import { TokensUsageError } from '../tokens.errors.js';

/**
 * Returns the HTTP request of a call. For a route this is the request of the platform. For a GraphQL resolver it is
 * `req`, `reply.request` or `request` of the GraphQL context, the first that is there. The function returns `undefined`
 * for every other call, because the arguments of a message are what its sender wrote.
 */
export function findRequest(context: ExecutionContext): object | undefined {
  switch (context.getType<string>()) {
    case 'http':
      return objectOf(context.switchToHttp().getRequest());
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
 * Returns an object that belongs to one call only, and that every guard and parameter decorator of the call gets. For a
 * GraphQL resolver it is the `info` argument, because all resolvers of an operation share the other arguments.
 */
export function identityOfCall(context: ExecutionContext): object | undefined {
  const argument = (index: number): object | undefined => objectOf(context.getArgByIndex(index));
  switch (context.getType<string>()) {
    case 'graphql':
      return objectOf(graphqlArguments(context).info);
    case 'rpc': // data, context
    case 'ws': // client, data
      return argument(1) ?? argument(0);
    default:
      return argument(0);
  }
}

/** The arguments of a resolver are root, args, context and info. A resolver of references and types has no args. */
function graphqlArguments(context: ExecutionContext): { context: unknown; info: unknown } {
  const third: unknown = context.getArgByIndex(2);
  return property(third, 'fieldNodes') && property(third, 'schema')
    ? { context: context.getArgByIndex(1), info: third }
    : { context: third, info: context.getArgByIndex(3) };
}

function refuse(context: ExecutionContext, guard: object): never {
  throw new TokensUsageError(
    `${guard.constructor.name} has no request in a call of type "${context.getType<string>()}" of ` +
      `${context.getClass().name}.${context.getHandler().name}. It finds the request of HTTP routes, and of GraphQL ` +
      'resolvers whose context has "req". For other calls extend the guard, and override getRequest.',
  );
}

/** Returns a property of any value; undefined if the value has none. */
export function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

function objectOf(value: unknown): object | undefined {
  return typeof value === 'object' && value !== null ? value : undefined;
}
