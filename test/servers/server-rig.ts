import { once } from 'node:events';

import type { INestApplication } from '@nestjs/common';

import { type OAuth2Options, TokenManager, type TokensModuleOptions } from '../../src/index.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { startTokensWorker, type TokensWorker } from '../support/tokens-worker.js';
import { until } from '../support/until.js';
import { type Grant, newGrant, type OAuthServer } from './oauth-server.js';
import { TokenEndpointProxy } from './token-endpoint-proxy.js';

/** The name of the server in `identityProviders`. */
export const IDP = 'server';

/** Options of the provider beside its client and its endpoints of OAuth. */
export type Entry = Partial<OAuth2Options>;

/** A grant whose pair is stored under a user id. */
export interface StoredGrant extends Grant {
  readonly userId: string;
}

/** An OAuth server, a database, and an application that reaches the token endpoint through a counting proxy. */
export class ServerRig {
  readonly #apps: INestApplication[] = [];
  readonly #workers: TokensWorker[] = [];
  readonly #keys = [{ id: 'test', secret: newKey() }];
  #users = 0;
  #tokens: TokenManager | undefined;

  private constructor(
    readonly server: OAuthServer,
    readonly proxy: TokenEndpointProxy,
    readonly database: TestDatabase,
    private readonly entry: Entry,
  ) {}

  /** @param entryOf returns the options of the provider, without its client, its endpoints and its deadlines */
  static async start(server: OAuthServer, entryOf: (server: OAuthServer) => Entry): Promise<ServerRig> {
    const proxy = await TokenEndpointProxy.start(server.tokenEndpoint);
    const rig = new ServerRig(server, proxy, await createTestDatabase(), entryOf(server));
    try {
      rig.#tokens = await rig.startApp();
      return rig;
    } catch (error) {
      await rig.stop();
      throw error;
    }
  }

  /** The token manager of the application with the right options. */
  get tokens(): TokenManager {
    if (!this.#tokens) throw new Error('The application has not started.');
    return this.#tokens;
  }

  /** Starts a further application on the same database, whose options differ by `changes`. */
  async startApp(changes: Entry = {}): Promise<TokenManager> {
    const { app } = await createTokensApp({ databaseUrl: this.database.url, options: this.#options(changes) });
    this.#apps.push(app);
    return app.get(TokenManager);
  }

  /** Starts a further process on the same database. */
  async startWorker(): Promise<TokensWorker> {
    const settings = { databaseUrl: this.database.url, poolSize: 4, options: this.#options({}), idp: IDP };
    const worker = await startTokensWorker(settings);
    this.#workers.push(worker);
    return worker;
  }

  /** Gets a grant for a new user, and stores its pair. */
  async store({ isBrief = false } = {}): Promise<StoredGrant> {
    const grant = await newGrant(this.server, { isBrief });
    const userId = `user-${++this.#users}`;
    await this.tokens.storeIdpTokens(userId, IDP, {
      accessToken: grant.accessToken,
      refreshToken: grant.refreshToken,
      accessTokenExpiresAt: Math.floor(Date.now() / 1000) + grant.expiresIn,
    });
    return { ...grant, userId };
  }

  /** As {@link store}, but the row says that the access token expires in so many seconds, and that it is old. */
  async storeStale(seconds = -10): Promise<StoredGrant> {
    const stored = await this.store();
    await this.expireIn(stored.userId, seconds);
    return stored;
  }

  async expireIn(userId: string, seconds: number): Promise<void> {
    await this.database.query(
      `UPDATE auth_tokens SET access_token_expires_at = ceil(date_part('epoch', clock_timestamp()) + $2::float8),
         issued_at = now() - interval '10 days' WHERE keycloak_user_id = $1`,
      [userId, seconds],
    );
  }

  async row(userId: string): Promise<Record<string, unknown>> {
    const [row] = await this.database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [userId]);
    return row ?? {};
  }

  /** Settles when the lease of a user has expired. */
  async leaseOver(userId: string): Promise<void> {
    await until(async () => Number((await this.row(userId)).lease_expires_at ?? Infinity) < Date.now(), 30_000);
  }

  /** Settles when the pause after a failed refresh is over. */
  async backoffOver(userId: string): Promise<void> {
    await until(async () => {
      const sql = 'SELECT FROM auth_tokens WHERE keycloak_user_id = $1 AND retry_at > clock_timestamp()';
      return (await this.database.query(sql, [userId])).length === 0;
    });
  }

  /** Asks for the access token of a user. Asks again after an error that is retryable, as an application does. */
  async ask(userId: string): Promise<string> {
    const deadline = performance.now() + 30_000;
    for (;;) {
      try {
        return (await this.tokens.getIdpToken(userId, IDP)).accessToken;
      } catch (error) {
        const { retryable, retryAfterMs = 0 } = error as { retryable?: boolean; retryAfterMs?: number };
        if (retryable !== true || performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, Math.min(retryAfterMs, 250)));
      }
    }
  }

  /** Kills a process (kill -9) when the server has rotated its pair and the answer has not reached the process. */
  async killAfterRotation({ userId, refreshToken }: StoredGrant): Promise<void> {
    this.proxy.withholdNext(refreshToken);
    const worker = await this.startWorker();
    worker.get([userId]).catch(() => undefined);
    await until(() => this.proxy.answersTo(refreshToken).length === 1);
    const exit = once(worker.child, 'exit');
    worker.kill('SIGKILL');
    await exit;
  }

  async stop(): Promise<void> {
    try {
      await Promise.all(this.#workers.map((worker) => worker.close()));
      await Promise.all(this.#apps.map((app) => app.close()));
      await this.proxy.stop();
      await this.database.drop();
    } finally {
      await this.server.stop();
    }
  }

  #options({ policy: policyChanges, ...changes }: Entry): TokensModuleOptions {
    const { policy, ...entry } = this.entry;
    const deadlines = { exchangeTimeoutMs: 2000, leaseMs: 4000, takeoverDelayMs: 200 };
    return {
      encryption: { keys: this.#keys },
      identityProviders: {
        [IDP]: {
          ...this.server.client,
          tokenEndpoint: this.proxy.url,
          revocationEndpoint: this.server.revocationEndpoint,
          ...entry,
          ...changes,
          policy: { ...deadlines, ...policy, ...policyChanges },
        },
      },
      refresh: { backoffBaseMs: 50, backoffMaxMs: 100 },
    };
  }
}
