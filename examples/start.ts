import { randomBytes } from 'node:crypto';

import type { INestApplication } from '@nestjs/common';

import { AppConfig, redirectUriOf } from './app.config.js';
import { createApp } from './app.factory.js';
import { brokerRedirectUri, demoRealm } from './keycloak/demo-realm.js';
import { migrate } from './migrate.js';
import type { RunningParts } from './running-parts.js';
import { type AuthorizationServer, startAuthorizationServer } from './support/authorization-server.js';
import { freePort } from './support/free-port.js';
import { startKeycloak } from './support/keycloak.js';
import { type PostgresServer, startPostgres } from './support/postgres.js';
import type { StepList } from './tour/step-list.js';

/** In seconds. It is short, so that an expiry comes soon, and long enough for all requests of the tour. */
export const ACCESS_TOKEN_TTL_SECONDS = 10;

/** The running demo. */
export interface Demo {
  readonly app: INestApplication;
  readonly authorizationServer: AuthorizationServer;
  readonly baseUrl: string;
}

/**
 * Starts PostgreSQL, the authorization server and the application.
 *
 * @param port of the application; 0 = any free one
 * @param withKeycloak whether users log in at a Keycloak, which is started too
 * @param parts gets everything that must be stopped, also if the start fails half-way
 */
export async function startDemo(
  port: number,
  parts: RunningParts,
  steps: StepList,
  withKeycloak: boolean,
): Promise<Demo> {
  const usedPort = await freePort(port);
  const keycloakPort = withKeycloak ? await freePort() : undefined;
  const baseUrl = `http://localhost:${usedPort}`;
  const client = {
    clientId: 'nestjs-idp-tokens-demo',
    clientSecret: randomBytes(32).toString('base64url'),
  };

  const postgres = await steps.run('Start PostgreSQL', async (note) => {
    const server: PostgresServer = parts.add(await startPostgres());
    note(new URL(server.url).host);
    return server;
  });
  await steps.run('Run the migrations', async (note) => {
    note(`${(await migrate(postgres.url)).length} applied`);
  });
  const authorizationServer = await steps.run('Start the OAuth server', async (note) => {
    const server = parts.add(
      await startAuthorizationServer({
        ...client,
        redirectUris: [redirectUriOf(baseUrl), ...(keycloakPort ? [brokerRedirectUri(urlAt(keycloakPort))] : [])],
        accessTokenTtlSeconds: ACCESS_TOKEN_TTL_SECONDS,
      }),
    );
    note(server.issuer);
    return server;
  });
  const idp = { ...client, issuer: authorizationServer.issuer };
  const keycloak =
    keycloakPort &&
    (await steps.run('Start Keycloak', async (note) => {
      const realm = demoRealm(urlAt(keycloakPort), idp, `${baseUrl}/keycloak/callback`);
      const server = parts.add(await startKeycloak(() => [realm.representation], keycloakPort));
      note(server.url);
      return realm.options;
    }));
  const app = await steps.run('Start the application', async (note) => {
    const tokensKey = process.env.TOKENS_KEY || randomBytes(32).toString('base64');
    const created = await createApp(new AppConfig(baseUrl, postgres.url, tokensKey, idp, keycloak || undefined));
    parts.add({ stop: () => created.close() });
    await created.listen(usedPort, '127.0.0.1');
    note(baseUrl);
    return created;
  });
  return { app, authorizationServer, baseUrl };
}

function urlAt(port: number): string {
  return `http://127.0.0.1:${port}`;
}
