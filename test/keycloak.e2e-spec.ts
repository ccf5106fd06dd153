import { createHmac, createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request as httpRequest } from 'node:http';

import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { decodeJwt } from 'jose';
import pg from 'pg';
import request from 'supertest';
import type { DataSource } from 'typeorm';

import {
  InvalidTokenInputError,
  KeycloakMisconfiguredError,
  KeycloakSessionExpiredError,
  KeycloakSessions,
  type KeycloakModuleOptions,
  type KeycloakTokens,
  KeycloakUnavailableError,
  KeycloakUsers,
  OfflineTokenStore,
  QueryRunnerScope,
  ReauthenticationRequiredError,
  TokenManager,
  TokensConfigurationError,
  TokensNotFoundError,
} from '../src/index.js';
import { RefreshFlights } from '../src/refresh/refresh-flights.js';
import { DatabaseProxy } from './support/database-proxy.js';
import { httpPlatforms, startHttpHost } from './support/http-host.js';
import { askEverything } from './support/keycloak-answers.js';
import { KeycloakMeController } from './support/keycloak-me.controller.js';
import { type KeycloakFault, KeycloakStandIn } from './support/keycloak-stand-in.js';
import { everythingPrinted } from './support/secrets.js';
import { statementName } from './support/statement-name.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from './support/test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './support/token-endpoint.js';
import { createTokensApp, newKey } from './support/tokens-app.js';
import { until } from './support/until.js';

const keys = [{ id: 'test', secret: newKey() }];
const REDIRECT_URI = 'http://localhost/callback';

let keycloak: KeycloakStandIn;
let endpoint: TokenEndpoint;
let database: TestDatabase;
let dataSource: DataSource;
let app: INestApplication;
const apps: INestApplication[] = [];
const proxies: DatabaseProxy[] = [];
let tokens: TokenManager;
let sessions: KeycloakSessions;
let users: KeycloakUsers;

function options(overrides: Partial<KeycloakModuleOptions> = {}) {
  const client = { clientId: 'backend', clientSecret: 'backend-secret' };
  return {
    encryption: { keys },
    keycloak: { serverUrl: keycloak.url, realm: 'app', ...client, timeoutMs: 1500, ...overrides },
    identityProviders: {
      acme: { tokenEndpoint: endpoint.url, clientId: 'broker', clientSecret: 'broker-secret' },
      nope: { tokenEndpoint: endpoint.url, clientId: 'broker', clientSecret: 'broker-secret' },
    },
    refresh: { commitWaitMs: 300 },
  };
}

async function startApp(overrides: Partial<KeycloakModuleOptions> = {}): Promise<INestApplication> {
  const started = await createTokensApp({ databaseUrl: database.url, options: options(overrides) });
  apps.push(started.app);
  return started.app;
}

/** Starts an application whose connection to the database a test can break. */
async function startBehindProxy(): Promise<{ app: INestApplication; manager: TokenManager; proxy: DatabaseProxy }> {
  const proxy = new DatabaseProxy(database.url);
  proxies.push(proxy);
  const started = await createTokensApp({ databaseUrl: await proxy.open(), options: options() });
  apps.push(started.app);
  return { app: started.app, manager: started.app.get(TokenManager), proxy };
}

beforeAll(async () => {
  keycloak = new KeycloakStandIn();
  await keycloak.start();
  endpoint = await startTokenEndpoint();
  database = await createTestDatabase();
  ({ app, dataSource } = await createTokensApp({ databaseUrl: database.url, options: options() }));
  apps.push(app);
  tokens = app.get(TokenManager);
  sessions = app.get(KeycloakSessions);
  users = app.get(KeycloakUsers);
});

afterAll(async () => {
  await Promise.all(apps.map((each) => each.close()));
  await Promise.all(proxies.map((each) => each.close()));
  await endpoint.close();
  await keycloak.stop();
  await database.drop();
});

beforeEach(async () => {
  await database.query('DELETE FROM auth_tokens');
  await database.query('DELETE FROM offline_tokens');
  await database.query('DELETE FROM disconnected_accounts');
  keycloak.revokeRefreshToken = false;
  keycloak.redemptions = 0;
  keycloak.beforeRefreshing = undefined;
  keycloak.requests.length = 0;
  keycloak.faults.length = 0;
  endpoint.answer = () => newPair();
});

async function logIn(user: 'ada' | 'local' | 'unreadable' = 'ada', scope?: string): Promise<KeycloakTokens> {
  const issued = await sessions.getKeycloakTokens(await keycloak.logIn(user, scope), REDIRECT_URI);
  if (!issued) throw new Error('No tokens were issued.');
  return issued;
}

/** Stores an offline token for Ada and returns her id. */
async function adaOffline(): Promise<string> {
  const { id } = keycloak.users.ada;
  await tokens.storeOfflineToken(id, (await logIn('ada', 'openid offline_access')).refreshToken);
  return id;
}

/** Delays the next answer of a path until `happens` has ended. */
function beforeAnswerOf(pathEnd: string, happens: () => Promise<unknown>): void {
  const { fetch } = globalThis;
  const spy = jest.spyOn(globalThis, 'fetch').mockImplementation(async (...request) => {
    const response = await fetch(...request);
    if (!response.url.endsWith(pathEnd)) return response;
    spy.mockRestore();
    await happens();
    return response;
  });
}

/** Answers the next request in the place of Keycloak. */
function answerNext(body: string, init: ResponseInit = {}): void {
  const spy = jest.spyOn(globalThis, 'fetch').mockImplementation(() => {
    spy.mockRestore();
    return Promise.resolve(new Response(body, init));
  });
}

async function failureOf(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('the stand-in', () => {
  it('answers as a Keycloak did when it was recorded', async () => {
    const recorded: unknown = JSON.parse(await readFile(new URL('./keycloak/answers.json', import.meta.url), 'utf8'));
    await expect(askEverything(keycloak)).resolves.toEqual(recorded);
  });
});

describe('without a realm in the options', () => {
  it('everything that asks Keycloak says what is missing, and everything else works', async () => {
    const { app: other } = await createTokensApp({
      databaseUrl: database.url,
      options: { ...options(), keycloak: undefined },
    });
    apps.push(other);
    for (const call of [
      () => other.get(KeycloakSessions).getKeycloakTokens('code', REDIRECT_URI),
      () => other.get(KeycloakUsers).getUserIdFromUserEmail('ada@example.com'),
      () => other.get(TokenManager).importIdpTokens('ada', 'acme', 'token'),
    ]) {
      const failure = await failureOf(call());
      expect(failure).toBeInstanceOf(TokensConfigurationError);
      expect(String(failure)).toMatch(/Add keycloak: \{ serverUrl, realm, clientId, clientSecret \}/);
    }
    await other.get(TokenManager).storeIdpTokens('ada', 'acme', { accessToken: 'works' });
    await expect(other.get(TokenManager).getIdpToken('ada', 'acme')).resolves.toMatchObject({ accessToken: 'works' });
  });
});

describe('a session', () => {
  it('begins with a code, prints redacted, and goes on with what a refresh brings', async () => {
    const issued = await logIn();
    expect(everythingPrinted(issued)).not.toContain('eyJ');
    await expect(sessions.getUserInfo(issued.accessToken)).resolves.toMatchObject({ email: 'ada@example.com' });
    await expect(sessions.getUserInfo('')).resolves.toEqual({});
    await expect(sessions.verifyKeycloakToken(issued.accessToken, issued.refreshToken)).resolves.toMatchObject({
      accessToken: issued.accessToken,
      refreshToken: issued.refreshToken,
    });
    const refreshed = await sessions.verifyKeycloakToken('expired', issued.refreshToken);
    await expect(sessions.getUserInfo(refreshed.accessToken)).resolves.toMatchObject({ sub: keycloak.users.ada.id });
  });

  it('is none where Keycloak issues no refresh token', async () => {
    await sessions.getUserInfo((await logIn()).accessToken); // fetches the metadata
    answerNext('{"access_token":"a"}');
    await expect(sessions.getKeycloakTokens('code', REDIRECT_URI)).resolves.toBeNull();
  });

  it('goes on with a refresh where the host has no access token any more', async () => {
    const { refreshToken } = await logIn();
    await expect(sessions.verifyKeycloakToken('', refreshToken)).resolves.toBeDefined();
  });

  it('survives that one process refreshes it many times at once, with Revoke Refresh Token on', async () => {
    keycloak.revokeRefreshToken = true;
    const { refreshToken } = await logIn();
    const refreshed = await Promise.all(Array.from({ length: 20 }, () => sessions.refresh(refreshToken)));
    expect(keycloak.redemptions).toBe(1);
    expect(new Set(refreshed.map((each) => each.refreshToken)).size).toBe(1);
    await expect(sessions.refresh(refreshed[0]?.refreshToken ?? '')).resolves.toBeDefined();
    await expect(sessions.refresh(refreshToken)).rejects.toThrow(KeycloakSessionExpiredError);
  });

  it('is over after a logout', async () => {
    const issued = await logIn();
    await sessions.logout(issued.refreshToken);
    await expect(sessions.refresh(issued.refreshToken)).rejects.toThrow(KeycloakSessionExpiredError);
    await expect(sessions.getUserInfo(issued.accessToken)).rejects.toThrow(KeycloakSessionExpiredError);
  });

  it('is not over when something else than Keycloak answers the logout', async () => {
    const { refreshToken } = await logIn();
    answerNext('<!DOCTYPE html>');
    await expect(sessions.logout(refreshToken)).rejects.toThrow(KeycloakUnavailableError);
  });

  it.each([
    'Incorrect redirect_uri',
    "Invalid token issuer. Expected 'https://x'",
    "Token client and authorized client don't match",
  ])('that cannot go on because of "%s" is the operator’s to put right, not the user’s', async (description) => {
    answerNext(JSON.stringify({ error: 'invalid_grant', error_description: description }), { status: 400 });
    const failure = await failureOf(sessions.refresh('token'));
    expect(failure).toBeInstanceOf(KeycloakMisconfiguredError);
    expect(String(failure)).toMatch(/with "invalid_grant"\. It says that the (redirect URI|token) /);
  });

  it('of a server that redirects says to check its URL', async () => {
    answerNext('', { status: 302, headers: { location: 'https://elsewhere' } });
    const failure = await failureOf(sessions.getUserInfo('token'));
    expect(failure).toBeInstanceOf(KeycloakMisconfiguredError);
    expect(String(failure)).toMatch(/redirects .* \(status 302\).*Check keycloak.serverUrl/);
  });

  it('whose access token lacks the scope openid says so', async () => {
    answerNext('', { status: 403 });
    const failure = await failureOf(sessions.getUserInfo('token'));
    expect(failure).toBeInstanceOf(KeycloakMisconfiguredError);
    expect(String(failure)).toMatch(/with scope "openid"/);
  });

  it.each(['eyJsecret\nsecret', 'eyJsecret\u20ac', 'eyJ secret'])(
    'of what cannot be a token (%j) is over, and not quoted',
    async (token) => {
      for (const call of [
        () => sessions.getUserInfo(token),
        () => tokens.getIdpTokenForAccessToken(token, 'acme'),
        () => tokens.importIdpTokens(keycloak.users.ada.id, 'acme', token),
      ]) {
        const failure = await failureOf(call());
        expect(failure).toBeInstanceOf(KeycloakSessionExpiredError);
        expect(everythingPrinted(failure)).not.toContain('secret');
      }
    },
  );

  it.each([
    [{ clientSecret: 'wrong' }, /refused client "backend" at the token endpoint with "unauthorized_client"/],
    [{ clientId: 'nobody' }, /refused client "nobody" at the token endpoint with "invalid_client"/],
    [{ realm: 'nowhere' }, /no realm at .*\/realms\/nowhere. Check keycloak.serverUrl and keycloak.realm/],
    [{ issuer: 'https://public.example/realms/app' }, /under another issuer .* Set keycloak.issuer/],
  ])('does not begin with the options %j, which is the operator’s to put right', async (wrong, message) => {
    const other = (await startApp(wrong)).get(KeycloakSessions);
    const failure = await failureOf(other.getKeycloakTokens(await keycloak.logIn('ada'), REDIRECT_URI));
    expect(failure).toBeInstanceOf(KeycloakMisconfiguredError);
    expect(String(failure)).toMatch(message);
    expect(everythingPrinted(failure)).not.toMatch(/backend-secret|"wrong"/);
  });
});

describe('an outage', () => {
  const faults: [string, KeycloakFault][] = [
    ['a connection that is reset', 'reset'],
    ['an answer that is lost', 'reset-after-serving'],
    ['a server that says nothing', 'hang'],
    ['status 500', 500],
    ['status 502', 502],
    ['status 503', 503],
    ['status 429', 429],
    ['status 408', 408],
    ['status 425', 425],
    ['an empty answer', 200],
  ];

  it.each(faults)('of the kind "%s" is an error of its own, after one request, for every call', async (_, fault) => {
    const issued = await logIn('ada', 'openid offline_access');
    const user = keycloak.users.ada.id;
    await tokens.storeOfflineToken(user, issued.refreshToken);
    const calls = [
      () => sessions.getKeycloakTokens('code', REDIRECT_URI),
      () => sessions.getUserInfo(issued.accessToken),
      () => sessions.refresh(issued.refreshToken),
      () => tokens.importIdpTokens(user, 'acme', issued.accessToken),
      () => tokens.validateOfflineToken(user),
      () => tokens.checkOfflineTokenIsActive(user),
      () => tokens.getIdpTokenForAccessToken(issued.accessToken, 'acme'),
    ];
    for (const call of fault === 'hang' ? calls.slice(0, 2) : calls) {
      const before = keycloak.requests.length;
      keycloak.faults.push(fault);
      const failure = await failureOf(call());
      expect(failure).toBeInstanceOf(KeycloakUnavailableError);
      expect(failure).toMatchObject({ retryable: true });
      expect(everythingPrinted(failure)).not.toMatch(/eyJ|backend-secret/);
      expect(keycloak.requests.length - before).toBeLessThanOrEqual(1);
      expect(keycloak.faults).toEqual([]);
    }
    await expect(tokens.loadOfflineToken(user)).resolves.not.toBeNull();
  });

  it('before a connection is made is tried a second time, once', async () => {
    const { port } = new URL(keycloak.url);
    await logIn(); // fetches the metadata
    await keycloak.stop();
    // The first requests use connections that were open, and these fail with other errors.
    await until(async () => String(await failureOf(sessions.getUserInfo('token'))).includes('ECONNREFUSED'));
    const fetches = jest.spyOn(globalThis, 'fetch');
    await expect(sessions.getUserInfo('token')).rejects.toThrow(/no usable answer \(ECONNREFUSED\)/);
    expect(fetches).toHaveBeenCalledTimes(2);
    fetches.mockRestore();
    await keycloak.start(Number(port));
    await expect(logIn()).resolves.toBeDefined();
  });

  it('when the metadata are asked for is not remembered', async () => {
    const other = (await startApp()).get(KeycloakSessions);
    keycloak.faults.push(503);
    await expect(other.getUserInfo('token')).rejects.toThrow(KeycloakUnavailableError);
    await expect(other.getUserInfo('token')).rejects.toThrow(KeycloakSessionExpiredError);
    await expect(other.getUserInfo('token')).rejects.toThrow(KeycloakSessionExpiredError);
    expect(keycloak.requests.filter((path) => path.includes('.well-known'))).toHaveLength(2);
  });
});

describe('an import', () => {
  const ada = () => keycloak.users.ada.id;

  it('takes the pair over with the expiry that Keycloak names, and again only when it is newer', async () => {
    await keycloak.logInAtProvider(3600);
    const { accessToken } = await logIn();
    await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(true);
    await expect(tokens.getIdpToken(ada(), 'acme')).resolves.toMatchObject({
      accessToken: keycloak.brokered.accessToken,
      expiresAt: keycloak.brokered.expiresAt,
    });
    await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(false);
    await keycloak.logInAtProvider(3601);
    await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(true);
    await expect(tokens.getIdpToken(ada(), 'acme')).resolves.toMatchObject({
      accessToken: keycloak.brokered.accessToken,
    });
  });

  it('never overwrites what was refreshed here since, nor a newer login, nor ends the refresh under way', async () => {
    await keycloak.logInAtProvider(100);
    const { accessToken } = await logIn();
    await tokens.importIdpTokens(ada(), 'acme', accessToken);
    const imported = await tokens.getIdpToken(ada(), 'acme');
    endpoint.answer = async () => {
      await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(false);
      return newPair({ access_token: 'refreshed-here', expires_in: 7200 });
    };
    await expect(tokens.getIdpToken(ada(), 'acme', { rejectedVersion: imported.version })).resolves.toMatchObject({
      accessToken: 'refreshed-here',
    });
    await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(false);
    await expect(tokens.getIdpToken(ada(), 'acme')).resolves.toMatchObject({ accessToken: 'refreshed-here' });
  });

  it('of a pair without an expiry replaces a login and not what was refreshed here', async () => {
    const { accessToken } = await logIn();
    const bodies = ['access_token=from-a-form&scope=repo&token_type=bearer', '{"access_token":"from-json"}'];
    for (const body of bodies) {
      const fetches = jest.spyOn(globalThis, 'fetch').mockResolvedValueOnce(new Response(body));
      await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(true);
      fetches.mockRestore();
    }
    await expect(tokens.getIdpToken(ada(), 'acme')).resolves.toMatchObject({ accessToken: 'from-json', expiresAt: 0 });
    await database.query('UPDATE auth_tokens SET parent_version = 1');
    const fetches = jest.spyOn(globalThis, 'fetch').mockResolvedValueOnce(new Response(bodies[0]));
    await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(false);
    fetches.mockRestore();
  });

  it('of a pair whose issue Keycloak does not name, as GitHub’s, never overwrites what was refreshed here, nor renews an expiry', async () => {
    const { accessToken } = await logIn();
    const form =
      'access_token=ghu_P1&expires_in=28800&refresh_token=ghr_R1&refresh_token_expires_in=15897600&token_type=bearer';
    const importForm = (body: string) => {
      answerNext(body);
      return tokens.importIdpTokens(ada(), 'acme', accessToken);
    };
    await expect(importForm(form)).resolves.toBe(true);
    await database.query('UPDATE auth_tokens SET access_token_expires_at = access_token_expires_at - 100');
    const imported = await tokens.getIdpToken(ada(), 'acme');
    await expect(importForm(form)).resolves.toBe(false);
    await expect(tokens.getIdpToken(ada(), 'acme')).resolves.toEqual(imported);

    endpoint.answer = () => newPair({ access_token: 'refreshed-here', expires_in: 7200 });
    const refreshed = await tokens.getIdpToken(ada(), 'acme', { rejectedVersion: imported.version });
    await expect(importForm(form)).resolves.toBe(false);
    await expect(tokens.getIdpToken(ada(), 'acme')).resolves.toEqual(refreshed);

    await database.query("UPDATE auth_tokens SET status = 'reauthentication_required'");
    await expect(importForm(form.replaceAll('1&', '9&'))).resolves.toBe(true);
    await expect(tokens.getIdpToken(ada(), 'acme')).resolves.toMatchObject({ accessToken: 'ghu_P9' });
  });

  it('never overwrites a refreshed pair that expires earlier than Keycloak’s copy of the one before', async () => {
    await keycloak.logInAtProvider(7200);
    const { accessToken } = await logIn();
    await tokens.importIdpTokens(ada(), 'acme', accessToken);
    const { version } = await tokens.getIdpToken(ada(), 'acme');
    endpoint.answer = () => newPair({ access_token: 'short-lived', expires_in: 600 });
    await tokens.getIdpToken(ada(), 'acme', { rejectedVersion: version });
    await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(false);
    await expect(tokens.getIdpToken(ada(), 'acme')).resolves.toMatchObject({ accessToken: 'short-lived' });
  });

  it('of a pair without a refresh token does not erase the one that stands', async () => {
    await tokens.storeIdpTokens(ada(), 'acme', { accessToken: 'old', refreshToken: 'offline' });
    const { accessToken } = await logIn();
    answerNext('{"access_token":"new"}');
    await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(false);
    await expect(tokens.getIdpToken(ada(), 'acme')).resolves.toMatchObject({ accessToken: 'old' });
  });

  it('spends no identity value when it replaces a pair, or replaces none', async () => {
    const { accessToken } = await logIn();
    const importToken = (token: string) => {
      answerNext(`{"access_token":"${token}"}`);
      return tokens.importIdpTokens(ada(), 'acme', accessToken);
    };
    await importToken('first');
    const sequence = "SELECT last_value FROM pg_sequences WHERE sequencename = 'auth_tokens_id_seq'";
    const [before] = await database.query(sequence);
    expect(before).toEqual({ last_value: expect.anything() });
    for (const token of ['second', 'second', 'third']) await importToken(token);
    const [after] = await database.query(sequence);
    expect(after).toEqual(before);
    await expect(tokens.getIdpToken(ada(), 'acme')).resolves.toMatchObject({ accessToken: 'third' });
  });

  it.each([
    [400, 'Identity Provider [acme] does not support this operation.'],
    [404, 'No token stored for user ada'],
  ])('has nothing to take over when the broker answers %d "%s"', async (status, errorMessage) => {
    const { accessToken } = await logIn();
    answerNext(JSON.stringify({ errorMessage }), { status });
    await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(false);
  });

  it('by itself is seen by all who share it, also when the transaction of the first is rolled back', async () => {
    await keycloak.logInAtProvider(3600);
    const { accessToken } = await logIn();
    const scope = app.get(QueryRunnerScope);
    const call = () => tokens.getIdpTokenForAccessToken(accessToken, 'acme');
    const rolledBack = scope.run(async () => {
      await call();
      throw new Error('rolled back on purpose');
    });
    const all = await Promise.allSettled([rolledBack, scope.run(call, { lazy: true }), scope.run(call), call()]);
    expect(all.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled', 'fulfilled']);
    expect(all[0]).toMatchObject({ reason: { message: 'rolled back on purpose' } });
  });

  it('does not happen for the access token of another client', async () => {
    const { accessToken } = await logIn();
    const { sid } = decodeJwt(accessToken);
    const foreign = await keycloak.forge({ sid, azp: 'other', aud: ['other', 'account'] });
    await expect(sessions.getUserInfo(foreign)).resolves.toBeDefined();
    await expect(tokens.getIdpTokenForAccessToken(foreign, 'acme')).rejects.toThrow(/issued to another client/);
    const shared = await keycloak.forge({ sid, azp: 'other', aud: ['other', 'backend'] });
    await expect(tokens.getIdpTokenForAccessToken(shared, 'acme')).resolves.toBeDefined();
  });

  it('asks Keycloak whose an access token is that does not say so', async () => {
    const { accessToken } = await logIn();
    const { sid } = decodeJwt(accessToken);
    const lightweight = await keycloak.forge({ sid, sub: undefined });
    await expect(tokens.importIdpTokens('bob', 'acme', lightweight)).rejects.toThrow(InvalidTokenInputError);
    await expect(tokens.importIdpTokens(ada(), 'acme', lightweight)).resolves.toBe(true);
  });

  it('joins a transaction', async () => {
    const { accessToken } = await logIn();
    const run = app.get(QueryRunnerScope).run(async () => {
      await expect(tokens.importIdpTokens(ada(), 'acme', accessToken)).resolves.toBe(true);
      throw new Error('rolled back on purpose');
    });
    await expect(run).rejects.toThrow('rolled back on purpose');
    await expect(tokens.getIdpToken(ada(), 'acme')).rejects.toThrow(TokensNotFoundError);
    await until(() => connectionsInUse(dataSource) === 0);
  });

  it('tells nothing to import from a missing role, an unknown alias and a foreign token', async () => {
    const local = await logIn('local');
    await expect(tokens.importIdpTokens(keycloak.users.local.id, 'acme', local.accessToken)).resolves.toBe(false);
    const unreadable = await logIn('unreadable');
    const refused = tokens.importIdpTokens(keycloak.users.unreadable.id, 'acme', unreadable.accessToken);
    await expect(refused).rejects.toThrow(/Give the users the role read-token of the client broker/);
    await expect(refused).rejects.toThrow(KeycloakMisconfiguredError);
    const issued = await logIn();
    await expect(tokens.importIdpTokens(ada(), 'nope', issued.accessToken)).rejects.toThrow(KeycloakUnavailableError);
    await expect(tokens.importIdpTokens('bob', 'acme', issued.accessToken)).rejects.toThrow(InvalidTokenInputError);
    await expect(tokens.importIdpTokens(ada(), 'acme', 'garbage')).rejects.toThrow(KeycloakSessionExpiredError);
  });

  it('asks the broker once for all who have nothing stored', async () => {
    await keycloak.logInAtProvider(3600);
    const { accessToken } = await logIn();
    keycloak.requests.length = 0;
    const found = await Promise.all(
      Array.from({ length: 50 }, () => tokens.getIdpTokenForAccessToken(accessToken, 'acme')),
    );
    expect(new Set(found.map(({ version }) => version)).size).toBe(1);
    expect(keycloak.requests.filter((path) => path.includes('/broker/'))).toHaveLength(1);
    await tokens.getIdpTokenForAccessToken(accessToken, 'acme');
    expect(keycloak.requests.filter((path) => path.includes('/broker/'))).toHaveLength(1);
  });

  it('takes no refresh token where Keycloak refreshes, and the next access token when one is stale', async () => {
    const other = (await startApp({ refreshOwner: 'keycloak' })).get(TokenManager);
    await keycloak.logInAtProvider(100);
    const { accessToken } = await logIn();
    await other.getIdpTokenForAccessToken(accessToken, 'acme');
    const [row] = await database.query('SELECT refresh_token FROM auth_tokens');
    expect(row).toEqual({ refresh_token: '' });
    await database.query('UPDATE auth_tokens SET access_token_expires_at = 1');
    await expect(other.getIdpToken(ada(), 'acme')).rejects.toThrow(ReauthenticationRequiredError);
    await keycloak.logInAtProvider(200);
    await expect(other.getIdpTokenForAccessToken(accessToken, 'acme')).resolves.toMatchObject({
      accessToken: keycloak.brokered.accessToken,
    });
    expect(endpoint.redeemed).toEqual(endpoint.redeemed.filter((token) => token !== keycloak.brokered.refreshToken));
  });
});

describe.each([false, true])('an offline token, with Revoke Refresh Token %s', (revokeRefreshToken) => {
  beforeEach(() => {
    keycloak.revokeRefreshToken = revokeRefreshToken;
  });

  it('is redeemed by one at a time, of all applications, and its successor stored', async () => {
    const user = await adaOffline();
    const managers = [tokens, (await startApp()).get(TokenManager), (await startApp()).get(TokenManager)];
    // Keycloak answers when all callers have joined. A caller that loads the row after the flight would redeem again.
    const joins = jest.spyOn(RefreshFlights.prototype, 'join');
    keycloak.beforeRefreshing = () => until(() => joins.mock.calls.length >= 60);
    try {
      for (let round = 0; round < 3; round++) {
        joins.mockClear();
        const valid = await Promise.all(
          managers.flatMap((manager) => Array.from({ length: 20 }, () => manager.validateOfflineToken(user))),
        );
        expect(new Set(valid)).toEqual(new Set([true]));
      }
    } finally {
      keycloak.beforeRefreshing = undefined;
      joins.mockRestore();
    }
    expect(keycloak.redemptions).toBe(9); // one request for each application and round
    await expect(tokens.checkOfflineTokenIsActive(user)).resolves.toBe(true);
    const [row] = await database.query('SELECT lease_id, lease_expires_at FROM offline_tokens');
    expect(row).toEqual({ lease_id: null, lease_expires_at: null });
  });

  it('gets provider tokens, by itself and by the id of the user at the provider', async () => {
    const user = await adaOffline();
    const offlineToken = (await tokens.loadOfflineToken(user)) ?? '';
    const found = await tokens.getIdpTokenFromOfflineToken(offlineToken, 'acme');
    const again = await tokens.getIdpTokenFromIdpUserId(keycloak.users.ada.acmeId ?? '', 'acme');
    expect(again.version).toBe(found.version);
    await expect(tokens.getIdpTokenFromIdpUserId('nobody', 'acme')).rejects.toThrow(TokensNotFoundError);
    await expect(tokens.getIdpTokenFromOfflineToken('garbage', 'acme')).rejects.toThrow(KeycloakSessionExpiredError);
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(true);
  });

  it('is stored when it is passed and none is', async () => {
    const { refreshToken } = await logIn('ada', 'openid offline_access');
    await tokens.getIdpTokenFromOfflineToken(refreshToken, 'acme');
    await expect(tokens.checkOfflineTokenIsActive(keycloak.users.ada.id)).resolves.toBe(true);
  });

  it('that is passed never takes the place of a successor that was stored meanwhile', async () => {
    const { refreshToken } = await logIn('ada', 'openid offline_access');
    beforeAnswerOf('/introspect', () => tokens.getIdpTokenFromOfflineToken(refreshToken, 'acme'));
    await expect(tokens.getIdpTokenFromOfflineToken(refreshToken, 'acme')).resolves.toBeDefined();
    await expect(tokens.validateOfflineToken(keycloak.users.ada.id)).resolves.toBe(true);
  });

  it('that is passed takes the place of one whose session is over', async () => {
    const user = await adaOffline();
    keycloak.endSessions(keycloak.users.ada);
    const { refreshToken } = await logIn('ada', 'openid offline_access');
    const all = Array.from({ length: 5 }, () => tokens.getIdpTokenFromOfflineToken(refreshToken, 'acme'));
    await expect(Promise.all(all)).resolves.toHaveLength(5);
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(true);
  });

  it('works inside of a transaction, whose rollback does not take it away', async () => {
    const { refreshToken } = await logIn('ada', 'openid offline_access');
    const run = app.get(QueryRunnerScope).run(async () => {
      await tokens.getIdpTokenFromOfflineToken(refreshToken, 'acme');
      throw new Error('rolled back on purpose');
    });
    await expect(run).rejects.toThrow('rolled back on purpose');
    await expect(tokens.validateOfflineToken(keycloak.users.ada.id)).resolves.toBe(true);
  });

  it('that was stored in the current transaction must be committed first, which is said at once', async () => {
    const { refreshToken } = await logIn('ada', 'openid offline_access');
    const { id, acmeId = '' } = keycloak.users.ada;
    await app.get(QueryRunnerScope).run(async () => {
      await tokens.storeOfflineToken(id, refreshToken);
      await expect(tokens.checkOfflineTokenIsActive(id)).resolves.toBe(true);
      for (const call of [
        () => tokens.validateOfflineToken(id),
        () => tokens.getIdpTokenFromIdpUserId(acmeId, 'acme'),
        () => tokens.getIdpTokenFromOfflineToken(refreshToken, 'acme'),
      ]) {
        await expect(call()).rejects.toThrow(/stored in the current transaction\. Commit it before/);
      }
    });
    await expect(tokens.validateOfflineToken(id)).resolves.toBe(true);
  });

  it('of an ended session is invalid and inactive, and stays stored', async () => {
    const user = await adaOffline();
    keycloak.endSessions(keycloak.users.ada);
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(false);
    await expect(tokens.checkOfflineTokenIsActive(user)).resolves.toBe(false);
    await expect(tokens.getIdpTokenFromIdpUserId(keycloak.users.ada.acmeId ?? '', 'acme')).rejects.toThrow(
      KeycloakSessionExpiredError,
    );
    await expect(tokens.loadOfflineToken(user)).resolves.not.toBeNull();
  });
});

describe('a refresh token of a session', () => {
  it('is not taken for an offline token', async () => {
    const { refreshToken } = await logIn();
    await expect(tokens.getIdpTokenFromOfflineToken(refreshToken, 'acme')).rejects.toThrow(/is not an offline token/);
    await expect(tokens.loadOfflineToken(keycloak.users.ada.id)).resolves.toBeNull();
  });
});

describe('the successor of an offline token', () => {
  beforeEach(() => {
    keycloak.revokeRefreshToken = true;
  });

  it('is stored in the end when the database is out of reach, and callers get their access token meanwhile', async () => {
    const user = await adaOffline();
    const { manager, proxy } = await startBehindProxy();
    await manager.loadOfflineToken(user);
    beforeAnswerOf('/token', () => proxy.close());
    await expect(manager.validateOfflineToken(user)).resolves.toBe(true);
    await proxy.open();
    await until(async () => (await database.query('SELECT FROM offline_tokens WHERE lease_id IS NULL')).length === 1);
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(true);
  });

  it('gives way to a login that came meanwhile', async () => {
    const user = await adaOffline();
    const next = await logIn('ada', 'openid offline_access');
    beforeAnswerOf('/token', () => tokens.storeOfflineToken(user, next.refreshToken));
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(true);
    await expect(tokens.loadOfflineToken(user)).resolves.toBe(next.refreshToken);
  });

  it('is waited for by app.close()', async () => {
    const user = await adaOffline();
    const other = await startApp();
    keycloak.requests.length = 0;
    const validation = other.get(TokenManager).validateOfflineToken(user);
    await until(() => keycloak.requests.some((path) => path.endsWith('/token')));
    await other.close();
    await expect(validation).resolves.toBe(true);
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(true);
  });

  it('is waited for by app.close() while the database is away', async () => {
    const user = await adaOffline();
    const { app: cut, manager, proxy } = await startBehindProxy();
    await manager.loadOfflineToken(user);
    let closing: Promise<void> | undefined;
    beforeAnswerOf('/token', async () => {
      closing = cut.close();
      await proxy.close();
      setTimeout(() => void proxy.open(), 1500);
    });
    await expect(manager.validateOfflineToken(user)).resolves.toBe(true);
    await closing;
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(true);
  });

  it('is not waited for when the answer that grants the lease is lost: the lease is asked for again', async () => {
    const user = await adaOffline();
    const { manager, proxy } = await startBehindProxy();
    await manager.validateOfflineToken(user);
    let isLost = false;
    const query = Reflect.get(pg.Client.prototype, 'query') as (...args: unknown[]) => unknown;
    const spy = jest.spyOn(pg.Client.prototype, 'query').mockImplementation(function (
      this: pg.Client,
      ...args: unknown[]
    ) {
      if (statementName(args[0])?.startsWith('idp_tokens_acquire_offline')) {
        spy.mockRestore();
        isLost = true;
        proxy.loseAnswers();
      }
      return query.apply(this, args) as never;
    });
    const startedAt = performance.now();
    await expect(manager.validateOfflineToken(user)).resolves.toBe(true);
    expect(performance.now() - startedAt).toBeLessThan(2000);
    expect(isLost).toBe(true);
  });

  it('is not lost to a transaction of the host that has the row', async () => {
    const user = await adaOffline();
    const blocker = dataSource.createQueryRunner();
    await blocker.startTransaction();
    await blocker.query('UPDATE offline_tokens SET updated_at = now()');
    const validation = tokens.validateOfflineToken(user);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(keycloak.redemptions).toBe(0); // without a lease the module sends nothing
    await blocker.rollbackTransaction();
    await blocker.release();
    await expect(validation).resolves.toBe(true);
  });

  it('is taken up after a holder that died, when its lease has run out', async () => {
    const user = await adaOffline();
    const stored = (await app.get(OfflineTokenStore).loadToken(user)) ?? '';
    await database.query(`UPDATE offline_tokens SET lease_id = 1, lease_expires_at = now() + interval '500 ms'`);
    const startedAt = performance.now();
    await expect(tokens.validateOfflineToken(user)).resolves.toBe(true);
    expect(performance.now() - startedAt).toBeGreaterThan(400);
    expect(keycloak.redemptions).toBe(1);
    await expect(app.get(OfflineTokenStore).loadToken(user)).resolves.not.toBe(stored);
  });
});

describe('users', () => {
  it('are found exactly, or not at all', async () => {
    const { id, acmeId = '' } = keycloak.users.ada;
    await expect(users.getUserIdFromUserEmail('ADA@example.com')).resolves.toBe(id);
    await expect(users.getUserIdFromUserEmail('da@example.com')).resolves.toBeNull();
    await expect(users.getUserIdFromIdpUserId(acmeId, 'acme')).resolves.toBe(id);
    await expect(users.getUserIdFromIdpUserId('nobody', 'acme')).resolves.toBeNull();
    await expect(users.getUserInfoFromUserId(id)).resolves.toMatchObject({ email: 'ada@example.com' });
    await expect(users.getUserInfoFromUserId('nobody')).resolves.toBeNull();
    for (const call of [
      () => users.getUserIdFromUserEmail(''),
      () => users.getUserIdFromIdpUserId('', 'acme'),
      () => users.getUserInfoFromUserId(''),
    ]) {
      await expect(call()).rejects.toThrow(InvalidTokenInputError);
    }
  });

  it('are not what Keycloak keeps at other paths below theirs', async () => {
    answerNext(JSON.stringify({ id: 'realm-id', realm: 'app' }));
    await expect(users.getUserInfoFromUserId('..')).resolves.toBeNull();
    answerNext(JSON.stringify({ attributes: [] }));
    await expect(users.getUserInfoFromUserId('profile')).resolves.toBeNull();
  });

  it.each(['{}', '[null]', '["ada"]', '[[]]'])(
    'are not missing when Keycloak answers a search with %s, which is no list of users',
    async (body) => {
      answerNext(body);
      await expect(users.getUserIdFromUserEmail('ada@example.com')).rejects.toThrow(KeycloakUnavailableError);
    },
  );

  it('are not one when Keycloak names a second one that cannot be read', async () => {
    const { id, email, acmeId = '' } = keycloak.users.ada;
    for (const call of [
      () => users.getUserIdFromUserEmail(email),
      () => users.getUserIdFromIdpUserId(acmeId, 'acme'),
    ]) {
      answerNext(JSON.stringify([null, { id, email }]));
      await expect(call()).rejects.toThrow(KeycloakUnavailableError);
    }
  });

  it('are not guessed when two have one address', async () => {
    const twice = [1, 2].map((id) => ({ id: String(id), email: 'twin@example.com' }));
    await users.getUserIdFromUserEmail('nobody@example.com'); // fetches the token of the service account
    const fetches = jest.spyOn(globalThis, 'fetch').mockResolvedValueOnce(new Response(JSON.stringify(twice)));
    await expect(users.getUserIdFromUserEmail('twin@example.com')).resolves.toBeNull();
    fetches.mockRestore();
  });

  it('are looked up with one token of the service account, renewed when Keycloak has dropped it', async () => {
    const other = (await startApp()).get(KeycloakUsers);
    for (let call = 0; call < 3; call++) await other.getUserIdFromUserEmail('ada@example.com');
    const tokenRequests = () => keycloak.requests.filter((path) => path.endsWith('/token')).length;
    expect(tokenRequests()).toBe(1);
    keycloak.faults.push(401);
    await expect(other.getUserIdFromUserEmail('ada@example.com')).resolves.toBe(keycloak.users.ada.id);
    expect(tokenRequests()).toBe(2);
  });

  it('cannot be looked up by a service account without the role', async () => {
    const other = (await startApp({ clientId: 'other', clientSecret: 'other-secret' })).get(KeycloakUsers);
    const failure = await failureOf(other.getUserIdFromUserEmail('ada@example.com'));
    expect(failure).toBeInstanceOf(KeycloakMisconfiguredError);
    expect(String(failure)).toMatch(/role view-users/);
  });
});

describe.each(httpPlatforms)('KeycloakAuthGuard on $platform', ({ createApplication }) => {
  let host: INestApplication;
  let url: string;

  beforeAll(async () => {
    const setup = {
      databaseUrl: database.url,
      options: options(),
      createApplication,
      controllers: [KeycloakMeController],
    };
    ({ app: host, url } = await startHttpHost(setup));
  });

  afterAll(async () => {
    await host.close();
  });

  const get = (path: string, authorization?: string) =>
    request(url)
      .get(path)
      .set(authorization === undefined ? {} : { authorization });

  it('puts the user on the request, where IdpTokenGuard finds it', async () => {
    const { accessToken } = await logIn();
    await get('/me', `Bearer ${accessToken}`).expect(200, { sub: keycloak.users.ada.id });
    await get('/me', `bearer  ${accessToken}`).expect(200);
    await get('/acme', `Bearer ${accessToken}`).expect(403);
    await tokens.storeIdpTokens(keycloak.users.ada.id, 'acme', { accessToken: 'a' });
    await get('/acme', `Bearer ${accessToken}`).expect(200, { expiresAt: 0 });
  });

  it('answers 401 problem+json to every token that is not good', async () => {
    const good = await keycloak.forge({});
    await get('/me', `Bearer ${good}`).expect(200);
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const [header = '', payload = '', signature = ''] = good.split('.');
    const pem = createPublicKey({ key: keycloak.publicJwk as never, format: 'jwk' }).export({
      type: 'spki',
      format: 'pem',
    });
    const { kid } = keycloak.publicJwk as { kid: string };
    const hs256 = `${part({ alg: 'HS256', kid })}.${payload}`;
    const bad: Record<string, string> = {
      empty: 'Bearer ',
      garbage: 'Bearer garbage',
      'two tokens': `Bearer ${good} ${good}`,
      'two headers in one': `Bearer ${good}, Bearer ${good}`,
      expired: `Bearer ${await keycloak.forge({}, { expiresAt: Math.floor(Date.now() / 1000) - 1 })}`,
      'no expiry': `Bearer ${await keycloak.forge({}, { expiresAt: null })}`,
      'another audience': `Bearer ${await keycloak.forge({ aud: 'other' })}`,
      'no audience': `Bearer ${await keycloak.forge({ aud: undefined })}`,
      'another issuer': `Bearer ${await keycloak.forge({}, { issuer: `${keycloak.url}/realms/provider` })}`,
      'an ID token': `Bearer ${await keycloak.forge({ typ: 'ID' })}`,
      'a refresh token': `Bearer ${await keycloak.forge({ typ: 'Refresh' })}`,
      'an offline token': `Bearer ${await keycloak.forge({ typ: 'Offline' })}`,
      'no subject': `Bearer ${await keycloak.forge({ sub: undefined })}`,
      'alg none': `Bearer ${part({ alg: 'none' })}.${payload}.`,
      'HS256 with the public key': `Bearer ${hs256}.${createHmac('sha256', pem).update(hs256).digest('base64url')}`,
      'an altered payload': `Bearer ${header}.${part({ sub: 'root' })}.${signature}`,
      'no signature': `Bearer ${header}.${payload}.`,
      'an unknown key': `Bearer ${part({ alg: 'RS256', kid: 'unknown' })}.${payload}.${signature}`,
    };
    for (const [what, authorization] of Object.entries(bad)) {
      const response = await get('/me', authorization);
      const { code } = response.body as { code: string };
      expect({ what, status: response.status, type: response.type, code }).toEqual({
        what,
        status: 401,
        type: 'application/problem+json',
        code: 'ERR_TOKENS_KEYCLOAK_SESSION_EXPIRED',
      });
      expect(response.headers['www-authenticate']).toBe('Bearer error="invalid_token"');
    }
  });

  it('answers 401 problem+json to a request that bears no token, and calls none bad', async () => {
    const good = await keycloak.forge({});
    for (const authorization of [undefined, '', ' ', 'Basic YTpi', `Basic ${good}`, 'Bearerish token', good]) {
      const response = await get('/me', authorization);
      const { code } = response.body as { code: string };
      expect({ authorization, status: response.status, type: response.type, code }).toEqual({
        authorization,
        status: 401,
        type: 'application/problem+json',
        code: 'ERR_TOKENS_AUTHENTICATION_REQUIRED',
      });
      expect(response.headers['www-authenticate']).toBe('Bearer');
    }
  });

  it('goes by the first of several Authorization headers', async () => {
    const good = await keycloak.forge({});
    const status = async (...authorization: string[]): Promise<number | undefined> => {
      const headers = ['host', 'localhost', ...authorization.flatMap((value) => ['authorization', value])];
      const sent = httpRequest(`${url}/me`, { headers }).end();
      const [response] = (await once(sent, 'response')) as [IncomingMessage];
      response.resume();
      return response.statusCode;
    };
    await expect(status(`Bearer ${good}`, 'Bearer garbage')).resolves.toBe(200);
    await expect(status('Bearer garbage', `Bearer ${good}`)).resolves.toBe(401);
    await expect(status('Basic YTpi', `Bearer ${good}`)).resolves.toBe(401);
  });

  it('takes the scheme in any case, and spaces around the token', async () => {
    const good = await keycloak.forge({});
    for (const authorization of [`BEARER ${good}`, `bEaReR   ${good}`, `  Bearer ${good}  `]) {
      await get('/me', authorization).expect(200);
    }
  });

  it('takes tokens that are signed with a new key of the realm, and still those with the old one', async () => {
    const old = await keycloak.forge({});
    await get('/me', `Bearer ${old}`).expect(200);
    await keycloak.rotateKeys();
    const now = performance.now();
    const clock = jest.spyOn(performance, 'now').mockReturnValue(now + 6000); // past the 5 s between two fetches
    const dates = jest.spyOn(Date, 'now').mockReturnValue(Date.now() + 6000);
    await get('/me', `Bearer ${await keycloak.forge({})}`).expect(200);
    clock.mockRestore();
    dates.mockRestore();
    await get('/me', `Bearer ${old}`).expect(200);
  });

  it('goes by the keys that are known while Keycloak is away, for an hour', async () => {
    const good = await keycloak.forge({});
    await get('/me', `Bearer ${good}`).expect(200);
    const now = performance.now();
    const clock = jest.spyOn(performance, 'now');
    const after = async (minutes: number, status: number) => {
      keycloak.faults.splice(0, Infinity, 503);
      clock.mockReturnValue(now + minutes * 60_000);
      await get('/me', `Bearer ${good}`).expect(status);
    };
    await after(9, 200);
    expect(keycloak.faults).toHaveLength(1); // the module sent no request
    await after(11, 200);
    await until(() => keycloak.faults.length === 0); // the module asked in the background and got the 503
    await after(59, 200);
    await after(61, 503);
    clock.mockRestore();
    keycloak.faults.length = 0;
    await get('/me', `Bearer ${good}`).expect(200);
  });

  it('answers 503 while the keys of the realm cannot be fetched', async () => {
    const setup = {
      databaseUrl: database.url,
      options: options(),
      createApplication,
      controllers: [KeycloakMeController],
    };
    const cold = await startHttpHost(setup);
    const good = await keycloak.forge({});
    keycloak.faults.push(503);
    const response = await request(cold.url)
      .get('/me')
      .set({ authorization: `Bearer ${good}` });
    expect(response.status).toBe(503);
    expect(response.headers['retry-after']).toBe('1');
    await request(cold.url)
      .get('/me')
      .set({ authorization: `Bearer ${good}` })
      .expect(200);
    await cold.app.close();
  });
});
