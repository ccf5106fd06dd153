import { beforeEach, describe, expect, it } from '@jest/globals';

import {
  AuthTokenStore,
  type GetIdpTokenOptions,
  type IdpTokens,
  type Scopes,
  TokenCipher,
  TokenManager,
} from '../../src/index.js';
import { authTokenLocation } from '../../src/storage/token-locations.js';
import { failureOf } from './failure-of.js';
import type { ManagerUnderTest } from './manager-under-test.js';

/** Describes what a host can see of the scopes of a pair. */
export function describeScopes(rigOf: () => ManagerUnderTest): void {
  describe('the scopes of a pair', () => {
    let manager: TokenManager;
    let user = '';
    let users = 0;

    beforeEach(() => {
      manager = rigOf().get(TokenManager);
      user = `scopes-${++users}`;
      rigOf().redeemed.length = 0;
      rigOf().answer = () => ({ accessToken: 'new', refreshToken: `${user}+`, expiresIn: 3600 });
    });

    const store = (scopes: Scopes | null | undefined, tokens: Partial<IdpTokens> = {}, idp = 'acme') =>
      manager.storeIdpTokens(user, idp, { accessToken: 'access', refreshToken: user, scopes, ...tokens });
    const stored = async (idp = 'acme') =>
      (await rigOf().get(AuthTokenStore).loadTokens({ keycloakUserId: user, idp }))?.scopes;
    const get = (scopes: Scopes, options: GetIdpTokenOptions = {}, idp = 'acme') =>
      manager.getIdpToken(user, idp, { ...options, scopes });
    const missing = (missingScopes: string[], others = {}) => ({
      name: 'InsufficientScopeError',
      code: 'ERR_TOKENS_INSUFFICIENT_SCOPE',
      ...{ missingScopes, idp: 'acme', account: '', reason: 'not_granted', retryable: false },
      ...others,
    });

    it.each<[string, Scopes | null | undefined, readonly string[] | undefined]>([
      ['a list', ['user', 'repo'], ['repo', 'user']],
      ['a text with spaces', 'user repo', ['repo', 'user']],
      ['a text with commas, as GitHub and Slack send it', 'user,repo', ['repo', 'user']],
      ['a text with both', ' user, repo\n', ['repo', 'user']],
      ['duplicates', ['repo', 'user repo', 'user'], ['repo', 'user']],
      ['an empty list, which means none', [], []],
      ['an empty text, which means not known', '', undefined],
      ['null', null, undefined],
      ['nothing', undefined, undefined],
    ])('are stored sorted, from %s', async (_, given, expected) => {
      await store(given);
      await expect(stored()).resolves.toEqual(expected);
      await expect(rigOf().get(AuthTokenStore).deleteTokens({ keycloakUserId: user, idp: 'acme' })).resolves.toEqual(
        expect.objectContaining(expected ? { scopes: expected } : {}),
      );
    });

    it('replace the older ones at each store, also if only the access token is replaced', async () => {
      await store(['repo', 'user']);
      await store(['gist'], { refreshToken: undefined });
      await expect(stored()).resolves.toEqual(['gist']);
      await store(undefined, { refreshToken: undefined });
      await expect(stored()).resolves.toBeUndefined();
    });

    it.each<[string, unknown]>([
      ['a number', 7],
      ['a list with a number', ['repo', 7]],
      ['a NUL character', 'a\0b'],
      ['half a surrogate pair', ['\udc00']],
      ['more than 16 KiB', 'x'.repeat(16 * 1024 + 1)],
    ])('cannot be %s', async (_, scopes) => {
      const invalid = { code: 'ERR_TOKENS_INVALID_INPUT', message: expect.stringMatching(/^The (required )?scopes /) };
      await expect(store(scopes as Scopes)).rejects.toMatchObject(invalid);
      await expect(get(scopes as Scopes)).rejects.toMatchObject(invalid);
    });

    it('let a call pass that requires some of them, in any order and form', async () => {
      await store('repo user');
      for (const scopes of [['user', 'repo'], 'user,repo', 'repo']) {
        await expect(get(scopes)).resolves.toMatchObject({ accessToken: 'access' });
      }
    });

    it('refuse a call whose option names none, also if the scopes are not known', async () => {
      await store(undefined);
      for (const scopes of ['', ' , ', [], [' ']]) {
        await expect(get(scopes, { requireKnownScopes: true })).rejects.toMatchObject({
          code: 'ERR_TOKENS_INVALID_INPUT',
          message: 'The required scopes name none. Name at least one, or leave the option out.',
        });
        await expect(get(scopes)).rejects.toMatchObject({ code: 'ERR_TOKENS_INVALID_INPUT' });
      }
      await expect(manager.getIdpToken(user, 'acme', { scopes: undefined })).resolves.toBeDefined();
    });

    it('refuse a call that requires others, and name those', async () => {
      await store('repo user');
      await expect(get(['repo', 'gist', 'admin:org'])).rejects.toMatchObject(
        missing(['admin:org', 'gist'], {
          message: `User "${user}", identity provider "acme" must connect the account again with more scopes, because "admin:org", "gist" are missing.`,
        }),
      );
      await manager.storeIdpTokens(user, 'acme', { accessToken: 'a', scopes: [] }, { account: 'work' });
      await expect(get('repo', { account: 'work' })).rejects.toMatchObject(missing(['repo'], { account: 'work' }));
    });

    it('pass if they are not known, unless the call wants to know them', async () => {
      await store(undefined);
      await expect(get('repo')).resolves.toMatchObject({ accessToken: 'access' });
      await expect(get('repo', { requireKnownScopes: true })).rejects.toMatchObject(
        missing(['repo'], {
          reason: 'unknown',
          message: `User "${user}", identity provider "acme" must connect the account again with more scopes, because the granted scopes are not known and "repo" must be.`,
        }),
      );
    });

    it('count with those that they contain, at any distance', async () => {
      await store('repo,admin:org', {}, 'github');
      await expect(get('public_repo read:org write:org read:repo_hook', {}, 'github')).resolves.toBeDefined();
      await store('write:org', {}, 'github');
      await expect(get('admin:org', {}, 'github')).rejects.toMatchObject({ missingScopes: ['admin:org'] });
      await store('admin:org audit_log admin:ssh_signing_key', {}, 'github');
      await expect(get('manage_runners:org read:audit_log read:ssh_signing_key', {}, 'github')).resolves.toBeDefined();
      await store('api', {}, 'gitlab');
      await expect(get('read_api read_user read_repository', {}, 'gitlab')).resolves.toBeDefined();
      await store('repo');
      await expect(get('public_repo')).rejects.toMatchObject(missing(['public_repo'])); // at another provider
    });

    it('are checked before a refresh, which starts only if they suffice', async () => {
      await store('repo', { accessTokenExpiresAt: 1 });
      await expect(get('user')).rejects.toMatchObject(missing(['user']));
      expect(rigOf().redeemed).toEqual([]);
      await expect(get('repo')).resolves.toMatchObject({ accessToken: 'new' });
      expect(rigOf().redeemed).toEqual([user]);
    });

    it('can be fewer after a refresh, and the call gets no token then', async () => {
      await store('repo user', { accessTokenExpiresAt: 1 });
      rigOf().answer = () => ({ accessToken: 'narrow', refreshToken: `${user}+`, expiresIn: 3600, scope: 'user' });
      await expect(get('repo')).rejects.toMatchObject(missing(['repo']));
      expect(rigOf().redeemed).toEqual([user]);
      await expect(stored()).resolves.toEqual(['user']);
      await expect(get('user')).resolves.toMatchObject({ accessToken: 'narrow' });
    });

    it.each([undefined, ''])('stay at a refresh whose answer has the scope %p', async (scope) => {
      await store('repo user', { accessTokenExpiresAt: 1 });
      rigOf().answer = () => ({ accessToken: 'new', refreshToken: `${user}+`, expiresIn: 3600, scope });
      await expect(get('repo')).resolves.toMatchObject({ accessToken: 'new' });
      await expect(stored()).resolves.toEqual(['repo', 'user']);
    });

    it('become known by a refresh whose answer names them', async () => {
      await store(undefined, { accessTokenExpiresAt: 1 });
      rigOf().answer = () => ({ accessToken: 'new', refreshToken: `${user}+`, expiresIn: 3600, scope: 'user,repo' });
      await expect(get('repo', { requireKnownScopes: true }).catch((error: unknown) => error)).resolves.toMatchObject(
        missing(['repo'], { reason: 'unknown' }),
      );
      await manager.getIdpToken(user, 'acme');
      await expect(stored()).resolves.toEqual(['repo', 'user']);
      await expect(get('repo', { requireKnownScopes: true })).resolves.toMatchObject({ accessToken: 'new' });
    });

    it('come from a callback that names some, and stay otherwise', async () => {
      const key = { keycloakUserId: user, idp: 'acme' };
      const cipher = rigOf().get(TokenCipher);
      const refreshWith = (scopes?: Scopes) =>
        rigOf()
          .get(AuthTokenStore)
          .loadTokens(key, () =>
            Promise.resolve({
              accessToken: cipher.seal('new', authTokenLocation(key, 'access_token')),
              refreshToken: '',
              accessTokenExpiresAt: 0,
              refreshTokenExpiresAt: 0,
              scopes,
            }),
          );
      await store('repo user', { accessTokenExpiresAt: 1 });
      await expect(refreshWith()).resolves.toMatchObject({ scopes: ['repo', 'user'] });
      await expect(stored()).resolves.toEqual(['repo', 'user']);
      await store('repo user', { accessTokenExpiresAt: 1 });
      await expect(refreshWith('user')).resolves.toMatchObject({ scopes: ['user'] });
      await expect(stored()).resolves.toEqual(['user']);
    });

    it('of an ended grant are named before the end, because one new connection can repair both', async () => {
      await store('repo', { accessTokenExpiresAt: 1, refreshToken: null });
      expect(await failureOf(get('repo'))).toMatchObject({ code: 'ERR_TOKENS_REAUTHENTICATION_REQUIRED' });
      await expect(get('user')).rejects.toMatchObject(missing(['user']));
    });
  });
}
