import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import {
  type AccessTokenLife,
  completePolicy,
  type IdentityProvider,
  type RefreshAnswer,
  TokenManager,
  type TokensModuleOptions,
} from '../../src/index.js';
import { ProviderStandIn } from '../support/provider-stand-in.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { createTokensApp, newKey } from '../support/tokens-app.js';

const REAUTHENTICATION = 'ERR_TOKENS_REAUTHENTICATION_REQUIRED';
const UNAVAILABLE = 'ERR_TOKENS_REFRESH_UNAVAILABLE';
const keys = [{ id: 'test', secret: newKey() }];

let database: TestDatabase;
let standIn: ProviderStandIn | undefined;
const apps: INestApplication[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(async () => {
  await database.drop();
});

afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
  await standIn?.stop();
  standIn = undefined;
});

async function startApp(identityProviders: TokensModuleOptions['identityProviders']): Promise<TokenManager> {
  const { app } = await createTokensApp({
    databaseUrl: database.url,
    options: { encryption: { keys }, identityProviders },
  });
  apps.push(app);
  return app.get(TokenManager);
}

/** Makes the access token stale. It works for ten more minutes, which is a small part of its lifetime. */
async function makeStale(user: string): Promise<void> {
  await database.query(
    `UPDATE auth_tokens SET issued_at = now() - interval '10 days',
       access_token_expires_at = ceil(date_part('epoch', now()) + 600) WHERE keycloak_user_id = $1`,
    [user],
  );
}

/** Gives the row the lease of a process that was killed. The access token is stale, and it still works. */
async function abandon(user: string): Promise<void> {
  await makeStale(user);
  await database.query(
    `UPDATE auth_tokens SET lease_id = 1, lease_expires_at = now() - interval '1 minute', open_leases = 1,
       first_leased_at = now() - interval '2 minutes' WHERE keycloak_user_id = $1`,
    [user],
  );
}

async function row(user: string): Promise<Record<string, unknown>> {
  const [found] = await database.query('SELECT * FROM auth_tokens WHERE keycloak_user_id = $1', [user]);
  return found ?? {};
}

describe.each([
  ['github', 'POST /api/v3/applications/client-1/token', 'POST /login/oauth/access_token'],
  ['gitlab', 'GET /oauth/token/info', 'POST /oauth/token'],
] as const)('The old access token after a dead lease at %s', (kind, question, redemption) => {
  const policy = { takeoverDelayMs: 0 };

  async function connect() {
    const started = await ProviderStandIn.start({ kind });
    standIn = started;
    const entry = { ...started.client, baseUrl: started.baseUrl, policy };
    const manager = await startApp({ [kind]: entry });
    const pair = started.issue();
    const user = `user-${kind}-${pair.accessToken.slice(-8)}`;
    await manager.storeIdpTokens(user, kind, pair);
    await abandon(user);
    const requests = () => started.requests.map(({ method, path }) => `${method} ${path}`);
    return { started, manager, pair, user, requests };
  }

  it('is asked for at the right place; alive, it has the refresh token sent', async () => {
    const { started, manager, user, pair, requests } = await connect();
    const { accessToken } = await manager.getIdpToken(user, kind);
    expect(accessToken).not.toBe(pair.accessToken);
    expect(started.liveAccessTokens.has(accessToken)).toBe(true);
    expect(requests()).toEqual([question, redemption]);
    expect(started.violations).toEqual([]);
  });

  it('is asked for at the right place; dead, it ends the grant, and nothing is sent', async () => {
    const { started, manager, user, pair, requests } = await connect();
    started.liveAccessTokens.delete(pair.accessToken);
    await expect(manager.getIdpToken(user, kind)).rejects.toMatchObject({ code: REAUTHENTICATION });
    expect(requests()).toEqual([question]);
    expect(started.violations).toEqual([]);
    await expect(row(user)).resolves.toMatchObject({ status: 'reauthentication_required' });
  });

  it('is asked for by the holder whose answer is lost, before anything is sent again', async () => {
    const { started, manager, user, pair, requests } = await connect();
    await manager.storeIdpTokens(user, kind, pair);
    await makeStale(user);
    started.answerNext((response) => {
      started.liveAccessTokens.delete(pair.accessToken);
      response.destroy();
    });
    await expect(manager.getIdpToken(user, kind)).rejects.toMatchObject({ code: REAUTHENTICATION });
    expect(requests()).toEqual([redemption, question]);
    expect(started.violations).toEqual([]);
  });
});

/** A provider of the host. A refresh ends the old access token. */
class OwnProvider implements IdentityProvider {
  readonly policy = completePolicy({ refreshEndsAccessToken: true, takeoverDelayMs: 0 });
  readonly redeemed: string[] = [];
  /** The answers to the next requests. When they are used up, a request succeeds. */
  readonly failures: RefreshAnswer[] = [];
  questions = 0;

  constructor(private readonly answer: () => Promise<AccessTokenLife>) {}

  refresh(refreshToken: string): Promise<RefreshAnswer> {
    this.redeemed.push(refreshToken);
    const failure = this.failures.shift();
    if (failure) return Promise.resolve(failure);
    const tokens = { accessToken: 'access-new', refreshToken: 'refresh-new', accessTokenExpiresIn: 3600 };
    return Promise.resolve({ kind: 'success', tokens });
  }

  isAccessTokenAlive(): Promise<AccessTokenLife> {
    this.questions++;
    return this.answer();
  }
}

describe('A provider of the host that tells nothing of an access token, because it', () => {
  it.each<[string, () => Promise<AccessTokenLife>]>([
    ['never answers', () => new Promise(() => undefined)],
    ['answers what is no answer', () => Promise.resolve('yes' as AccessTokenLife)],
    ['answers nothing', () => Promise.resolve(undefined as unknown as AccessTokenLife)],
    ['rejects', () => Promise.reject(new Error('not reachable'))],
    [
      'throws',
      () => {
        throw new Error('broken');
      },
    ],
  ])('%s, is asked once, and the token is neither sent nor handed out before it is decided', async (how, answer) => {
    const provider = new OwnProvider(answer);
    const manager = await startApp({ own: provider });
    const user = `user ${how}`;
    await manager.storeIdpTokens(user, 'own', { accessToken: 'access-old', refreshToken: 'refresh-old' });
    await abandon(user);
    for (let time = 0; time < 3; time++) {
      const failure = (await manager.getIdpToken(user, 'own').catch((error: unknown) => error)) as {
        code: string;
        retryAfterMs: number;
      };
      expect(failure.code).toBe(UNAVAILABLE);
      expect(failure.retryAfterMs).toBeGreaterThan(580_000);
      expect(failure.retryAfterMs).toBeLessThanOrEqual(601_000);
    }
    expect(provider.questions).toBe(1);
    expect(provider.redeemed).toEqual([]);
    await database.query('UPDATE auth_tokens SET access_token_expires_at = 1 WHERE keycloak_user_id = $1', [user]);
    await expect(manager.getIdpToken(user, 'own')).resolves.toMatchObject({ accessToken: 'access-new' });
    expect(provider.redeemed).toEqual(['refresh-old']);
    expect(provider.questions).toBe(1);
  });
});

describe('An access token that the provider’s API refused before its refresh', () => {
  it('tells nothing of an answer that is lost: the refresh token is sent again', async () => {
    const provider = new OwnProvider(() => Promise.resolve('dead'));
    provider.failures.push({ kind: 'ambiguous', code: 'ECONNRESET' });
    const manager = await startApp({ own: provider });
    await manager.storeIdpTokens('refused', 'own', { accessToken: 'access-old', refreshToken: 'refresh-old' });
    const rejectedVersion = String((await row('refused')).token_version);
    const demand = { rejectedVersion };
    await expect(manager.getIdpToken('refused', 'own', demand)).resolves.toMatchObject({ accessToken: 'access-new' });
    expect(provider.redeemed).toEqual(['refresh-old', 'refresh-old']);
    await expect(row('refused')).resolves.toMatchObject({ status: 'active', open_leases: 0 });
  });

  it('does not end a grant when no answer comes at all', async () => {
    const provider = new OwnProvider(() => Promise.resolve('dead'));
    provider.failures.push({ kind: 'ambiguous', code: 'ECONNRESET' }, { kind: 'ambiguous', code: 'TIMEOUT' });
    const manager = await startApp({ own: provider });
    await manager.storeIdpTokens('refused-twice', 'own', { accessToken: 'access-old', refreshToken: 'refresh-old' });
    const rejectedVersion = String((await row('refused-twice')).token_version);
    await expect(manager.getIdpToken('refused-twice', 'own', { rejectedVersion })).rejects.toMatchObject({
      code: UNAVAILABLE,
    });
    await expect(row('refused-twice')).resolves.toMatchObject({ status: 'active', lease_outcome_unknown: true });
    // The takeover asks no witness either, because the provider had refused the access token before. It redeems.
    await database.query("UPDATE auth_tokens SET lease_expires_at = now() WHERE keycloak_user_id = 'refused-twice'");
    await expect(manager.getIdpToken('refused-twice', 'own')).resolves.toMatchObject({ accessToken: 'access-new' });
    expect(provider.questions).toBe(0);
  });
});

describe('An access token that has expired by itself', () => {
  it('is not asked for: the refresh token is sent again when an answer is lost', async () => {
    const provider = new OwnProvider(() => Promise.resolve('dead'));
    provider.failures.push({ kind: 'ambiguous', code: 'ECONNRESET' });
    const manager = await startApp({ own: provider });
    const pair = { accessToken: 'access-old', refreshToken: 'refresh-old', accessTokenExpiresAt: 1 };
    await manager.storeIdpTokens('expired', 'own', pair);
    await expect(manager.getIdpToken('expired', 'own')).resolves.toMatchObject({ accessToken: 'access-new' });
    expect(provider.redeemed).toEqual(['refresh-old', 'refresh-old']);
    expect(provider.questions).toBe(0);
  });
});
