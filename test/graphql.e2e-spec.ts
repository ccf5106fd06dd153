import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import {
  type ExecutionContext,
  type INestApplication,
  Injectable,
  UseFilters,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { Args, Field, GraphQLModule, InputType, Mutation, ObjectType, Query, Resolver } from '@nestjs/graphql';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import request from 'supertest';
import { DataSource } from 'typeorm';

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
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { TEST_KEY } from './support/tokens-app.js';
import { until } from './support/until.js';

let keycloak: KeycloakStandIn;
let database: TestDatabase;
let app: INestApplication;
let tokens: TokenManager;
let url: string;

/** The GraphQL context of the host. */
interface HostContext {
  readonly req: { readonly headers: Record<string, string | undefined> };
  /** The user whom a gateway in front of the host has authenticated. */
  readonly gateway: { readonly user: { readonly sub: string | undefined } };
}

/** A guard of the host that finds the user elsewhere in the GraphQL context. */
@Injectable()
class GatewayGuard extends IdpTokenGuard {
  protected override getRequest(context: ExecutionContext): object {
    return context.getArgByIndex<HostContext>(2).gateway;
  }
}

@ObjectType()
class Account {
  @Field()
  accessToken!: string;
}

@InputType()
class Impostor {
  @Field()
  sub!: string;
}

@InputType()
class ImpostorRequest {
  @Field(() => Impostor)
  user!: Impostor;
}

@Resolver(() => Account)
@UseFilters(TokensExceptionFilter)
class AccountsResolver {
  constructor(private readonly tokens: TokenManager) {}

  @Query(() => Account)
  @UseGuards(KeycloakAuthGuard, IdpTokenGuard)
  @RequireIdpToken('acme')
  acme(@IdpToken('acme') token: IdpToken): Account {
    return { accessToken: token.accessToken };
  }

  @Query(() => Account, { nullable: true })
  @UseGuards(KeycloakAuthGuard, IdpTokenGuard)
  @RequireIdpToken('globex')
  globex(@IdpToken('globex') token: IdpToken): Account {
    return { accessToken: token.accessToken };
  }

  @Query(() => Account)
  @UseGuards(GatewayGuard)
  @RequireIdpToken('acme')
  acmeOfGateway(@IdpToken('acme') token: IdpToken): Account {
    return { accessToken: token.accessToken };
  }

  @Query(() => Account)
  @UseGuards(IdpTokenGuard)
  @RequireIdpToken('acme')
  acmeOf(@Args('req') req: ImpostorRequest, @IdpToken('acme') token: IdpToken): Account {
    return { accessToken: `${req.user.sub}: ${token.accessToken}` };
  }

  @Query(() => Account)
  unguarded(@IdpToken('acme') token: IdpToken): Account {
    return { accessToken: token.accessToken };
  }

  @Query(() => Account)
  @UseGuards(KeycloakAuthGuard, IdpTokenGuard)
  @RequireIdpToken('initech')
  initech(): Account {
    return { accessToken: '' };
  }

  @Mutation(() => Boolean)
  @UseInterceptors(QueryRunnerInterceptor)
  async link(@Args('user') user: string, @Args('isRefused') isRefused: boolean): Promise<boolean> {
    await this.tokens.storeIdpTokens(user, 'acme', { accessToken: 'linked' });
    if (isRefused) throw new Error('The account belongs to another user.');
    return true;
  }
}

beforeAll(async () => {
  keycloak = new KeycloakStandIn();
  await keycloak.start();
  database = await createTestDatabase();
  const client = { clientId: 'backend', clientSecret: 'backend-secret' };
  const provider = { tokenEndpoint: 'http://127.0.0.1:9/token', ...client };
  const testing = await Test.createTestingModule({
    imports: [
      TypeOrmModule.forRoot({ type: 'postgres', url: database.url, entities: tokensEntities, retryAttempts: 0 }),
      TokensModule.forRoot({
        encryption: { keys: [TEST_KEY] },
        keycloak: { serverUrl: keycloak.url, realm: 'app', ...client },
        identityProviders: { acme: provider, globex: provider },
      }),
      GraphQLModule.forRoot<ApolloDriverConfig>({
        driver: ApolloDriver,
        autoSchemaFile: true,
        includeStacktraceInErrorResponses: true, // as in development, where most of an error reaches the client
        context: ({ req }: HostContext) => ({ req, gateway: { user: { sub: req.headers['x-user'] } } }),
      }),
    ],
    providers: [AccountsResolver],
  }).compile();
  testing.useLogger(false);
  app = testing.createNestApplication();
  await app.listen(0, '127.0.0.1');
  url = await app.getUrl();
  tokens = app.get(TokenManager);
});

afterAll(async () => {
  await app.close();
  await keycloak.stop();
  await database.drop();
});

beforeEach(async () => {
  await database.query('DELETE FROM auth_tokens');
});

interface Answer {
  readonly data: Record<string, unknown> | null;
  readonly errors?: { readonly message: string; readonly extensions: Record<string, unknown> }[];
}

/** Sends an operation. The answer is everything that the client gets. */
async function send(query: string, headers: Record<string, string> = {}): Promise<Answer & { text: string }> {
  const response = await request(url).post('/graphql').set(headers).send({ query });
  return { ...(response.body as Answer), text: response.text };
}

async function bearer(claims: Record<string, unknown> = {}): Promise<Record<string, string>> {
  return { authorization: `Bearer ${await keycloak.forge(claims)}` };
}

describe('In a GraphQL application', () => {
  it('the guards authenticate the request of the operation and give its user a token', async () => {
    await tokens.storeIdpTokens(keycloak.users.ada.id, 'acme', { accessToken: 'of ada' });
    await tokens.storeIdpTokens(keycloak.users.local.id, 'acme', { accessToken: 'of another user' });
    const { data, errors } = await send('{ acme { accessToken } }', await bearer());
    expect({ data, errors }).toEqual({ data: { acme: { accessToken: 'of ada' } }, errors: undefined });
  });

  it('each of several resolvers of an operation gets the token of its provider', async () => {
    await tokens.storeIdpTokens(keycloak.users.ada.id, 'acme', { accessToken: 'at acme' });
    await tokens.storeIdpTokens(keycloak.users.ada.id, 'globex', { accessToken: 'at globex' });
    const query = '{ globex { accessToken } acme { accessToken } again: acme { accessToken } }';
    const { data } = await send(query, await bearer());
    const acme = { accessToken: 'at acme' };
    expect(data).toEqual({ acme, again: acme, globex: { accessToken: 'at globex' } });
  });

  it('@IdpToken finds the token where a guard of the host found the user', async () => {
    await tokens.storeIdpTokens('ada', 'acme', { accessToken: 'of ada' });
    await tokens.storeIdpTokens('bob', 'acme', { accessToken: 'of bob' });
    const answers = await Promise.all(
      ['ada', 'bob', 'ada'].map((user) => send('{ acmeOfGateway { accessToken } }', { 'x-user': user })),
    );
    expect(answers.map(({ data }) => data)).toEqual(
      ['of ada', 'of bob', 'of ada'].map((accessToken) => ({ acmeOfGateway: { accessToken } })),
    );
  });

  it('a request without a bearer token, or with one that is not good, gets no token', async () => {
    for (const [headers, code] of [
      [{}, 'ERR_TOKENS_AUTHENTICATION_REQUIRED'],
      [{ authorization: 'Bearer garbage' }, 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED'],
      [await bearer({ aud: 'another' }), 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED'],
    ] as const) {
      const { data, errors } = await send('{ acme { accessToken } }', headers);
      expect(data).toBeNull();
      expect(errors).toEqual([expect.objectContaining({ extensions: expect.objectContaining({ code, status: 401 }) })]);
    }
  });

  it('an argument with the form of a request names no user', async () => {
    await tokens.storeIdpTokens('victim', 'acme', { accessToken: 'of the victim' });
    const answer = await send('{ acmeOf(req: { user: { sub: "victim" } }) { accessToken } }');
    expect(answer.data).toBeNull();
    expect(answer.errors).toEqual([expect.objectContaining({ message: 'Unauthorized' })]);
    expect(answer.text).not.toContain('of the victim');
  });

  it('@IdpToken without a guard gives no token', async () => {
    const { data, errors } = await send('{ unguarded { accessToken } }', await bearer());
    expect(data).toBeNull();
    expect(errors).toEqual([
      expect.objectContaining({
        message: 'The server uses its token store wrongly.',
        extensions: expect.objectContaining({ code: 'ERR_TOKENS_USAGE', status: 500 }),
      }),
    ]);
  });

  it('the filter fails the field only, and says what the client may know', async () => {
    const { id } = keycloak.users.ada;
    await tokens.storeIdpTokens(id, 'acme', { accessToken: 'at acme' });
    const missing = await send('{ globex { accessToken } acme { accessToken } }', await bearer());
    expect(missing.data).toEqual({ acme: { accessToken: 'at acme' }, globex: null });
    expect(missing.errors).toEqual([
      expect.objectContaining({
        message: 'Connect the account at the identity provider first.',
        extensions: expect.objectContaining({ code: 'ERR_TOKENS_NOT_FOUND', status: 403, idp: 'globex' }),
      }),
    ]);
    const unknown = await send('{ initech { accessToken } }', await bearer());
    expect(unknown.errors?.[0]?.extensions).toMatchObject({ code: 'ERR_TOKENS_UNSUPPORTED_PROVIDER', idp: 'initech' });
    for (const { text } of [missing, unknown]) {
      expect(text).toContain('stacktrace');
      expect(text).not.toContain(id);
      expect(text).not.toMatch(/no stored tokens|identityProviders|Configured/);
    }
  });

  it('QueryRunnerInterceptor gives a mutation a transaction of its own', async () => {
    const link = (user: string, isRefused: boolean) => `link(user: "${user}", isRefused: ${isRefused})`;
    const both = await send(`mutation { kept: ${link('kept', false)} refused: ${link('refused', true)} }`);
    expect(both.errors).toEqual([expect.objectContaining({ message: 'The account belongs to another user.' })]);
    await expect(database.query('SELECT keycloak_user_id FROM auth_tokens')).resolves.toEqual([
      { keycloak_user_id: 'kept' },
    ]);
    await until(() => connectionsInUse(app.get(DataSource)) === 0);
  });
});
