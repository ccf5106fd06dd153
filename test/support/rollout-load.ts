import { setTimeout as delay } from 'node:timers/promises';

import type { TokenManager } from '../../src/index.js';
import type { Fleet } from './fleet.js';
import type { HostileProvider } from './hostile-provider.js';
import { until } from './until.js';

/** A usable token, as a process returns it. */
interface Answer {
  accessToken: string;
  version: string;
}

/** A user's pause between two rounds. Without it the calls would take the processor from the roll-out. */
const PAUSE_MS = 100;

/** What a user has, if nothing is lost. */
interface Expected {
  /** How the access tokens of the grant begin. */
  ofGrant: string;
  offlineToken: string;
}

/**
 * Calls from users who go on all the time during a roll-out. In each round a user logs in or does not, has the pair
 * read in two processes at once, of which one refreshes it when it has expired, reads tokens that nothing writes, and
 * replaces an offline token. Every answer is compared with what the user must have.
 */
export class RolloutLoad {
  readonly #failures: string[] = [];
  readonly #rounds = new Map<string, number>();
  readonly #expected = new Map<string, Expected>();
  readonly #revoked: string[] = [];
  #loops: Promise<void>[] = [];
  #calls = 0;
  #isOver = false;

  /**
   * @param idle how many pairs and offline tokens are stored that nothing writes: `access-0` of the user `idle-0`, …
   * @param offlineUser a user whose offline token Keycloak redeems
   */
  constructor(
    private readonly fleet: Fleet,
    private readonly provider: HostileProvider,
    private readonly idle: { pairs: number; offlineTokens: number },
    private readonly offlineUser: string,
  ) {}

  start(users: number): void {
    const names = Array.from({ length: users }, (_, each) => `active-${each}`);
    this.#loops = [
      ...names.map((user, each) => this.#repeat(user, (round) => this.#live(user, round + each))),
      this.#repeat(this.offlineUser, async () => {
        this.#same('the offline session', await this.#call('validateOfflineToken', this.offlineUser), true);
      }),
    ];
  }

  /** Waits until each user has had a whole round that began after this call. Throws what has failed until then. */
  async round(): Promise<void> {
    const before = new Map(this.#rounds);
    await until(() => {
      if (this.#failures.length > 0) throw new Error(this.#failures.slice(0, 5).join('\n'));
      return [...this.#rounds].every(([user, rounds]) => rounds >= (before.get(user) ?? 0) + 2);
    }, 180_000);
  }

  /** Lets each user end the present round. Throws what has failed until then. */
  async end(): Promise<void> {
    await this.stop();
    if (this.#failures.length > 0) throw new Error(this.#failures.join('\n'));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#loops);
  }

  /** Has the refresh token of each user redeemed once more. Returns for how many users that gave a new token. */
  async redeemEveryPair(): Promise<number> {
    const answers = await Promise.all(
      [...this.#expected].map(async ([user, { ofGrant }]) => {
        const { version } = await this.#read(user);
        const next = (await this.#call('getIdpToken', user, 'acme', { rejectedVersion: version })) as Answer;
        return next.accessToken.startsWith(ofGrant) && next.version !== version;
      }),
    );
    return answers.filter(Boolean).length;
  }

  /** Returns the access tokens of revoked grants that still work at the provider. */
  async revokedGrantsAlive(): Promise<string[]> {
    if (this.#revoked.length === 0) throw new Error('No grant was revoked.');
    const alive = await Promise.all(this.#revoked.map((accessToken) => this.provider.isAlive(accessToken)));
    return this.#revoked.filter((_, each) => alive[each]);
  }

  summary(): string {
    return `${this.#calls} calls, ${this.#revoked.length} grants revoked`;
  }

  async #repeat(name: string, work: (round: number) => Promise<void>): Promise<void> {
    for (let round = 0; !this.#isOver; round++) {
      this.#rounds.set(name, round);
      try {
        await work(round);
      } catch (error) {
        this.#failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
        return;
      }
      await delay(PAUSE_MS);
    }
  }

  async #live(user: string, round: number): Promise<void> {
    const expected = this.#expected.get(user);
    if (!expected || round % 3 === 0) await this.#logIn(user, round % 2 === 0 ? expected : undefined);
    const present = this.#expected.get(user);
    if (!present) throw new Error('The user has not logged in.');
    const both = await Promise.all([this.#read(user), this.#read(user)]);
    for (const { accessToken } of both) {
      this.#same(`whether ${accessToken} is of the grant`, accessToken.startsWith(present.ofGrant), true);
    }
    const n = (7919 * this.#calls) % this.idle.pairs;
    this.#same(`the token of idle-${n}`, (await this.#read(`idle-${n}`)).accessToken, `access-${n}`);
    const m = n % this.idle.offlineTokens;
    this.#same(`the offline token of idle-${m}`, await this.#call('loadOfflineToken', `idle-${m}`), `offline-${m}`);
    this.#same('the offline token', await this.#call('loadOfflineToken', user), present.offlineToken);
    const offlineToken = `offline-${user}-${round}`;
    await this.#call('storeOfflineToken', user, offlineToken);
    present.offlineToken = offlineToken;
  }

  /** Stores the expired first pair of a new grant, so that the next read refreshes it. Revokes the grant before. */
  async #logIn(user: string, toRevoke: Expected | undefined): Promise<void> {
    if (toRevoke) {
      const { accessToken } = await this.#read(user);
      await this.#call('revokeIdpTokens', user, 'acme');
      this.#revoked.push(accessToken);
    }
    const grant = await this.provider.newGrant();
    await this.#call('storeIdpTokens', user, 'acme', { ...grant, accessTokenExpiresAt: 1 });
    const offlineToken = this.#expected.get(user)?.offlineToken ?? `offline-${user}`;
    await this.#call('storeOfflineToken', user, offlineToken);
    const ofGrant = grant.accessToken.split('-').slice(0, 2).join('-');
    this.#expected.set(user, { ofGrant, offlineToken });
  }

  async #read(user: string): Promise<Answer> {
    return (await this.#call('getIdpToken', user, 'acme')) as Answer;
  }

  #call(method: keyof TokenManager, ...args: unknown[]): Promise<unknown> {
    this.#calls++;
    return this.fleet.request('TokenManager', method, ...args);
  }

  #same(what: string, found: unknown, expected: unknown): void {
    if (found !== expected) throw new Error(`${what} is ${String(found)} instead of ${String(expected)}`);
  }
}
