import { randomBytes } from 'node:crypto';

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Logger as TypeOrmLogger } from 'typeorm';

import {
  AuthTokenStore,
  KeycloakSessions,
  KeycloakUsers,
  TokenManager,
  TokensConfigurationError,
  tokensEntities,
  TokensModule,
} from '../src/index.js';
import { KeycloakStandIn } from './support/keycloak-stand-in.js';
import { everythingPrinted } from './support/secrets.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, type ScriptedAnswer, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

const REDIRECT_URI = 'http://localhost/callback';
const key = newKey();
const retiredKey = newKey();
/** The texts that must not appear in any output. The run adds its tokens. */
const secrets = new Set([key, retiredKey, 'client-secret-of-acme', 'fernet-secret-of-legacy', 'backend-secret']);
const printed: string[] = [];

let database: TestDatabase;
let endpoint: TokenEndpoint;
let keycloak: KeycloakStandIn;
let app: INestApplication;
let tokens: TokenManager;

/** Makes a secret and adds it to `secrets`. */
function secret(name: string): string {
  const value = `${name}-${randomBytes(12).toString('hex')}`;
  secrets.add(value);
  return value;
}

function pairWithSecrets(): ScriptedAnswer {
  return newPair({ access_token: secret('issued-access'), refresh_token: secret('issued-refresh') });
}

/** Records values that are written to the terminal or given to a logger. */
function record(...values: unknown[]): void {
  printed.push(values.map((value) => everythingPrinted(value)).join(' '));
}

const typeOrmLogger: TypeOrmLogger = {
  logQuery: (query, parameters) => {
    record(query, parameters);
  },
  logQueryError: (error, query, parameters) => {
    record(error, query, parameters);
  },
  logQuerySlow: (_, query, parameters) => {
    record(query, parameters);
  },
  logSchemaBuild: record,
  logMigration: record,
  log: record,
};

async function failureOf(call: Promise<unknown>): Promise<void> {
  const error: unknown = await call.then(
    () => new Error('the call was meant to fail'),
    (reason: unknown) => reason,
  );
  expect(error).not.toHaveProperty('message', 'the call was meant to fail');
  record(error);
}

beforeAll(async () => {
  for (const stream of [process.stdout, process.stderr]) {
    const write = stream.write.bind(stream);
    stream.write = (chunk: string | Uint8Array, ...rest: never[]) => {
      printed.push(String(chunk));
      return write(chunk, ...rest);
    };
  }
  database = await createTestDatabase();
  endpoint = await startTokenEndpoint();
  keycloak = new KeycloakStandIn();
  await keycloak.start();
  const testing = await Test.createTestingModule({
    imports: [
      TypeOrmModule.forRoot({
        type: 'postgres',
        url: database.url,
        entities: tokensEntities,
        logging: 'all',
        logger: typeOrmLogger,
      }),
      TokensModule.forRoot({
        encryption: {
          keys: [
            { id: 'current', secret: key },
            { id: 'retired', secret: retiredKey },
            { id: 'legacy', legacyFernetSecret: 'fernet-secret-of-legacy' },
          ],
        },
        identityProviders: {
          acme: {
            clientId: 'client',
            clientSecret: 'client-secret-of-acme',
            tokenEndpoint: endpoint.url,
            revocationEndpoint: `${endpoint.url}/revoke`,
            policy: { exchangeTimeoutMs: 300, leaseMs: 2300 },
          },
        },
        keycloak: { serverUrl: keycloak.url, realm: 'app', clientId: 'backend', clientSecret: 'backend-secret' },
      }),
    ],
  })
    .setLogger({ log: record, error: record, warn: record, debug: record, verbose: record, fatal: record })
    .compile();
  app = testing.createNestApplication();
  await app.init();
  tokens = app.get(TokenManager);
});

afterAll(async () => {
  await app.close();
  await endpoint.close();
  await keycloak.stop();
  await database.drop();
});

describe('a full run with every log switched on', () => {
  it('stores, reads, refreshes, fails, revokes and is misused', async () => {
    const expired = () => ({
      accessToken: secret('access'),
      refreshToken: secret('refresh'),
      accessTokenExpiresAt: 1,
    });
    endpoint.answer = pairWithSecrets;
    await tokens.storeIdpTokens('good', 'acme', expired());
    record(await tokens.getIdpToken('good', 'acme'));
    await tokens.storeOfflineToken('good', secret('offline'));
    await tokens.loadOfflineToken('good');

    const echo: Record<string, ScriptedAnswer | (() => ScriptedAnswer)> = {
      'echo in the error': () => ({ status: 400, body: { error: lastRedeemed(), error_description: lastRedeemed() } }),
      'echo in the body': () => ({ status: 500, body: `no such token: ${lastRedeemed()}` }),
      rejected: { status: 400, body: { error: 'invalid_grant', error_description: 'x' } },
      misconfigured: { status: 401, body: { error: 'invalid_client' } },
      unreadable: { status: 200, body: 'access_token is not here' },
      limited: { status: 429, headers: { 'retry-after': '1' } },
    };
    for (const [user, answer] of Object.entries(echo)) {
      endpoint.answer = () => (typeof answer === 'function' ? (answer as () => ScriptedAnswer)() : answer);
      await tokens.storeIdpTokens(user, 'acme', expired());
      await failureOf(tokens.getIdpToken(user, 'acme'));
    }

    await failureOf(tokens.storeIdpTokens('', 'acme', expired()));
    await failureOf(tokens.storeIdpTokens(secret('a-token-as-user-id').repeat(10), 'acme', expired()));
    await failureOf(tokens.storeIdpTokens('x', 'acme', { accessToken: secret('long').repeat(9999) }));
    await failureOf(tokens.storeIdpTokens('x', 'acme', { ...expired(), accessTokenExpiresAt: -1 }));
    await database.query('ALTER TABLE auth_tokens ADD CONSTRAINT in_the_way CHECK (keycloak_user_id <> $$barred$$)');
    await failureOf(tokens.storeIdpTokens('barred', 'acme', expired()));
    await database.query("UPDATE auth_tokens SET access_token = refresh_token WHERE keycloak_user_id = 'good'");
    await failureOf(tokens.getIdpToken('good', 'acme'));

    endpoint.answerRevocation = () => ({ status: 400, body: 'refused' });
    await tokens.revokeIdpTokens('limited', 'acme');
    await until(async () => (await database.query('SELECT FROM token_revocations')).length === 0);
    endpoint.answerRevocation = () => ({ status: 503 });
    await tokens.revokeIdpTokens('rejected', 'acme');
    await until(() => endpoint.revoked.length === 2);

    for (const service of [tokens, app.get(AuthTokenStore), app.get(TokensModule)]) record(service);
    const boot = Test.createTestingModule({
      imports: [
        // No connection is under way when the boot fails.
        TypeOrmModule.forRoot({ type: 'postgres', entities: tokensEntities, manualInitialization: true }),
        TokensModule.forRoot({
          encryption: {
            keys: [
              { id: 'a b', secret: key },
              { id: 'x', secret: secret('not-base64') },
            ],
          },
          identityProviders: { acme: { clientId: '', clientSecret: secret('client'), tokenEndpoint: secret('url') } },
          keycloak: { serverUrl: secret('server'), realm: '', clientId: 'c', clientSecret: secret('keycloak') },
        }),
      ],
    }).compile();
    await expect(boot).rejects.toThrow(TokensConfigurationError);
    await failureOf(boot);
  });

  it('logs in at Keycloak, imports, rotates offline tokens, and fails there', async () => {
    const sessions = app.get(KeycloakSessions);
    const { ada } = keycloak.users;
    keycloak.revokeRefreshToken = true;
    const login = async () => {
      const issued = await sessions.getKeycloakTokens(await keycloak.logIn('ada', 'offline_access'), REDIRECT_URI);
      record(issued);
      for (const token of [issued?.accessToken, issued?.refreshToken]) secrets.add(token ?? '');
      return issued;
    };
    const issued = await login();
    if (!issued) throw new Error('No tokens were issued.');
    for (const token of Object.values(keycloak.brokered)) if (typeof token === 'string') secrets.add(token);
    await tokens.importIdpTokens(ada.id, 'acme', issued.accessToken);
    await tokens.storeOfflineToken(ada.id, issued.refreshToken);
    record(await tokens.validateOfflineToken(ada.id));
    secrets.add((await tokens.loadOfflineToken(ada.id)) ?? '');
    record(await tokens.getIdpTokenFromIdpUserId(ada.acmeId ?? '', 'acme'));
    secrets.add((await tokens.loadOfflineToken(ada.id)) ?? '');
    for (const fault of ['reset', 500, 401, 403, 400] as const) {
      for (const call of [
        () => sessions.getUserInfo(issued.accessToken),
        () => sessions.refresh(issued.refreshToken),
        () => tokens.importIdpTokens(ada.id, 'acme', issued.accessToken),
        () => tokens.checkOfflineTokenIsActive(ada.id),
        () => sessions.logout(issued.refreshToken),
      ]) {
        keycloak.faults.push(fault);
        await failureOf(call());
      }
    }
    await failureOf(tokens.importIdpTokens('somebody else', 'acme', issued.accessToken));
    await failureOf(sessions.refresh(issued.refreshToken));
    for (const service of [sessions, app.get(KeycloakUsers)]) record(service);
  });

  it('printed no token, no client secret and no key', () => {
    const output = printed.join('\n');
    expect(output).toContain('rejected'); // the recording works, because the output has user ids
    expect(leaked(output)).toEqual([]);
  });

  it('left no token, no client secret and no key in the database', async () => {
    const tables = await database.query(
      "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
    );
    const dumps = await Promise.all(
      tables.map(async ({ table_name }) => JSON.stringify(await database.query(`SELECT * FROM ${String(table_name)}`))),
    );
    expect(dumps.join()).toContain('misconfigured'); // the dump works, because it has rows
    expect(leaked(dumps.join())).toEqual([]);
  });
});

function lastRedeemed(): string {
  return endpoint.redeemed.at(-1) ?? '';
}

/** Returns the secrets that a text contains as they are, in base64 or percent-encoded. */
function leaked(output: string): string[] {
  return [...secrets].filter((value) =>
    [value, Buffer.from(value).toString('base64').replace(/=+$/, ''), encodeURIComponent(value)].some((form) =>
      output.includes(form),
    ),
  );
}
