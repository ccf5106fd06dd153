import { IncomingMessage, ServerResponse } from 'node:http';
import { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { Socket } from 'node:net';
import { Readable } from 'node:stream';

import { describe, expect, it } from '@jest/globals';
import type { ExecutionContext } from '@nestjs/common';
import { ExecutionContextHost } from '@nestjs/core/helpers/execution-context-host.js';

import { TokensUsageError } from '../tokens.errors.js';
import { checkedRequest, findRequest, identityOfCall, requestOfCall } from './request-of-call.js';

class RepositoriesController {
  list(): void {
    // only its name matters
  }
}

class SomeGuard {
  canActivate(): boolean {
    return true;
  }
}

const request = Object.assign(new IncomingMessage(new Socket()), { user: { sub: 'ada' } });
const response = new ServerResponse(request);
/** What Fastify passes to handlers. */
const fastifyRequest = { raw: request, headers: {}, user: { sub: 'ada' } };
const fastifyReply = { raw: response, header: () => undefined };
const forged = { user: { sub: 'victim' }, req: { user: { sub: 'victim' } }, request: { user: { sub: 'victim' } } };
const info = { fieldName: 'repositories', fieldNodes: [], schema: {} };

function call(type: string, ...args: unknown[]): ExecutionContextHost {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- Nest passes handlers in this way
  const context = new ExecutionContextHost(args, RepositoriesController, RepositoriesController.prototype.list);
  context.setType(type);
  return context;
}

describe('The request of a call', () => {
  it.each<[string, ExecutionContextHost]>([
    ['a route', call('http', request, response, () => undefined)],
    ['a resolver whose context has req', call('graphql', {}, {}, { req: request, res: {} }, info)],
    ['a resolver of Mercurius', call('graphql', undefined, {}, { reply: { request } }, info)],
    ['a resolver whose context has request', call('graphql', undefined, {}, { request }, info)],
    ['a resolver whose arguments look like a context', call('graphql', forged, forged, { req: request }, info)],
    ['a resolver of references', call('graphql', forged, { req: request }, info)],
    ['a resolver of types', call('graphql', forged, { req: request }, info, {})],
  ])('is found in %s', (_, context) => {
    expect(findRequest(context)).toBe(request);
    expect(requestOfCall(context, new SomeGuard())).toBe(request);
  });

  it.each<[string, object, object]>([
    ['Express', request, response],
    ['Fastify', fastifyRequest, fastifyReply],
    ['Fastify, injected', { ...fastifyRequest, raw: new Readable() }, fastifyReply],
    [
      'HTTP/2',
      Object.create(Http2ServerRequest.prototype) as object,
      Object.create(Http2ServerResponse.prototype) as object,
    ],
  ])('is found in a route on %s', (_, routeRequest, routeResponse) => {
    expect(findRequest(call('http', routeRequest, routeResponse))).toBe(routeRequest);
  });

  it('is found in a context that a unit test made by hand', () => {
    const context = { getType: () => 'http', switchToHttp: () => ({ getRequest: () => forged }) };
    // A context that is made by hand has only some methods.
    expect(findRequest(context as unknown as ExecutionContext)).toBe(forged);
  });

  it.each<[string, ExecutionContextHost]>([
    ['a payload that Nest takes for a request', call('http', forged)],
    ['such a payload with a response', call('http', forged, response)],
    ['such a payload with a stream', call('http', { ...forged, raw: new Readable() }, new Readable())],
    ['such a payload with another payload', call('http', forged, { ...forged, header: 'x', raw: {} })],
    ['a message', call('rpc', forged, { user: { sub: 'ada' } })],
    ['a message of a WebSocket', call('ws', { user: { sub: 'ada' }, handshake: request }, forged, 'pattern')],
    ['a call of another library', call('telegraf', forged, forged, forged, forged)],
    ['a resolver without a request', call('graphql', forged, forged, {}, info)],
    ['a resolver without a context', call('graphql', forged, forged, undefined, info)],
    ['a resolver whose request is a text', call('graphql', forged, forged, { req: 'x' }, info)],
    ['a resolver of references without a request', call('graphql', forged, {}, info)],
    ['a route of which there is nothing', call('http')],
  ])('is not found in %s, and the error says what to do', (_, context) => {
    expect(findRequest(context)).toBeUndefined();
    const refusal = `SomeGuard has no request in a call of type "${context.getType<string>()}" of RepositoriesController.list.`;
    expect(() => requestOfCall(context, new SomeGuard())).toThrow(TokensUsageError);
    expect(() => requestOfCall(context, new SomeGuard())).toThrow(refusal);
    expect(() => requestOfCall(context, new SomeGuard())).toThrow(/override getRequest/);
    expect(() => requestOfCall(context, new SomeGuard())).not.toThrow(/victim/);
  });

  it.each([undefined, null, 'ada', 1, () => request])('of a subclass must be an object, not %p', (found) => {
    expect(() => checkedRequest(found, call('rpc', {}, {}), new SomeGuard())).toThrow(TokensUsageError);
    expect(checkedRequest(request, call('rpc', {}, {}), new SomeGuard())).toBe(request);
  });
});

describe('The identity of a call', () => {
  const client = {};
  const data = {};

  it.each<[string, object | undefined, ExecutionContextHost]>([
    ['the request of a route', request, call('http', request, response, () => undefined)],
    ['the info of a resolver, because the other arguments are shared', info, call('graphql', {}, {}, {}, info)],
    ['the reference of a resolver of references, because they share the info', data, call('graphql', data, {}, info)],
    ['the value of a resolver of types', data, call('graphql', data, {}, info, {})],
    ['the payload of a message, because a transport may share its context', data, call('rpc', data, client)],
    ['the payload of a message without a context', data, call('rpc', data)],
    ['the context of a message, if the payload is a text', client, call('rpc', 'payload', client)],
    ['the payload of a message of a WebSocket, because the client sends many', data, call('ws', client, data, 'x')],
    ['unknown, if this payload is a text', undefined, call('ws', client, 'payload', 'x')],
    ['the first argument elsewhere', data, call('telegraf', data, () => undefined)],
    ['unknown without an object', undefined, call('rpc', 'payload')],
  ])('is %s', (_, identity, context) => {
    expect(identityOfCall(context)).toBe(identity);
  });
});
