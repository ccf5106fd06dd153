import type { INestApplication } from '@nestjs/common';

import {
  AuthTokenStore,
  type KeycloakModuleOptions,
  KeycloakSessions,
  KeycloakUsers,
  TokenManager,
} from '../../src/index.js';
import { KeycloakStandIn } from './keycloak-stand-in.js';
import { createTestDatabase, type TestDatabase } from './test-database.js';
import { newPair, startTokenEndpoint, type TokenEndpoint } from './token-endpoint.js';
import { createTokensApp, newKey } from './tokens-app.js';

type Login = Parameters<KeycloakStandIn['logIn']>;

/** An application with the module, with what the tests of Keycloak ask of it. */
export interface KeycloakHost {
  readonly app: INestApplication;
  readonly manager: TokenManager;
  readonly sessions: KeycloakSessions;
  readonly users: KeycloakUsers;
  deleteTokens(userId: string, idp: string): Promise<unknown>;
}

/** The stand-in for Keycloak, a provider, a database, and applications that use them. */
export class KeycloakSurroundings {
  readonly keycloak = new KeycloakStandIn();
  readonly #apps: INestApplication[] = [];
  readonly #keys = [{ id: 'test', secret: newKey() }];
  #database: TestDatabase | undefined;
  #endpoint: TokenEndpoint | undefined;

  get database(): TestDatabase {
    if (this.#database) return this.#database;
    throw new Error('The surroundings are not started.');
  }

  /** The token endpoint of the provider "acme". It can revoke, and "plain" cannot. */
  get endpoint(): TokenEndpoint {
    if (this.#endpoint) return this.#endpoint;
    throw new Error('The surroundings are not started.');
  }

  async start(): Promise<void> {
    await this.keycloak.start();
    this.#endpoint = await startTokenEndpoint();
    this.#database = await createTestDatabase();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#apps.map((each) => each.close()));
    await this.#endpoint?.close();
    await this.keycloak.stop();
    await this.#database?.drop();
  }

  /** Deletes what is stored, and makes the stand-in answer as at its start. */
  async reset(): Promise<void> {
    for (const table of ['auth_tokens', 'offline_tokens', 'token_revocations', 'disconnected_accounts']) {
      await this.database.query(`DELETE FROM ${table}`);
    }
    Object.assign(this.keycloak, {
      revokeRefreshToken: false,
      introspectsForAll: false,
      ignoresLinks: false,
      ignoredParameter: undefined,
      hidesLinks: false,
      publicUrl: undefined,
      endpointsUrl: undefined,
      tokenPath: '/protocol/openid-connect/token',
      realmSize: 3,
      beforeAnswering: undefined,
      redemptions: 0,
      beforeRefreshing: undefined,
    });
    this.keycloak.requests.length = 0;
    this.keycloak.faults.length = 0;
    this.keycloak.searches.length = 0;
    for (const more of [this.keycloak.attributes, this.keycloak.links]) {
      for (const id of Object.keys(more)) Reflect.deleteProperty(more, id);
    }
    this.endpoint.answer = () => newPair();
    this.endpoint.answerRevocation = () => ({ status: 200 });
    await this.keycloak.logInAtProvider(3600);
  }

  async startHost(keycloak: Partial<KeycloakModuleOptions> | null = {}): Promise<KeycloakHost> {
    const client = { clientId: 'backend', clientSecret: 'backend-secret' };
    const broker = { tokenEndpoint: this.endpoint.url, clientId: 'broker', clientSecret: 'broker-secret' };
    const options = {
      encryption: { keys: this.#keys },
      keycloak: keycloak && { serverUrl: this.keycloak.url, realm: 'app', ...client, timeoutMs: 1500, ...keycloak },
      identityProviders: {
        acme: { ...broker, revocationEndpoint: `${this.endpoint.url}/revoke` },
        plain: broker,
        nope: broker,
      },
    };
    const { app } = await createTokensApp({
      databaseUrl: this.database.url,
      options: { ...options, keycloak: options.keycloak ?? undefined },
    });
    this.#apps.push(app);
    return {
      app,
      manager: app.get(TokenManager),
      sessions: app.get(KeycloakSessions),
      users: app.get(KeycloakUsers),
      deleteTokens: (keycloakUserId, idp) => app.get(AuthTokenStore).deleteTokens({ keycloakUserId, idp }),
    };
  }

  /** Logs a user in, at the client of the options or at another one, and returns the tokens of Keycloak. */
  async logIn(...[user, scope, client, cnf]: Login): Promise<{ accessToken: string; refreshToken: string }> {
    const code = await this.keycloak.logIn(user, scope, client, cnf);
    const body = new URLSearchParams({
      grant_type: 'authorization_code',
      code,
      redirect_uri: 'http://localhost/callback',
      client_id: client ?? 'backend',
      client_secret: `${client ?? 'backend'}-secret`,
    });
    const url = `${this.keycloak.url}/realms/app/protocol/openid-connect/token`;
    const answer = await fetch(url, { method: 'POST', body });
    const issued = (await answer.json()) as { access_token: string; refresh_token: string };
    return { accessToken: issued.access_token, refreshToken: issued.refresh_token };
  }

  /** Holds the next answer back whose path and grant type, with a space between, contain a text. */
  pausedAt(text: string): { readonly reached: Promise<void>; goOn(): void } {
    let goOn = (): void => undefined;
    const paused = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const reached = new Promise<void>((resolve) => {
      this.keycloak.beforeAnswering = async (asked) => {
        if (!asked.includes(text)) return;
        this.keycloak.beforeAnswering = undefined;
        resolve();
        await paused;
      };
    });
    return { reached, goOn };
  }

  /** How often the stand-in served a request whose path contains a text. */
  asked(path: string): number {
    return this.keycloak.requests.filter((request) => request.includes(path)).length;
  }
}

/** Returns the error with which a call rejects; undefined if it does not. */
export async function failureOf(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => undefined,
    (error: unknown) => error,
  );
}
