import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import fc from 'fast-check';
import type { DataSource } from 'typeorm';

import type { IdpToken } from '../../src/index.js';
import { TokenCipher, TokenManager, TokensError, type TokensModuleOptions } from '../../src/index.js';
import { type HostileProvider, startHostileProvider } from '../support/hostile-provider.js';
import { connectionsInUse, createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';
import { until } from '../support/until.js';

const RUNS = 300;
const CLIENTS = 3;
const MODES = ['single-use', 'replay-new', 'no-rotation'] as const;
const keys = [
  { id: 'first', secret: newKey() },
  { id: 'second', secret: newKey() },
];

type Mode = (typeof MODES)[number];

/** One event of a story. It happens `after` milliseconds after the last event began, and does not wait for its end. */
type Step = { after: number; client: number } & {
  kind: 'get' | 'get-rejected' | 'store' | 'delete' | 'expire' | 'reseal' | 'end-lease' | 'wait';
};

/** What the provider does with one of the first requests for a grant. */
type Answer = 'none' | 'delay' | 'unavailable' | 'reset-after-rotating' | 'omit-refresh-token';

interface Story {
  mode: Mode;
  steps: Step[];
  answers: Answer[];
}

const story: fc.Arbitrary<Story> = fc.record({
  mode: fc.constantFrom(...MODES),
  steps: fc.array(
    fc.record({
      after: fc.integer({ min: 0, max: 6 }),
      client: fc.integer({ min: 0, max: CLIENTS - 1 }),
      kind: fc.oneof(
        { weight: 6, arbitrary: fc.constant('get' as const) },
        {
          weight: 5,
          arbitrary: fc.constantFrom('get-rejected', 'store', 'delete', 'expire', 'reseal', 'end-lease', 'wait'),
        },
      ),
    }),
    { minLength: 3, maxLength: 14 },
  ),
  answers: fc.array(
    fc.constantFrom<Answer>(
      'none',
      'none',
      'delay',
      'delay',
      'unavailable',
      'reset-after-rotating',
      'omit-refresh-token',
    ),
    { maxLength: 3 },
  ),
});

let database: TestDatabase;
const providers = {} as Record<Mode, HostileProvider>;
const clients = {} as Record<Mode, { app: INestApplication; dataSource: DataSource }[]>;

beforeAll(async () => {
  database = await createTestDatabase();
  for (const mode of MODES) {
    const provider = await startHostileProvider({ mode });
    providers[mode] = provider;
    const options: Partial<TokensModuleOptions> = {
      encryption: { keys },
      identityProviders: {
        hostile: {
          clientId: 'client',
          clientSecret: 'secret',
          tokenEndpoint: `${provider.url}/token`,
          revocationEndpoint: `${provider.url}/revoke`,
          policy: {
            exchangeTimeoutMs: 1000,
            leaseMs: 3000,
            replayWindowMs: mode === 'single-use' ? 0 : 600_000,
            takeoverDelayMs: 10,
          },
        },
      },
      refresh: { backoffBaseMs: 5, backoffMaxMs: 10 },
    };
    clients[mode] = await Promise.all(
      Array.from({ length: CLIENTS }, () => createTokensApp({ databaseUrl: database.url, poolSize: 3, options })),
    );
  }
}, 60_000);

afterAll(async () => {
  for (const mode of MODES) {
    await Promise.all(clients[mode].map(({ app }) => app.close()));
    await providers[mode].stop();
  }
  await database.drop();
});

let stories = 0;

/** Returns the grant of a token of the hostile provider. */
function grantOf(token: string): string {
  return token.split('-')[1] ?? '';
}

/** Plays a story for a user of its own and checks the invariants afterwards. */
class Play {
  readonly user = `user-${++stories}`;
  readonly #provider: HostileProvider;
  readonly #managers: TokenManager[];
  readonly #calls: Promise<unknown>[] = [];
  readonly #grants = new Set<string>();
  /** The logins and deletions of the story. Each took effect between its two times. */
  readonly #decisions: { grant: string | null; begin: number; end: number }[] = [];
  /** The tokens that callers got for this user. */
  readonly #handedOut: IdpToken[] = [];

  constructor(private readonly story: Story) {
    this.#provider = providers[story.mode];
    this.#managers = clients[story.mode].map(({ app }) => app.get(TokenManager));
  }

  async run(): Promise<void> {
    await this.#store(0);
    for (const step of this.story.steps) {
      if (step.after > 0) await new Promise((resolve) => setTimeout(resolve, step.after));
      if (step.kind === 'wait') await Promise.allSettled(this.#calls);
      else this.#calls.push(this.#perform(step));
    }
    const outcomes = await Promise.allSettled(this.#calls);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toBeInstanceOf(TokensError);
    }
    await this.#check();
  }

  async #perform({ kind, client }: Step): Promise<unknown> {
    const manager = this.#managers[client] ?? this.#managers[0];
    switch (kind) {
      case 'get':
        return this.#get(manager);
      case 'get-rejected':
        return this.#get(manager, this.#handedOut.at(-1)?.version);
      case 'store':
        return this.#store(client);
      case 'delete':
        return this.#decide(null, () => manager?.revokeIdpTokens(this.user, 'hostile'));
      case 'expire':
        return this.#sql('access_token_expires_at = 1');
      case 'reseal':
        return this.#reseal(client);
      case 'end-lease':
        return this.#sql('lease_expires_at = now()', 'lease_id IS NOT NULL');
    }
    return undefined;
  }

  async #get(manager: TokenManager | undefined, rejectedVersion?: string): Promise<IdpToken | undefined> {
    const token = await manager?.getIdpToken(this.user, 'hostile', { rejectedVersion });
    if (token) this.#handedOut.push(token);
    return token;
  }

  async #store(client: number): Promise<void> {
    const grant = await this.#provider.newGrant();
    this.#grants.add(grantOf(grant.refreshToken));
    const faults = this.story.answers.map((kind) => ({ kind, ms: 8 }));
    await this.#provider.setFaults([grant.refreshToken], ...faults);
    await this.#decide(grantOf(grant.refreshToken), () =>
      this.#managers[client]?.storeIdpTokens(this.user, 'hostile', { ...grant, accessTokenExpiresAt: 1 }),
    );
  }

  async #decide(grant: string | null, work: () => Promise<unknown> | undefined): Promise<void> {
    const begin = performance.now();
    await work();
    this.#decisions.push({ grant, begin, end: performance.now() });
  }

  /** Seals the stored refresh token anew and changes nothing else, as a rotation of keys does. */
  async #reseal(client: number): Promise<void> {
    const [row] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [this.user]);
    const cipher = clients[this.story.mode][client]?.app.get(TokenCipher);
    if (!row || !cipher) return;
    const location = { table: 'auth_tokens', column: 'refresh_token', keycloakUserId: this.user, idp: 'hostile' };
    const resealed = cipher.seal(cipher.open(String(row.refresh_token), location), location);
    await database.query(
      'UPDATE auth_tokens SET refresh_token = $2 WHERE keycloak_user_id = $1 AND refresh_token = $3',
      [this.user, resealed, row.refresh_token],
    );
  }

  async #sql(change: string, condition = 'true'): Promise<void> {
    await database.query(`UPDATE auth_tokens SET ${change} WHERE keycloak_user_id = $1 AND ${condition}`, [this.user]);
  }

  async #check(): Promise<void> {
    const kinds = new Set(this.story.steps.map(({ kind }) => kind));
    const redemptions = (await this.#provider.redemptions()).filter(({ grant }) => this.#grants.has(grant));
    const [row] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [this.user]);

    // A refresh token is redeemed once, unless the story ended a lease of a running exchange or an answer was lost.
    const isUndisturbed = !kinds.has('end-lease') && !this.story.answers.includes('reset-after-rotating');
    const twice = redemptions.filter(({ outcome }) => outcome === 'reuse-punished' || outcome === 'replayed');
    if (isUndisturbed) expect(twice).toEqual([]);

    // The row has the result of the last login or deletion, because no refresh undoes a login or a deletion. If two of
    // them overlapped, each of the two can be the last.
    const last = this.#decisions.filter(({ end }) => !this.#decisions.some(({ begin }) => begin > end));
    expect(last.map(({ grant }) => grant)).toContain(row ? this.#grantIn(row) : null);

    // Only a deletion removes the row. A lease ends with its exchange unless the answer was lost.
    if (!kinds.has('delete')) expect(row).toBeDefined();
    if (row && isUndisturbed) expect(row).toMatchObject({ status: 'active', lease_id: null, open_leases: 0 });

    // A caller at the end gets a token that works. Only after a disturbance it can get the error that asks the user for
    // a re-authentication.
    const end = await this.#settle();
    if (!row) expect(end).toBe('ERR_TOKENS_NOT_FOUND');
    else if (isUndisturbed) expect(end).toBe('works');
    else expect(['works', 'ERR_TOKENS_REAUTHENTICATION_REQUIRED']).toContain(end);

    // No caller got the token of another user, and the pools have all their connections back.
    const grantsOfTokens = this.#handedOut.map(({ accessToken }) => grantOf(accessToken));
    expect(grantsOfTokens.filter((grant) => !this.#grants.has(grant))).toEqual([]);
    await until(() => clients[this.story.mode].every(({ dataSource }) => connectionsInUse(dataSource) === 0));
  }

  #grantIn(row: Record<string, unknown>): string {
    const cipher = clients[this.story.mode][0]?.app.get(TokenCipher);
    const location = { table: 'auth_tokens', column: 'refresh_token', keycloakUserId: this.user, idp: 'hostile' };
    return grantOf(cipher?.open(String(row.refresh_token), location) ?? '');
  }

  /** Asks until the answer is final. It rejects a token that the provider refuses, as an application would. */
  async #settle(): Promise<string> {
    let rejectedVersion: string | undefined;
    for (let attempt = 0; attempt < 20; attempt++) {
      await this.#sql('lease_expires_at = now()', 'lease_id IS NOT NULL');
      await this.#sql(
        'quarantined_until = CASE WHEN quarantined_until IS NULL THEN NULL ELSE now() END, retry_at = NULL',
      );
      try {
        const token = await this.#get(this.#managers[attempt % CLIENTS], rejectedVersion);
        if (token && (await this.#provider.isAlive(token.accessToken))) return 'works';
        rejectedVersion = token?.version;
      } catch (error) {
        if (!(error instanceof TokensError)) throw error;
        if (!error.retryable) return error.code;
      }
    }
    return 'neither';
  }
}

describe(`${RUNS} random interleavings of ${CLIENTS} clients`, () => {
  it('keep the invariants of the refresh', async () => {
    const property = fc.asyncProperty(story, async (each) => {
      await new Play(each).run();
    });
    // fast-check does not shrink a failure, because interleavings do not repeat exactly. It reports the seed.
    await fc.assert(property, { numRuns: RUNS, endOnFailure: true });
    expect(stories).toBeGreaterThanOrEqual(RUNS);
  }, 240_000);
});
