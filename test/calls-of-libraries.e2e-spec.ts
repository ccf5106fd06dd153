import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type ExecutionContext, Injectable, UseFilters, UseGuards } from '@nestjs/common';
import { ROUTE_ARGS_METADATA } from '@nestjs/common/constants.js';
import { ExternalContextCreator } from '@nestjs/core';

import {
  IdpToken,
  IdpTokenGuard,
  KeycloakAuthGuard,
  RequireIdpToken,
  TokenManager,
  TokensExceptionFilter,
  TokensNotFoundError,
  TokensUsageError,
} from '../src/index.js';
import { type HttpHost, httpPlatforms, startHttpHost } from './support/http-host.js';
import { KeycloakStandIn } from './support/keycloak-stand-in.js';
import { ScriptedProvider } from './support/scripted-provider.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';

const VICTIM = 'victim-of-the-test';

/** The users of the calls of this test, by their second argument or by a property of an argument. */
function userOf(...args: unknown[]): string | undefined {
  const texts = args.flatMap((arg) => (typeof arg === 'object' && arg !== null && 'by' in arg ? [arg.by] : [arg]));
  return texts.find((text) => typeof text === 'string');
}

/** A guard of the host. It goes by the message, which the library of this test has authenticated. */
@Injectable()
class MessageGuard extends IdpTokenGuard {
  protected override getRequest(context: ExecutionContext): object {
    return { user: { sub: userOf(...context.getArgs<unknown[]>()) } };
  }
}

/** Handlers that a library of the host calls by way of Nest's ExternalContextCreator. */
@Injectable()
class Jobs {
  @UseGuards(IdpTokenGuard)
  @RequireIdpToken('acme')
  run(@IdpToken('acme') token: IdpToken): string {
    return token.accessToken;
  }

  @UseGuards(KeycloakAuthGuard)
  authenticate(): string {
    return 'in';
  }

  unguarded(@IdpToken('acme') token: IdpToken): string {
    return token.accessToken;
  }

  @UseGuards(MessageGuard)
  @RequireIdpToken('acme')
  answer(@IdpToken('acme') token: IdpToken): string {
    return token.accessToken;
  }

  @UseGuards(MessageGuard)
  @RequireIdpToken('acme')
  answerToo(@IdpToken('acme') token: IdpToken): string {
    return token.accessToken;
  }

  @UseFilters(TokensExceptionFilter)
  @UseGuards(MessageGuard)
  @RequireIdpToken('acme')
  filtered(): string {
    return 'in';
  }
}

@Injectable()
class QueueJobs extends Jobs {}

@Injectable()
class RpcJobs extends Jobs {}

@Injectable()
class WsJobs extends Jobs {}

@Injectable()
class GraphQLJobs extends Jobs {}

/** One class for each type of call, because NestJS 11 gives decorators the type of the first call of a method. */
const CLASSES = { http: Jobs, jobs: QueueJobs, rpc: RpcJobs, ws: WsJobs, graphql: GraphQLJobs };

type Handler = keyof Jobs;

describe.each(httpPlatforms)('A library that calls handlers beside $platform', ({ createApplication }) => {
  const keycloak = new KeycloakStandIn();
  let database: TestDatabase;
  let host: HttpHost;

  beforeAll(async () => {
    await keycloak.start();
    database = await createTestDatabase();
    host = await startHttpHost({
      databaseUrl: database.url,
      createApplication,
      hasFilter: false,
      options: {
        keycloak: { serverUrl: keycloak.url, realm: 'app', clientId: 'backend', clientSecret: 'backend-secret' },
        identityProviders: { acme: new ScriptedProvider() },
      },
      providers: Object.values(CLASSES),
    });
    const tokens = host.app.get(TokenManager);
    for (const user of [VICTIM, 'ada', 'bob']) {
      await tokens.storeIdpTokens(user, 'acme', { accessToken: `of ${user}` });
    }
  });

  afterAll(async () => {
    await host.app.close();
    await keycloak.stop();
    await database.drop();
  });

  /** Returns a handler as a library gets it. Without a type, Nest takes the call for one of HTTP. */
  function handlerOf(name: Handler, type?: keyof typeof CLASSES): (...args: unknown[]) => Promise<unknown> {
    const jobs: Jobs = host.app.get(CLASSES[type ?? 'http']);
    const creator = host.app.get(ExternalContextCreator);
    // eslint-disable-next-line @typescript-eslint/unbound-method -- Nest binds it
    const callback = jobs[name] as (...args: unknown[]) => unknown;
    const factory = { exchangeKeyForValue: () => undefined };
    const defaults = [undefined, undefined, undefined] as const; // of the scope and the enhancers
    return creator.create(jobs, callback, name, ROUTE_ARGS_METADATA, factory, ...defaults, type);
  }

  const naming = () => ({ user: { sub: VICTIM } });
  const payloads: [string, () => unknown[]][] = [
    ['alone', () => [naming()]],
    ['with a context', () => [naming(), { send: () => undefined, end: () => undefined }, () => undefined]],
    [
      'with headers',
      () => [
        { ...naming(), headers: {}, raw: {} },
        { raw: {}, statusCode: 200, header: 'x' },
      ],
    ],
    ['with a response', () => [naming(), new ServerResponse(new IncomingMessage(new Socket()))]],
    ['that has tokens', () => [{ idpTokens: { acme: { accessToken: 'forged' } } }]],
    ['that is a text', () => [VICTIM]],
  ];

  it.each(payloads)('gets no token for a payload that names a user: %s', async (_, argsOf) => {
    await expect(handlerOf('run')(...argsOf())).rejects.toThrow(TokensUsageError);
    await expect(handlerOf('run')(...argsOf())).rejects.toThrow(
      /IdpTokenGuard .* type "http" of Jobs\.run\. .*getRequest/,
    );
    await expect(handlerOf('run', 'jobs')(...argsOf())).rejects.toThrow(TokensUsageError);
  });

  it.each(payloads)('gets no token out of a payload: %s', async (_, argsOf) => {
    await expect(handlerOf('unguarded')(...argsOf())).rejects.toThrow(TokensUsageError);
    await expect(handlerOf('unguarded', 'jobs')(...argsOf())).rejects.toThrow(TokensUsageError);
  });

  it('gets no user for a payload that has a bearer token', async () => {
    const payload = { headers: { authorization: `Bearer ${await keycloak.forge({})}` } };
    await expect(handlerOf('authenticate')(payload)).rejects.toThrow(TokensUsageError);
    await expect(handlerOf('authenticate')(payload, {})).rejects.toThrow(TokensUsageError);
    expect(payload).not.toHaveProperty('user');
  });

  it('gets the token of the user whom a guard of the host names, also for two handlers of one message', async () => {
    for (const type of [undefined, 'jobs'] as const) {
      const message = { by: 'ada' };
      await expect(handlerOf('answer', type)(message)).resolves.toBe('of ada');
      await expect(handlerOf('answerToo', type)(message)).resolves.toBe('of ada');
      await expect(handlerOf('answer', type)({ by: 'bob' })).resolves.toBe('of bob');
    }
  });

  it('gets no token by an object that several calls share', async () => {
    for (const type of [undefined, 'jobs', 'rpc'] as const) {
      const shared = {};
      const args = (user: string) => (type === 'rpc' ? [user, shared] : [shared, user]);
      await expect(handlerOf('answer', type)(...args(VICTIM))).resolves.toBe(`of ${VICTIM}`);
      const next = handlerOf('answer', type)(...args('bob'));
      await expect(next).rejects.toThrow(TokensUsageError);
      await expect(handlerOf('answer', type)(...args('bob'))).rejects.toThrow(/Jobs\.answer .*share.*idpTokens/);
      const parallel = [VICTIM, 'bob', 'ada'].map((user) => handlerOf('answer', type)(...args(user)));
      const outcomes = await Promise.allSettled(parallel);
      expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    }
  });

  it('gets the token of each message of one client, and none for messages that are texts', async () => {
    const client = {};
    const answer = handlerOf('answer', 'ws');
    const users = [VICTIM, 'bob', 'ada', 'bob'];
    const objects = await Promise.all(users.map((by) => answer(client, { by }, 'pattern')));
    expect(objects).toEqual(users.map((user) => `of ${user}`));
    const texts = await Promise.allSettled(users.map((user) => answer(client, user, 'pattern')));
    for (const text of texts) expect(text).toMatchObject({ status: 'rejected', reason: expect.any(TokensUsageError) });
    await expect(answer(client, 'ada', 'pattern')).rejects.toThrow(
      /type "ws" of WsJobs\.answer .*an object.*idpTokens/,
    );
  });

  it('gets the token of each message, although all messages share the context of their transport', async () => {
    const shared = {};
    const users = [VICTIM, 'bob', 'ada', 'bob'];
    const answers = await Promise.all(users.map((by) => handlerOf('answer', 'rpc')({ by }, shared)));
    expect(answers).toEqual(users.map((user) => `of ${user}`));
  });

  it('gets the token of each reference of a GraphQL operation, although they share the info', async () => {
    const info = { fieldName: '_entities', fieldNodes: [], schema: {} };
    const users = [VICTIM, 'bob', 'ada', 'bob'];
    const answers = await Promise.all(users.map((by) => handlerOf('answer', 'graphql')({ by }, {}, info)));
    expect(answers).toEqual(users.map((user) => `of ${user}`));
  });

  it('gets what it may know of an error from TokensExceptionFilter', async () => {
    for (const args of [[{ by: 'zoe' }], [{ by: 'zoe' }, {}], [{ by: 'zoe' }, null]]) {
      await expect(handlerOf('filtered')(...args)).rejects.toMatchObject({
        message: 'Connect the account at the identity provider first.',
        extensions: { code: 'ERR_TOKENS_NOT_FOUND', status: 403, idp: 'acme' },
        cause: expect.any(TokensNotFoundError),
      });
    }
  });
});
