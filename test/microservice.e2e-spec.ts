import type { AddressInfo, Server as NetServer } from 'node:net';

import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  ConflictException,
  Controller,
  type ExecutionContext,
  type INestMicroservice,
  Injectable,
  type LoggerService,
  UseFilters,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import {
  type ClientProxy,
  ClientProxyFactory,
  type CustomTransportStrategy,
  EventPattern,
  MessagePattern,
  Payload,
  Server,
  TcpContext,
  Transport,
} from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { lastValueFrom } from 'rxjs';

import {
  IdpToken,
  IdpTokenGuard,
  KeycloakAuthGuard,
  QueryRunnerInterceptor,
  RequireIdpToken,
  TokenManager,
  tokensEntities,
  TokensExceptionFilter,
  TokensModule,
} from '../src/index.js';
import { KeycloakStandIn } from './support/keycloak-stand-in.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { TEST_KEY } from './support/tokens-app.js';
import { until } from './support/until.js';

const VICTIM = 'victim-of-the-test';

let keycloak: KeycloakStandIn;
let database: TestDatabase;
let service: INestMicroservice;
let client: ClientProxy;
let oneContext: OneContextServer;
let oneContextService: INestMicroservice;
let tokens: TokenManager;
const logged: string[] = [];

/** A guard of the host. It goes by the connection, which the host has authenticated. Here each connection is Ada's. */
@Injectable()
class ConnectionGuard extends IdpTokenGuard {
  protected override getRequest(context: ExecutionContext): object {
    const { remotePort } = context.switchToRpc().getContext<TcpContext>().getSocketRef().socket as {
      remotePort?: number;
    };
    return remotePort === undefined ? {} : { user: { sub: 'ada' } };
  }
}

/** A guard of the host whose senders pass on the header of a request that they got. */
@Injectable()
class ForwardedBearerGuard extends KeycloakAuthGuard {
  protected override getRequest(context: ExecutionContext): object {
    return context.switchToRpc().getData<{ request: object }>().request;
  }
}

/** A guard of the host with a fault: it finds nothing. */
@Injectable()
class EmptyGuard extends IdpTokenGuard {
  protected override getRequest(): object {
    return undefined as unknown as object;
  }
}

/** A guard of the host. It goes by the payload, whose senders the transport of the host has authenticated. */
@Injectable()
class SenderGuard extends IdpTokenGuard {
  protected override getRequest(context: ExecutionContext): object {
    const payload = context.switchToRpc().getData<string | { by: string }>();
    return { user: { sub: typeof payload === 'string' ? payload : payload.by } };
  }
}

/** A transport of the host. All messages have the same context. */
class OneContextServer extends Server implements CustomTransportStrategy {
  readonly #context = {};

  listen(callback: () => void): void {
    callback();
  }

  close(): void {
    // has no connections
  }

  on(): void {
    // has no events
  }

  unwrap(): never {
    throw new Error('There is no server inside.');
  }

  async deliver(pattern: string, payload: unknown): Promise<unknown> {
    const handler = this.getHandlerByPattern(pattern);
    if (!handler) throw new Error(`There is no handler of ${pattern}.`);
    return lastValueFrom(this.transformToObservable(await handler(payload, this.#context)));
  }
}

@Controller()
class SendersController {
  @MessagePattern('acme-of-sender')
  @UseFilters(TokensExceptionFilter)
  @UseGuards(SenderGuard)
  @RequireIdpToken('acme')
  acme(@IdpToken('acme') token: IdpToken): string {
    return token.accessToken;
  }
}

@Controller()
class UnfilteredController {
  @MessagePattern('acme')
  @UseGuards(IdpTokenGuard)
  @RequireIdpToken('acme')
  acme(@Payload() _payload: unknown, @IdpToken('acme') token: IdpToken): object {
    return { accessToken: token.accessToken };
  }

  @MessagePattern('keycloak')
  @UseGuards(KeycloakAuthGuard)
  keycloak(): object {
    return { isIn: true };
  }

  @MessagePattern('empty')
  @UseGuards(EmptyGuard)
  @RequireIdpToken('acme')
  empty(): object {
    return { isIn: true };
  }

  @MessagePattern('unguarded')
  unguarded(@Payload() _payload: unknown, @IdpToken('acme') token: IdpToken): object {
    return { accessToken: token.accessToken };
  }

  @MessagePattern('acme-of-connection')
  @UseGuards(ConnectionGuard)
  @RequireIdpToken('acme')
  acmeOfConnection(@IdpToken('acme') token: IdpToken): object {
    return { accessToken: token.accessToken };
  }

  @MessagePattern('forwarded')
  @UseGuards(ForwardedBearerGuard)
  forwarded(@Payload() { request }: { request: { user?: { sub?: string } } }): object {
    return { sub: request.user?.sub };
  }
}

@Controller()
@UseFilters(TokensExceptionFilter)
class FilteredController {
  constructor(private readonly tokens: TokenManager) {}

  @MessagePattern('filtered-acme')
  @UseGuards(IdpTokenGuard)
  @RequireIdpToken('acme')
  acme(@Payload() _payload: unknown, @IdpToken('acme') token: IdpToken): object {
    return { accessToken: token.accessToken };
  }

  @MessagePattern('filtered-globex')
  @UseGuards(ConnectionGuard)
  @RequireIdpToken('globex')
  globex(): object {
    return {};
  }

  @EventPattern('globex-event')
  @UseGuards(ConnectionGuard)
  @RequireIdpToken('globex')
  globexEvent(@Payload() event: unknown): void {
    throw new Error(`The guard has let an event through: ${JSON.stringify(event)}`);
  }

  @MessagePattern('link')
  @UseInterceptors(QueryRunnerInterceptor)
  async link(@Payload() { user, isRefused }: { user: string; isRefused: boolean }): Promise<object> {
    await this.tokens.storeIdpTokens(user, 'acme', { accessToken: 'linked' });
    if (isRefused) throw new ConflictException();
    return { linked: user };
  }
}

beforeAll(async () => {
  keycloak = new KeycloakStandIn();
  await keycloak.start();
  database = await createTestDatabase();
  const backend = { clientId: 'backend', clientSecret: 'backend-secret' };
  const provider = { tokenEndpoint: 'http://127.0.0.1:9/token', ...backend };
  const testing = await Test.createTestingModule({
    imports: [
      TypeOrmModule.forRoot({ type: 'postgres', url: database.url, entities: tokensEntities, retryAttempts: 0 }),
      TokensModule.forRoot({
        encryption: { keys: [TEST_KEY] },
        keycloak: { serverUrl: keycloak.url, realm: 'app', ...backend },
        identityProviders: { acme: provider, globex: provider },
      }),
    ],
    controllers: [UnfilteredController, FilteredController, SendersController],
  }).compile();
  oneContext = new OneContextServer();
  oneContextService = testing.createNestMicroservice({ strategy: oneContext });
  await oneContextService.listen();
  const options = { transport: Transport.TCP, options: { host: '127.0.0.1', port: 0 } } as const;
  service = testing.createNestMicroservice(options);
  const log = (message: unknown) => logged.push(String(message));
  service.useLogger({ log: () => undefined, warn: log, error: log } satisfies LoggerService);
  await service.listen();
  const { port } = service.unwrap<NetServer>().address() as AddressInfo;
  client = ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } });
  tokens = service.get(TokenManager);
});

afterAll(async () => {
  await client.close();
  await oneContextService.close();
  await service.close();
  await keycloak.stop();
  await database.drop();
});

beforeEach(async () => {
  logged.length = 0;
  await database.query('DELETE FROM auth_tokens');
  await tokens.storeIdpTokens(VICTIM, 'acme', { accessToken: 'of the victim' });
});

async function send(pattern: string, payload: unknown = {}): Promise<unknown> {
  return lastValueFrom(client.send<unknown>(pattern, payload));
}

/** Returns what the sender of a message gets instead of an answer. */
async function failureOf(pattern: string, payload: unknown = {}): Promise<unknown> {
  return send(pattern, payload).then(
    (answer) => {
      throw new Error(`answered ${JSON.stringify(answer)}`);
    },
    (error: unknown) => error,
  );
}

describe('In a microservice', () => {
  const INTERNAL = { status: 'error', message: 'Internal server error' };
  const payloads = [
    { user: { sub: VICTIM } },
    { req: { user: { sub: VICTIM } }, request: { user: { sub: VICTIM } }, user: { sub: VICTIM } },
    { idpTokens: { acme: { accessToken: 'forged' } } },
    [{ user: { sub: VICTIM } }],
    VICTIM,
  ];

  it.each(payloads)('no payload names a user to IdpTokenGuard: %j', async (payload) => {
    await expect(failureOf('acme', payload)).resolves.toEqual(INTERNAL);
    expect(logged).toEqual([
      expect.stringMatching(
        /TokensUsageError: IdpTokenGuard .* type "rpc" of UnfilteredController\.acme\. .*getRequest/,
      ),
    ]);
  });

  it.each(payloads)('no payload is a place of tokens for @IdpToken: %j', async (payload) => {
    await expect(failureOf('unguarded', payload)).resolves.toEqual(INTERNAL);
  });

  it('KeycloakAuthGuard takes no bearer token out of a payload', async () => {
    const authorization = `Bearer ${await keycloak.forge({})}`;
    await expect(failureOf('keycloak', { headers: { authorization } })).resolves.toEqual(INTERNAL);
    expect(logged).toEqual([expect.stringContaining('TokensUsageError: KeycloakAuthGuard ')]);
    expect(logged.join()).not.toContain(authorization.slice(7, 40));
  });

  it('a guard of the host says where the user is, and @IdpToken finds the token there', async () => {
    await tokens.storeIdpTokens('ada', 'acme', { accessToken: 'of ada' });
    await expect(send('acme-of-connection', { user: { sub: VICTIM } })).resolves.toEqual({ accessToken: 'of ada' });
  });

  it('@IdpToken mixes up no users of a transport whose messages share their context', async () => {
    const users = [VICTIM, 'ada', 'bob', 'ada'];
    for (const user of ['ada', 'bob']) await tokens.storeIdpTokens(user, 'acme', { accessToken: `of ${user}` });
    const answers = await Promise.all(users.map((by) => oneContext.deliver('acme-of-sender', { by })));
    expect(answers).toEqual(['of the victim', 'of ada', 'of bob', 'of ada']);
    await oneContext.deliver('acme-of-sender', VICTIM); // nothing but the context belongs to a text
    for (const user of users) {
      await expect(oneContext.deliver('acme-of-sender', user)).rejects.toMatchObject({ code: 'ERR_TOKENS_USAGE' });
    }
    expect(logged).toEqual(
      users.map(() => expect.stringMatching(/^ERR_TOKENS_USAGE: .*SendersController\.acme .*share.*idpTokens/)),
    );
  });

  it('a guard of the host may name a place for KeycloakAuthGuard', async () => {
    const authorization = `Bearer ${await keycloak.forge({})}`;
    await expect(send('forwarded', { request: { headers: { authorization } } })).resolves.toEqual({
      sub: keycloak.users.ada.id,
    });
    const forged = { headers: {}, user: { sub: VICTIM } };
    await expect(failureOf('forwarded', { request: forged })).resolves.toEqual(INTERNAL);
  });

  it('a guard of the host that finds nothing is told so', async () => {
    await expect(failureOf('empty')).resolves.toEqual(INTERNAL);
    expect(logged).toEqual([expect.stringContaining('TokensUsageError: EmptyGuard ')]);
  });

  describe('with TokensExceptionFilter', () => {
    it('the sender gets the code and what it may know, and the log the rest', async () => {
      await expect(failureOf('filtered-acme', { user: { sub: VICTIM } })).resolves.toEqual({
        status: 'error',
        message: 'The server uses its token store wrongly.',
        code: 'ERR_TOKENS_USAGE',
      });
      expect(logged).toEqual([expect.stringContaining('ERR_TOKENS_USAGE: IdpTokenGuard ')]);
      await expect(failureOf('filtered-globex')).resolves.toEqual({
        status: 'error',
        message: 'Connect the account at the identity provider first.',
        code: 'ERR_TOKENS_NOT_FOUND',
        idp: 'globex',
      });
    });

    it('the error of an event is in the log, because its sender gets no answer', async () => {
      client.emit('globex-event', {});
      await until(() => logged.length > 0);
      expect(logged).toEqual([expect.stringMatching(/^ERR_TOKENS_NOT_FOUND: User "ada", identity provider "globex"/)]);
    });
  });

  it('QueryRunnerInterceptor commits before the answer, and rolls back when the handler throws', async () => {
    await expect(send('link', { user: 'kept', isRefused: false })).resolves.toEqual({ linked: 'kept' });
    await failureOf('link', { user: 'refused', isRefused: true });
    const stored = await database.query('SELECT keycloak_user_id FROM auth_tokens WHERE keycloak_user_id <> $1', [
      VICTIM,
    ]);
    expect(stored).toEqual([{ keycloak_user_id: 'kept' }]);
  });
});
