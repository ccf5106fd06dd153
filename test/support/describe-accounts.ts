import { beforeEach, describe, expect, it } from '@jest/globals';

import { AuthTokenStore, QueryRunnerScope, type SealedToken, TokenManager } from '../../src/index.js';
import { TokenRevocationsTable } from '../../src/storage/token-revocations/token-revocations.table.js';
import { failureOf } from './failure-of.js';
import { type ManagerUnderTest, outside } from './manager-under-test.js';

/** Describes what a host can see of several accounts of one user at one provider. */
export function describeAccounts(rigOf: () => ManagerUnderTest): void {
  describe('several accounts of a user at a provider', () => {
    let manager: TokenManager;
    let user = '';
    let users = 0;

    beforeEach(() => {
      manager = rigOf().get(TokenManager);
      user = `several-${++users}`;
      rigOf().redeemed.length = 0;
      rigOf().answer = (refreshToken) => ({
        accessToken: `access of ${refreshToken}`,
        refreshToken: `${refreshToken}+`,
        expiresIn: 3600,
      });
    });

    const store = (account: string | undefined, { expiresAt = 0, idp = 'acme' } = {}) =>
      manager.storeIdpTokens(
        user,
        idp,
        { accessToken: `${idp} ${account}`, refreshToken: `${user} ${account}`, accessTokenExpiresAt: expiresAt },
        { account },
      );
    const get = async (account?: string, idp = 'acme') =>
      (await manager.getIdpToken(user, idp, { account })).accessToken;
    const missing = (account = '') => ({
      code: 'ERR_TOKENS_NOT_FOUND',
      message: `User "${user}", identity provider "acme"${account && `, account "${account}"`} has no stored tokens. Let the user connect the account first.`,
    });

    it('have a token of their own, and the token names its account', async () => {
      await store('work');
      await store('home');
      await store(undefined);
      await expect(Promise.all(['work', 'home', ''].map((account) => get(account)))).resolves.toEqual([
        'acme work',
        'acme home',
        'acme undefined',
      ]);
      const token = await manager.getIdpToken(user, 'acme', { account: 'work' });
      expect(token.account).toBe('work');
      expect(JSON.parse(JSON.stringify(token))).toMatchObject({ account: 'work' });
      expect((await manager.getIdpToken(user, 'acme')).account).toBe('');
      expect(await failureOf(get('other'))).toMatchObject(missing('other'));
    });

    it('are one without a name, which is the default account, if the call names none', async () => {
      await store('work');
      await store('');
      await store('home');
      await expect(get()).resolves.toBe('acme ');
    });

    it('are one with a name if it is the only one, unless the call names the default account', async () => {
      await store('work');
      await store('home', { idp: 'github' });
      await expect(get()).resolves.toBe('acme work');
      await expect(get(undefined, 'github')).resolves.toBe('github home');
      expect(await failureOf(get(''))).toMatchObject(missing());
      await manager.revokeIdpTokens(user, 'acme', { account: 'work' });
      expect(await failureOf(get())).toMatchObject(missing());
    });

    it('must be named if there are several with a name and no default account', async () => {
      await store('work');
      await store('home');
      await expect(get()).rejects.toMatchObject({
        name: 'AmbiguousAccountError',
        code: 'ERR_TOKENS_AMBIGUOUS_ACCOUNT',
        message: `User "${user}", identity provider "acme" has tokens of several accounts: "home", "work". Pass one of them as account.`,
        accounts: ['home', 'work'],
        subject: { keycloakUserId: user, idp: 'acme' },
        retryable: false,
      });
    });

    it('are refreshed each by itself, at once and once', async () => {
      for (const account of ['', 'work', 'home']) await store(account, { expiresAt: 1 });
      const accounts = ['', 'work', 'home', '', 'work', 'home'];
      await expect(Promise.all(accounts.map((account) => get(account)))).resolves.toEqual(
        accounts.map((account) => `access of ${user} ${account}`),
      );
      expect([...rigOf().redeemed].sort()).toEqual([`${user} `, `${user} home`, `${user} work`]);
      const { version } = await manager.getIdpToken(user, 'acme', { account: 'work' });
      await manager.getIdpToken(user, 'acme', { account: 'work', rejectedVersion: version });
      expect(rigOf().redeemed.slice(3)).toEqual([`${user} work+`]);
    });

    it('end each by itself, and come back by their names', async () => {
      for (const account of ['', 'work']) await store(account, { expiresAt: 1 });
      rigOf().answer = () => ({ status: 400, error: 'invalid_grant' });
      expect(await failureOf(get('work'))).toMatchObject({
        code: 'ERR_TOKENS_REAUTHENTICATION_REQUIRED',
        message: `User "${user}", identity provider "acme", account "work" must connect the account again, because the provider rejected the refresh token.`,
      });
      rigOf().answer = () => ({ accessToken: 'new', expiresIn: 3600 });
      await expect(get('')).resolves.toBe('new');
      const userIds = [user];
      await expect(manager.reactivateIdpTokens('acme', { userIds, accounts: [''] })).resolves.toBe(0);
      await expect(manager.reactivateIdpTokens('acme', { userIds, accounts: ['work', 'other'] })).resolves.toBe(1);
      await expect(get('work')).resolves.toBe('new');
    });

    it('are revoked each by itself, and without a name the default account is', async () => {
      for (const account of ['', 'work', 'home']) await store(account);
      await expect(manager.revokeIdpTokens(user, 'acme', { account: 'work' })).resolves.toBe(true);
      await expect(manager.revokeIdpTokens(user, 'acme', { account: 'work' })).resolves.toBe(false);
      await rigOf().revocationOf(`${user} work`);
      await expect(manager.revokeIdpTokens(user, 'acme')).resolves.toBe(true);
      await rigOf().revocationOf(`${user} `);
      await expect(manager.revokeIdpTokens(user, 'acme')).resolves.toBe(false);
      await expect(get()).resolves.toBe('acme home');
    });

    it('that are still to be revoked are found by their names', async () => {
      const revocations = rigOf().get(TokenRevocationsTable);
      const key = { keycloakUserId: user, idp: 'not-configured' };
      const add = (account: string) =>
        revocations.add({
          ...key,
          account,
          clientId: null,
          accessToken: `a ${account}` as SealedToken,
          refreshToken: '',
        });
      await add('');
      await add('work');
      await expect(revocations.findPending({ ...key, account: 'work' })).resolves.toEqual([
        { accessToken: 'a work', refreshToken: '' },
      ]);
      const claimed = await revocations.claim({ revocable: [key.idp], busy: [], limit: 10 });
      expect(claimed.map(({ account }) => account).sort()).toEqual(['', 'work']);
    });

    it('are in a transaction what it has stored and deleted', async () => {
      await store('home');
      const elsewhere = outside(() => get());
      await rigOf()
        .get(QueryRunnerScope)
        .run(async () => {
          await store('work');
          expect(await failureOf(get())).toMatchObject({ code: 'ERR_TOKENS_AMBIGUOUS_ACCOUNT' });
          await expect(elsewhere()).resolves.toBe('acme home');
          await manager.revokeIdpTokens(user, 'acme', { account: 'home' });
          await expect(get()).resolves.toBe('acme work');
          await expect(elsewhere()).resolves.toBe('acme home');
        });
      await expect(elsewhere()).resolves.toBe('acme work');
    });

    it('that another call stored meanwhile are read together, each in its place', async () => {
      for (const account of ['', 'work', 'home']) await store(account);
      await manager.storeIdpTokens(user, 'github', { accessToken: 'of github' }, { account: 'work' });
      const asked = [
        ['work', 'acme'],
        ['home', 'acme'],
        ['work', 'github'],
        ['', 'acme'],
      ] as const;
      await expect(Promise.all(asked.map(([account, idp]) => get(account, idp)))).resolves.toEqual([
        'acme work',
        'acme home',
        'of github',
        'acme ',
      ]);
    });

    it('stored at once all stay', async () => {
      const accounts = Array.from({ length: 8 }, (_, number) => `account-${number}`);
      for (let round = 0; round < 2; round++) await Promise.all(accounts.map((account) => store(account)));
      await expect(Promise.all(accounts.map((account) => get(account)))).resolves.toEqual(
        accounts.map((account) => `acme ${account}`),
      );
    });

    it('have handles of their own', async () => {
      await store('work');
      const store1 = rigOf().get(AuthTokenStore);
      const [work, byDefault] = [store1.getInstance(user, 'acme', 'work'), store1.getInstance(user, 'acme')];
      expect([work.account, byDefault.account]).toEqual(['work', '']);
      await expect(byDefault.loadTokens()).resolves.toBeNull();
      const stored = await work.loadTokens();
      expect(stored).not.toBeNull();
      await expect(work.isRefreshTokenValid()).resolves.toBe(true);
      await expect(byDefault.deleteTokens()).resolves.toBeNull();
      await expect(work.deleteTokens()).resolves.toEqual(stored);
      await expect(get()).rejects.toMatchObject({ code: 'ERR_TOKENS_NOT_FOUND' });
    });

    it.each([
      ['a number', 7],
      ['null', null],
      ['half a surrogate pair', '\ud800'],
      ['a NUL character', 'a\0b'],
      ['256 characters', 'a'.repeat(256)],
    ])('have no name that is %s', async (_, account) => {
      const named = { account: account as string };
      const invalid = { code: 'ERR_TOKENS_INVALID_INPUT', message: expect.stringMatching(/^The account /) };
      await expect(manager.getIdpToken(user, 'acme', named)).rejects.toMatchObject(invalid);
      await expect(manager.storeIdpTokens(user, 'acme', { accessToken: 'a' }, named)).rejects.toMatchObject(invalid);
      await expect(manager.revokeIdpTokens(user, 'acme', named)).rejects.toMatchObject(invalid);
      await expect(manager.reactivateIdpTokens('acme', { accounts: [named.account] })).rejects.toMatchObject(invalid);
    });

    it('have every other name', async () => {
      const names = [' ', 'a'.repeat(255), '🔑', "'; DROP TABLE auth_tokens; --", 'ada@example.com'];
      for (const name of names) await store(name);
      await expect(Promise.all(names.map((name) => get(name)))).resolves.toEqual(names.map((name) => `acme ${name}`));
    });
  });
}
