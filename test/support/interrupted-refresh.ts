import type { INestApplication } from '@nestjs/common';

import { TokenManager, type TokensModuleOptions } from '../../src/index.js';
import { DatabaseProxy } from './database-proxy.js';
import {
  type HostileProvider,
  type HostileProviderSettings,
  type Redemption,
  startHostileProvider,
} from './hostile-provider.js';
import { RowLock } from './row-lock.js';
import { createTestDatabase, type TestDatabase } from './test-database.js';
import { TokenWatch } from './token-watch.js';
import { createTokensApp, newKey } from './tokens-app.js';
import { startTokensWorker, type TokensWorker, type WorkerDemand } from './tokens-worker.js';
import { until } from './until.js';

const key = { id: 'test', secret: newKey() };

/** The input of {@link InterruptedRefresh.start}. */
export interface InterruptedRefreshSetup {
  provider: HostileProviderSettings;
  /** Returns the entry of the provider, without its client and its token endpoint. */
  entry: (providerUrl: string) => Record<string, unknown>;
  refresh?: TokensModuleOptions['refresh'];
}

/** A hostile provider, two applications without faults, and processes that a test kills or stops during a refresh. */
export class InterruptedRefresh {
  readonly watches: TokenWatch[] = [];
  readonly #workers: TokensWorker[] = [];
  readonly #proxies: DatabaseProxy[] = [];
  readonly #locks: RowLock[] = [];
  #users = 0;

  private constructor(
    readonly database: TestDatabase,
    readonly provider: HostileProvider,
    readonly apps: readonly INestApplication[],
    private readonly options: TokensModuleOptions,
  ) {}

  static async start({ provider: settings, entry, refresh }: InterruptedRefreshSetup): Promise<InterruptedRefresh> {
    const database = await createTestDatabase();
    const provider = await startHostileProvider(settings);
    const client = { clientId: 'client', clientSecret: 'secret', tokenEndpoint: `${provider.url}/token` };
    const options: TokensModuleOptions = {
      encryption: { keys: [key] },
      identityProviders: { hostile: { ...client, ...entry(provider.url) } },
      refresh,
    };
    const apps = [];
    for (let count = 0; count < 2; count++) {
      apps.push((await createTokensApp({ databaseUrl: database.url, options })).app);
    }
    return new InterruptedRefresh(database, provider, apps, options);
  }

  get tokens(): TokenManager {
    const [app] = this.apps;
    if (!app) throw new Error('There is no application.');
    return app.get(TokenManager);
  }

  /** Stores a pair whose access token is stale and works for this many more seconds. */
  async staleUser(validForSeconds: number): Promise<{ user: string; accessToken: string; refreshToken: string }> {
    const user = `user-${++this.#users}`;
    const grant = await this.provider.newGrant();
    await this.tokens.storeIdpTokens(user, 'hostile', grant);
    await this.expireIn(user, validForSeconds);
    return { user, ...grant };
  }

  async expireIn(user: string, seconds: number): Promise<void> {
    await this.database.query(
      `UPDATE auth_tokens SET access_token_expires_at = ceil(date_part('epoch', clock_timestamp()) + $2::float8),
         issued_at = now() - interval '10 days' WHERE keycloak_user_id = $1`,
      [user, seconds],
    );
  }

  async row(user: string): Promise<Record<string, unknown>> {
    const [row] = await this.database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [user]);
    return row ?? {};
  }

  /** Settles when the lease of a user has expired. */
  async leaseOver(user: string): Promise<void> {
    await until(async () => Number((await this.row(user)).lease_expires_at ?? Infinity) < Date.now(), 60_000);
  }

  /** Returns the requests with this refresh token. */
  async sent(refreshToken: string): Promise<Redemption[]> {
    return (await this.provider.redemptions()).filter((each) => each.refreshToken === refreshToken);
  }

  /** Moves the lease times of a row into the past by this many milliseconds. */
  async age(user: string, ms: number): Promise<void> {
    await this.database.query(
      `UPDATE auth_tokens SET first_leased_at = first_leased_at - $2::float8 * interval '1 ms',
         lease_expires_at = lease_expires_at - $2::float8 * interval '1 ms' WHERE keycloak_user_id = $1`,
      [user, ms],
    );
  }

  /** Counts the introspections of an access token. */
  async questions(accessToken: string): Promise<number> {
    return (await this.provider.introspections()).filter((each) => each === accessToken).length;
  }

  /** Kills a process (kill -9) when the provider has its request. The provider does not serve the request. */
  async killBeforeRedemption(user: string, refreshToken: string): Promise<void> {
    const before = (await this.sent(refreshToken)).length;
    await this.provider.setFaults([refreshToken], { kind: 'stall' });
    const worker = await this.#startWorker(this.database.url);
    worker.get([user]).catch(() => undefined);
    await until(async () => (await this.sent(refreshToken)).length === before + 1, 20_000);
    worker.kill('SIGKILL');
  }

  /** Kills a process (kill -9) when the provider has answered and the pair is not stored. */
  async killAfterRedemption(user: string, refreshToken: string, demand: WorkerDemand = {}): Promise<void> {
    const block = ({ proxy: way }: { proxy: DatabaseProxy }) => {
      way.block();
    };
    const { worker, proxy } = await this.#answered(user, refreshToken, block, demand);
    worker.kill('SIGKILL');
    await proxy.close();
  }

  /** Stops a process, and returns it when the provider has redeemed its token. SIGCONT continues the process. */
  async stopAfterRedemption(user: string, refreshToken: string): Promise<TokensWorker> {
    const { worker } = await this.#answered(user, refreshToken, ({ worker: holder }) => {
      holder.kill('SIGSTOP');
    });
    return worker;
  }

  /** Locks the row of a user by a transaction of the host. {@link clear} releases the lock at the latest. */
  async lock(user: string): Promise<RowLock> {
    const lock = new RowLock(this.database.url, [user]);
    this.#locks.push(lock);
    await lock.take();
    return lock;
  }

  /** Starts to watch the tokens of a user in every application. */
  watch(user: string): TokenWatch {
    const watch = new TokenWatch(
      this.apps.map((app) => () => app.get(TokenManager).getIdpToken(user, 'hostile')),
      (accessToken) => this.provider.isAlive(accessToken),
    );
    this.watches.push(watch);
    return watch;
  }

  /** Ends everything that a test has started. */
  async clear(): Promise<void> {
    await Promise.all(this.#locks.splice(0).map((lock) => lock.release()));
    await Promise.all(this.watches.splice(0).map((watch) => watch.end()));
    for (const worker of this.#workers.splice(0)) {
      worker.kill('SIGCONT');
      worker.kill('SIGKILL');
    }
    await Promise.all(this.#proxies.splice(0).map((proxy) => proxy.close()));
    await this.provider.answerIntrospections(200);
  }

  async stop(): Promise<void> {
    await this.clear();
    await Promise.all(this.apps.map((app) => app.close()));
    await this.provider.stop();
    await this.database.drop();
  }

  async #answered(
    user: string,
    refreshToken: string,
    interrupt: (holder: { worker: TokensWorker; proxy: DatabaseProxy }) => void,
    demand: WorkerDemand = {},
  ) {
    await this.provider.setFaults([refreshToken], { kind: 'delay', ms: 300 });
    const proxy = new DatabaseProxy(this.database.url);
    this.#proxies.push(proxy);
    const worker = await this.#startWorker(await proxy.open());
    worker.get([user], demand).catch(() => undefined);
    await until(async () => (await this.sent(refreshToken)).length === 1);
    interrupt({ worker, proxy });
    await until(async () => (await this.sent(refreshToken)).every(({ outcome }) => outcome === 'redeemed'));
    return { worker, proxy };
  }

  async #startWorker(databaseUrl: string): Promise<TokensWorker> {
    const worker = await startTokensWorker({ databaseUrl, poolSize: 4, options: this.options });
    this.#workers.push(worker);
    return worker;
  }
}
