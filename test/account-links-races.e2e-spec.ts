import type { ServerResponse } from 'node:http';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';

import { AccountLinks, LinkRefusedError, QueryRunnerScope, TokenManager } from '../src/index.js';
import { RefreshDrain } from '../src/refresh/refresh-drain.js';
import { type Answer, CodeFlowProvider } from './support/code-flow-provider.js';
import { createTestDatabase, type TestDatabase } from './support/test-database.js';
import { createTokensApp } from './support/tokens-app.js';
import { until } from './support/until.js';

const IDP = 'acme';

let database: TestDatabase;
let provider: CodeFlowProvider;
let apps: INestApplication[];
let links: AccountLinks;
let linksOfOther: AccountLinks;
let manager: TokenManager;
let user: string;
let users = 0;
let refreshes = 0;

beforeAll(async () => {
  database = await createTestDatabase();
  provider = await CodeFlowProvider.start();
  const { issuer, client } = provider;
  const acme = {
    ...client,
    authorizationEndpoint: `${issuer}/authorize`,
    tokenEndpoint: `${issuer}/token`,
    revocationEndpoint: `${issuer}/revoke`,
    accountEndpoint: `${issuer}/user`,
    redirectUri: 'https://host.example/connections/acme/callback',
  };
  const created = await Promise.all(
    [1, 2].map(() => createTokensApp({ databaseUrl: database.url, options: { identityProviders: { acme } } })),
  );
  apps = created.map(({ app }) => app);
  [links, linksOfOther] = apps.map((app) => app.get(AccountLinks)) as [AccountLinks, AccountLinks];
  manager = created[0]?.app.get(TokenManager) as TokenManager;
});

afterAll(async () => {
  await Promise.all(apps.map((app) => app.close()));
  await provider.close();
  await database.drop();
});

beforeEach(() => {
  user = `user-${++users}`;
  provider.revoked.length = 0;
});

afterEach(() => {
  provider.instead.clear();
});

/** Begins and logs in at the provider. */
async function begin(subject: string, options: Parameters<AccountLinks['begin']>[2] = {}): Promise<URL> {
  const { authorizationUrl } = await links.begin(user, IDP, options);
  return provider.authorize(authorizationUrl, subject);
}

async function link(subject: string, options: Parameters<AccountLinks['begin']>[2] = {}): Promise<void> {
  await links.finish(user, await begin(subject, options));
}

/** Keeps the answers of a path back. Returns them when one has come. */
async function withheldAt(path: string, when: () => unknown): Promise<ServerResponse> {
  const withheld: ServerResponse[] = [];
  const keep: Answer = (response) => withheld.push(response);
  provider.instead.set(path, keep);
  when();
  await until(() => withheld.length > 0);
  provider.instead.delete(path);
  const [response] = withheld;
  if (!response) throw new Error('No request came.');
  return response;
}

function send(response: ServerResponse, body: object): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

/** The subjects whose refresh tokens were revoked. */
function revokedOf(...subjects: string[]): string[] {
  return subjects.filter((subject) => provider.revoked.some((token) => token.startsWith(`refresh-of-${subject}-`)));
}

/**
 * Refreshes the tokens of the user, and does something else while the provider answers. Waits until the refreshed pair
 * is stored or given up.
 *
 * @returns the new refresh token, and whether the caller of the refresh got a token
 */
async function duringRefresh(
  act: () => Promise<unknown>,
  account = '',
): Promise<{ refreshToken: string; isServed: boolean }> {
  const refreshToken = `refreshed-${++refreshes}`;
  const { version } = await manager.getIdpToken(user, IDP, { account });
  let refreshed: Promise<unknown> = Promise.resolve();
  const exchange = await withheldAt('/token', () => {
    refreshed = manager.getIdpToken(user, IDP, { account, rejectedVersion: version });
  });
  await act();
  const track = jest.spyOn(RefreshDrain.prototype, 'track');
  send(exchange, { access_token: `access-${refreshToken}`, refresh_token: refreshToken, expires_in: 3600 });
  const isServed = await refreshed.then(
    () => true,
    () => false,
  );
  await Promise.all(track.mock.calls.map(([work]) => work));
  track.mockRestore();
  return { refreshToken, isServed };
}

async function outboxIsEmpty(): Promise<void> {
  const open = 'SELECT FROM token_revocations WHERE keycloak_user_id = $1';
  await until(async () => (await database.query(open, [user])).length === 0);
}

async function currentSubject(): Promise<string | undefined> {
  return provider.subjects.get((await manager.getIdpToken(user, IDP)).accessToken);
}

describe('A link that is finished', () => {
  it('while the user ends the connection, connects the account with its new tokens, and the old ones are revoked', async () => {
    await link('ada');
    const old = await manager.getIdpToken(user, IDP);
    const callback = await begin('ada');
    let finished: Promise<unknown> = Promise.resolve();
    const question = await withheldAt('/user', () => {
      finished = links.finish(user, callback);
    });
    await expect(links.unlink(user, IDP)).resolves.toBe(true);
    await expect(links.list(user)).resolves.toEqual([]);
    await until(() => provider.revoked.length > 0);
    send(question, { id: 'ada', login: 'ada-login' });
    await finished;
    const { accessToken } = await manager.getIdpToken(user, IDP);
    expect(accessToken).not.toBe(old.accessToken);
    expect(provider.revoked).toEqual([old.accessToken.replace('access', 'refresh')]);
    await expect(links.list(user)).resolves.toMatchObject([{ subject: 'ada', hasRefreshToken: true }]);
  });

  it('while a refresh is under way, keeps its tokens, because they are newer', async () => {
    await link('grace');
    const callback = await begin('grace');
    let linked = await manager.getIdpToken(user, IDP);
    const { version } = linked;
    const { isServed } = await duringRefresh(async () => {
      await links.finish(user, callback);
      linked = await manager.getIdpToken(user, IDP);
    });
    expect(isServed).toBe(true);
    expect(linked.version).not.toBe(version);
    await expect(manager.getIdpToken(user, IDP)).resolves.toMatchObject({ accessToken: linked.accessToken });
    await expect(links.list(user)).resolves.toMatchObject([{ subject: 'grace', state: 'active' }]);
    await outboxIsEmpty();
    expect(provider.revoked).toEqual([]);
  });

  it('for another account while a refresh is under way, has the refreshed tokens revoked too', async () => {
    await link('replaced');
    const callback = await begin('replacing', { replaceAccount: true });
    const { refreshToken, isServed } = await duringRefresh(() => links.finish(user, callback));
    await outboxIsEmpty();
    expect(isServed).toBe(true);
    expect(provider.revoked).toContain(refreshToken);
    expect(revokedOf('replacing')).toEqual([]);
    await expect(currentSubject()).resolves.toBe('replacing');
  });

  it('by two processes at once for two accounts that may replace a third one, leaves one and revokes the others', async () => {
    for (let round = 0; round < 10; round++) {
      const subjects = ['old', 'one', 'two'].map((name) => `${name}${users}x${round}`) as [string, string, string];
      const [old, one, two] = subjects;
      await link(old, { replaceAccount: true });
      const callbacks = [
        await begin(one, { replaceAccount: true }),
        await begin(two, { replaceAccount: true }),
      ] as const;
      await Promise.all([links.finish(user, callbacks[0]), linksOfOther.finish(user, callbacks[1])]);
      const survivor = await currentSubject();
      expect([one, two]).toContain(survivor);
      const others = subjects.filter((subject) => subject !== survivor);
      await until(() => revokedOf(...others).length === 2);
      expect(revokedOf(survivor ?? '')).toEqual([]);
      await expect(links.list(user)).resolves.toMatchObject([{ subject: survivor }]);
    }
  });

  it('for the connected account, at the same time as one that may replace it, ends as if one came after the other', async () => {
    for (let round = 0; round < 10; round++) {
      const [old, next] = [`kept${users}x${round}`, `next${users}x${round}`];
      await link(old, { replaceAccount: true });
      const again = await begin(old);
      const replacing = await begin(next, { replaceAccount: true });
      const [first, second] = await Promise.allSettled([
        links.finish(user, again),
        linksOfOther.finish(user, replacing),
      ]);
      expect(second.status).toBe('fulfilled');
      if (first.status === 'rejected') {
        expect(first.reason).toBeInstanceOf(LinkRefusedError);
        expect(first.reason).toMatchObject({ reason: 'account_mismatch' });
      }
      await expect(currentSubject()).resolves.toBe(next);
      await until(() => revokedOf(old).length === 1);
      expect(revokedOf(next)).toEqual([]);
    }
  });

  it('is not undone by the transaction in which it began, nor does it wait for one that wrote another row', async () => {
    const scope = apps[0]?.get(QueryRunnerScope) as QueryRunnerScope;
    let callback: URL | undefined;
    await expect(
      scope.run(async () => {
        await manager.storeIdpTokens(user, IDP, { accessToken: 'other' }, { account: 'other' });
        callback = await begin('ada');
        await links.finish(user, await begin('ada', { account: 'work' }));
        throw new Error('of the host');
      }),
    ).rejects.toThrow('of the host');
    await links.finish(user, callback ?? '');
    await expect(links.list(user)).resolves.toMatchObject([{ account: '' }, { account: 'work' }]);
  });
});

describe('An account at the provider that the user has connected under two names', () => {
  it.each([
    ['ends both', () => linksOfOther.unlink(user, IDP)],
    [
      'ends one and replaces the other',
      async () => linksOfOther.finish(user, await begin('next', { replaceAccount: true })),
    ],
  ])('is revoked once if the user %s at the same time', async (_, endOther) => {
    const subject = `both${users}`;
    await link(subject);
    await link(subject, { account: 'work' });
    const scope = apps[0]?.get(QueryRunnerScope) as QueryRunnerScope;
    let isOver = false;
    let other: Promise<unknown> = Promise.resolve();
    await scope.run(async () => {
      await links.unlink(user, IDP, { account: 'work' });
      other = endOther().finally(() => (isOver = true));
      const waiting = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      await until(async () => isOver || (await database.query(waiting)).length > 0);
    });
    await other;
    await outboxIsEmpty();
    expect(provider.revoked.filter((token) => token.startsWith(`refresh-of-${subject}-`))).toHaveLength(1);
  });

  it('is not ended by the tokens that a refresh brings after the user has ended one', async () => {
    await link('shared');
    await link('shared', { account: 'work' });
    const ofShared = await duringRefresh(() => links.unlink(user, IDP, { account: 'work' }), 'work');
    await link('stranger', { account: 'other' });
    const ofStranger = await duringRefresh(() => links.unlink(user, IDP, { account: 'other' }), 'other');
    await outboxIsEmpty();
    expect(provider.revoked).toContain(ofStranger.refreshToken);
    expect(provider.revoked).not.toContain(ofShared.refreshToken);
    expect(revokedOf('shared')).toEqual([]);
    await expect(links.list(user)).resolves.toMatchObject([{ account: '', subject: 'shared', state: 'active' }]);
  });
});

describe('An account at the provider that the user ends and connects again during a refresh', () => {
  it('is not ended by the tokens that the refresh brings', async () => {
    await link('again');
    const old = await manager.getIdpToken(user, IDP);
    const { refreshToken } = await duringRefresh(async () => {
      await links.unlink(user, IDP);
      await outboxIsEmpty();
      await link('again');
    });
    await outboxIsEmpty();
    expect(provider.revoked).toEqual([old.accessToken.replace('access', 'refresh')]);
    expect(provider.revoked).not.toContain(refreshToken);
    await expect(links.list(user)).resolves.toMatchObject([{ subject: 'again', state: 'active' }]);
  });
});
