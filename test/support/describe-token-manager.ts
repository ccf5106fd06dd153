import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';

import {
  AuthTokenStore,
  type IdpTokens,
  OfflineTokenStore,
  type SealedToken,
  TokenCipher,
  TokenManager,
  type TokensToStore,
} from '../../src/index.js';
import { describeAccounts } from './describe-accounts.js';
import { describeEndedGrants } from './describe-ended-grants.js';
import { describeLogins } from './describe-logins.js';
import { describeScopes } from './describe-scopes.js';
import { describeTables } from './describe-tables.js';
import { describeTransactions } from './describe-transactions.js';
import { failureOf } from './failure-of.js';
import { gate } from './gate.js';
import type { ManagerUnderTest, ProviderAnswer } from './manager-under-test.js';
import { until } from './until.js';

const HOUR = 3600;

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

/**
 * Describes what a host can see of `TokenManager`, `AuthTokenStore`, `OfflineTokenStore` and `QueryRunnerScope`. It
 * runs for the real module and for the fake, so that the fake cannot drift from the real one.
 */
export function describeTokenManager(name: string, setUp: () => Promise<ManagerUnderTest>): void {
  describe(name, () => {
    let rig: ManagerUnderTest;
    let manager: TokenManager;
    let user = '';
    let users = 0;

    beforeAll(async () => {
      rig = await setUp();
      manager = rig.get(TokenManager);
    });

    beforeEach(() => {
      user = `user-${++users}`;
      rig.redeemed.length = 0;
      rig.answer = (refreshToken) => ({
        accessToken: `access of ${refreshToken}`,
        refreshToken: `${refreshToken}+`,
        expiresIn: HOUR,
      });
    });

    afterAll(async () => {
      await rig.close();
    });

    const store = (tokens: Partial<IdpTokens> = {}) =>
      manager.storeIdpTokens(user, 'acme', { accessToken: 'access', refreshToken: user, ...tokens });
    const get = (options?: Parameters<TokenManager['getIdpToken']>[2]) => manager.getIdpToken(user, 'acme', options);
    const rejected = async () => get({ rejectedVersion: (await get()).version });
    const about = (idp = 'acme') => `User "${user}", identity provider "${idp}"`;
    const reauthentication = (cause: string) => ({
      name: 'ReauthenticationRequiredError',
      code: 'ERR_TOKENS_REAUTHENTICATION_REQUIRED',
      message: `${about()} must connect the account again, because ${cause}.`,
      retryable: false,
    });
    const unavailable = (message: RegExp) => ({
      name: 'RefreshUnavailableError',
      code: 'ERR_TOKENS_REFRESH_UNAVAILABLE',
      message: expect.stringMatching(message),
      retryable: true,
    });
    const notFound = () => ({
      name: 'TokensNotFoundError',
      code: 'ERR_TOKENS_NOT_FOUND',
      message: `${about()} has no stored tokens. Let the user connect the account first.`,
      retryable: false,
    });

    describe('stored tokens', () => {
      it('come back with their expiry, and print redacted', async () => {
        const expiresAt = seconds() + HOUR;
        await store({ accessToken: 'a secret text', accessTokenExpiresAt: expiresAt });
        const token = await get();
        expect(token).toMatchObject({
          accessToken: 'a secret text',
          expiresAt,
          version: expect.stringMatching(/^\d+$/),
        });
        expect(JSON.stringify(token)).not.toContain('a secret text');
      });

      it('get a new version from every store of a refresh token', async () => {
        const versions = new Set<string>();
        for (let count = 0; count < 3; count++) {
          await store();
          versions.add((await get()).version);
        }
        expect(versions.size).toBe(3);
      });

      it('lose their refresh token by null', async () => {
        await store();
        const { version } = await get();
        await store({ refreshToken: null });
        expect((await get()).version).not.toBe(version);
        expect(await failureOf(rejected())).toEqual(
          reauthentication('the access token is no longer usable and there is no refresh token'),
        );
      });

      it('are of one user and one provider', async () => {
        await store();
        expect(await failureOf(manager.getIdpToken(user, 'github'))).toEqual({
          ...notFound(),
          message: `${about('github')} has no stored tokens. Let the user connect the account first.`,
        });
        expect(await failureOf(manager.getIdpToken(`${user}x`, 'acme'))).toMatchObject({
          code: 'ERR_TOKENS_NOT_FOUND',
        });
      });

      it('meet every demand if they never expire, and a demand for half of their lifetime at most otherwise', async () => {
        await store({ accessTokenExpiresAt: 0 });
        await get({ minValiditySeconds: 1000 * HOUR });
        await store({ accessTokenExpiresAt: seconds() + HOUR });
        await get({ minValiditySeconds: 1000 * HOUR });
        expect(rig.redeemed).toEqual([]);
      });
    });

    describe('a refresh', () => {
      it('redeems an expired token once for all callers, and stores the successor', async () => {
        await store({ accessTokenExpiresAt: 1 });
        const tokens = await Promise.all(Array.from({ length: 20 }, () => get()));
        expect(new Set(tokens.map(({ version }) => version)).size).toBe(1);
        expect(tokens[0]).toMatchObject({ accessToken: `access of ${user}` });
        expect(Math.abs((tokens[0]?.expiresAt ?? 0) - seconds() - HOUR)).toBeLessThan(5);
        await expect(get()).resolves.toEqual(tokens[0]);
        expect(rig.redeemed).toEqual([user]);
        await expect(rejected()).resolves.toMatchObject({ accessToken: `access of ${user}+` });
        expect(rig.redeemed).toEqual([user, `${user}+`]);
      });

      it('is not made again for a rejected version that another caller has refreshed', async () => {
        await store();
        const { version: rejectedVersion } = await get();
        const refreshed = await get({ rejectedVersion });
        expect(refreshed.version).not.toBe(rejectedVersion);
        await expect(get({ rejectedVersion })).resolves.toEqual(refreshed);
        expect(rig.redeemed).toEqual([user]);
      });

      it('pauses when the API has refused several new tokens', async () => {
        await store();
        await rejected();
        await rejected();
        expect(await failureOf(rejected())).toEqual(
          unavailable(/because the provider's API has refused several tokens right after they were issued\. Try again/),
        );
        expect(rig.redeemed).toHaveLength(2);
      });

      it('keeps a refresh token that the answer omits', async () => {
        rig.answer = () => ({ accessToken: 'a new access token', expiresIn: HOUR });
        await store({ accessTokenExpiresAt: 1 });
        await get();
        await rejected();
        expect(rig.redeemed).toEqual([user, user]);
      });

      it('is impossible without a refresh token, or with an expired one', async () => {
        await store({ accessTokenExpiresAt: 1, refreshToken: null });
        expect(await failureOf(get())).toEqual(
          reauthentication('the access token is no longer usable and there is no refresh token'),
        );
        await store({ accessTokenExpiresAt: 1, refreshTokenExpiresAt: 1 });
        expect(await failureOf(get())).toEqual(reauthentication('the access token and the refresh token have expired'));
        expect(rig.redeemed).toEqual([]);
      });

      it('that the provider rejects ends the grant until the next login', async () => {
        rig.answer = () => ({ status: 400, error: 'invalid_grant' });
        await store({ accessTokenExpiresAt: 1 });
        const ended = reauthentication('the provider rejected the refresh token');
        expect(await failureOf(get())).toEqual(ended);
        expect(await failureOf(get())).toEqual(ended);
        expect(rig.redeemed).toEqual([user]);
        await store({ accessToken: 'after the login' });
        await expect(get()).resolves.toMatchObject({ accessToken: 'after the login' });
      });

      it('that the provider rejects ends the grant also if the access token has not expired', async () => {
        rig.answer = () => ({ status: 400, error: 'invalid_grant' });
        await store();
        const ended = reauthentication('the provider rejected the refresh token');
        expect(await failureOf(rejected())).toEqual(ended);
        expect(await failureOf(get())).toEqual(ended);
      });

      it('that fails for a while is an error if the access token has expired', async () => {
        rig.answer = () => ({ status: 503 });
        await store({ accessTokenExpiresAt: 1 });
        expect(await failureOf(get())).toEqual(
          unavailable(/did not serve the request \(http_503\)\. Try again in 1 s/),
        );
        expect(await failureOf(get())).toEqual(
          unavailable(/because the last try failed \(http_503\)\. Try again in 1 s/),
        );
        expect(rig.redeemed).toEqual([user]);
      });

      it('that fails for a while is no error while the access token works', async () => {
        rig.answer = () => ({ status: 503 });
        const expiresAt = seconds() + 6;
        await store({ accessTokenExpiresAt: expiresAt });
        // The demand makes the token stale in the second half of its lifetime. By the leeway alone it would be stale for
        // a moment only, and a busy machine would look when it has expired.
        const demand = { minValiditySeconds: 6 };
        let served = await get(demand);
        await until(async () => {
          if (rig.redeemed.length === 0) served = await get(demand);
          return rig.redeemed.length > 0;
        });
        expect(served).toMatchObject({ accessToken: 'access', expiresAt });
      });

      it('whose answer is lost is tried once more, and not again while its outcome is unknown', async () => {
        rig.answer = () => ({ status: 500 });
        await store({ accessTokenExpiresAt: 1 });
        expect(await failureOf(get())).toEqual(unavailable(/because the provider's answer was lost \(http_500\)/));
        expect(await failureOf(get())).toEqual(unavailable(/because the last try failed \(http_500\)/));
        expect(rig.redeemed).toEqual([user, user]);
      });

      it('whose answer has no access token is a lost answer', async () => {
        rig.answer = () => ({ accessToken: '' });
        await store({ accessTokenExpiresAt: 1 });
        expect(await failureOf(get())).toEqual(unavailable(/because the provider's answer was lost \(\w+\)/));
        expect(rig.redeemed).toEqual([user, user]);
      });

      it('that the provider refuses to this application is a fault of the options', async () => {
        rig.answer = () => ({ status: 401, error: 'invalid_client' });
        await store({ accessTokenExpiresAt: 1 });
        const failure = {
          name: 'ProviderMisconfiguredError',
          code: 'ERR_TOKENS_PROVIDER_MISCONFIGURED',
          message: `Identity provider "acme": the provider refused this application's request with "invalid_client". Check \
clientId, clientSecret and the URLs in identityProviders.acme. The tokens of user "${user}" are untouched.`,
          retryable: false,
        };
        expect(await failureOf(get())).toEqual(failure);
        expect(await failureOf(get())).toEqual(failure);
      });

      it('goes on when its caller stops waiting', async () => {
        const { passed, open } = gate();
        const begun = gate();
        rig.answer = async (): Promise<ProviderAnswer> => {
          begun.open();
          await passed;
          return { accessToken: 'in the end', refreshToken: `${user}+`, expiresIn: HOUR };
        };
        await store({ accessTokenExpiresAt: 1 });
        const reason = new Error('The caller has gone.');
        await expect(get({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
        expect(rig.redeemed).toEqual([]);
        const controller = new AbortController();
        const aborted = get({ signal: controller.signal });
        const other = get();
        await begun.passed;
        controller.abort(reason);
        await expect(aborted).rejects.toBe(reason);
        open();
        await expect(other).resolves.toMatchObject({ accessToken: 'in the end' });
        expect(rig.redeemed).toEqual([user]);
      });

      it('gives way to a login and to a revocation that come meanwhile', async () => {
        const refreshing = async (refreshToken: string) => {
          const [begun, answered] = [gate(), gate()];
          rig.answer = async (redeemed): Promise<ProviderAnswer> => {
            begun.open();
            await answered.passed;
            return { accessToken: 'too late', refreshToken: `${redeemed}+`, expiresIn: HOUR };
          };
          await store({ refreshToken, accessTokenExpiresAt: 1 });
          const waiting = get();
          waiting.catch(() => undefined); // the caller looks at it later
          await begun.passed;
          return { waiting, answer: answered.open };
        };
        const beforeLogin = await refreshing(user);
        await store({ accessToken: 'of the new login', refreshToken: `${user}-login` });
        beforeLogin.answer();
        await expect(beforeLogin.waiting).resolves.toMatchObject({ accessToken: 'of the new login' });

        const beforeRevocation = await refreshing(`${user}-revoked`);
        await manager.revokeIdpTokens(user, 'acme');
        beforeRevocation.answer();
        expect(await failureOf(beforeRevocation.waiting)).toEqual(notFound());
        await rig.revocationOf(`${user}-revoked`);
      });
    });

    describe('a revocation', () => {
      it('deletes the tokens and has them revoked', async () => {
        await store();
        await expect(manager.revokeIdpTokens(user, 'acme')).resolves.toBe(true);
        expect(await failureOf(get())).toEqual(notFound());
        await expect(manager.revokeIdpTokens(user, 'acme')).resolves.toBe(false);
        await rig.revocationOf(user);
      });

      it('of tokens that are not there does nothing, and keeps no later login away', async () => {
        await expect(manager.revokeIdpTokens(user, 'acme')).resolves.toBe(false);
        expect(await failureOf(get())).toEqual(notFound());
        await expect(manager.revokeIdpTokens(user, 'acme')).resolves.toBe(false);
        await store({ accessTokenExpiresAt: 1 });
        await expect(get()).resolves.toMatchObject({ accessToken: `access of ${user}` });
      });

      it('also has the pair revoked that a refresh under way brings', async () => {
        const { passed, open } = gate();
        const begun = gate();
        rig.answer = async (refreshToken): Promise<ProviderAnswer> => {
          begun.open();
          await passed;
          return { accessToken: 'too late', refreshToken: `${refreshToken}+`, expiresIn: HOUR };
        };
        await store({ accessTokenExpiresAt: 1 });
        const waiting = failureOf(get());
        await begun.passed;
        await expect(manager.revokeIdpTokens(user, 'acme')).resolves.toBe(true);
        open();
        expect(await waiting).toEqual(notFound());
        await rig.revocationOf(`${user}+`);
      });
    });

    describe('bad arguments', () => {
      const tokens = { accessToken: 'x' };
      const badCalls: [string, () => unknown, string | RegExp][] = [
        [
          'an empty user id',
          () => manager.storeIdpTokens('', 'acme', tokens),
          'The user id must be a non-empty string.',
        ],
        ['a user id with NUL', () => manager.getIdpToken('a\0b', 'acme'), /The user id holds a NUL character/],
        ['a long user id', () => manager.revokeIdpTokens('x'.repeat(256), 'acme'), /has 256 characters, more than 255/],
        [
          'an empty idp',
          () => manager.getIdpToken('ada', ' '),
          'The name of the identity provider must be a non-empty string.',
        ],
        ['no tokens', () => manager.storeIdpTokens('ada', 'acme', null as never), /The tokens are missing/],
        [
          'an empty token',
          () => manager.storeIdpTokens('ada', 'acme', { accessToken: '' }),
          /The access token must be/,
        ],
        [
          'milliseconds',
          () => manager.storeIdpTokens('ada', 'acme', { ...tokens, accessTokenExpiresAt: 1e13 }),
          /looks like milliseconds/,
        ],
        [
          'a negative validity',
          () => manager.getIdpToken('ada', 'acme', { minValiditySeconds: -1 }),
          /minValiditySeconds must be/,
        ],
        [
          'an empty offline token',
          () => manager.storeOfflineToken('ada', ''),
          /The offline token must be a non-empty string/,
        ],
        ['an offline token of no user', () => manager.loadOfflineToken(''), 'The user id must be a non-empty string.'],
        [
          'a sealed text with NUL',
          () => rig.get(OfflineTokenStore).storeToken('ada', 'a\0'),
          /PostgreSQL cannot store/,
        ],
        [
          'an empty sealed text',
          () =>
            rig
              .get(AuthTokenStore)
              .storeTokens({ keycloakUserId: 'ada', idp: 'acme' }, { ...pair, accessToken: '' as SealedToken }),
          /The sealed access token must be/,
        ],
        [
          'a handle of no user',
          () => rig.get(AuthTokenStore).getInstance('', 'acme'),
          'The user id must be a non-empty string.',
        ],
      ];

      it.each(badCalls)('%s is refused', async (_, call, message) => {
        expect(await failureOf(call)).toEqual({
          name: 'InvalidTokenInputError',
          code: 'ERR_TOKENS_INVALID_INPUT',
          message: typeof message === 'string' ? message : expect.stringMatching(message),
          retryable: false,
        });
      });

      it('a provider that is not configured is refused', async () => {
        const failure = {
          name: 'UnsupportedProviderError',
          code: 'ERR_TOKENS_UNSUPPORTED_PROVIDER',
          message:
            'Identity provider "azure_devops" is not configured. Configured: acme, github, gitlab. Add it to identityProviders in the ' +
            'options of TokensModule.',
          retryable: false,
        };
        expect(await failureOf(manager.storeIdpTokens(user, 'azure_devops', tokens))).toEqual(failure);
        expect(await failureOf(manager.getIdpToken(user, 'azure_devops'))).toEqual(failure);
        expect(await failureOf(manager.revokeIdpTokens(user, 'azure_devops'))).toEqual(failure);
        expect(await failureOf(manager.reactivateIdpTokens('azure_devops'))).toEqual(failure);
      });

      it('calls that need Keycloak are refused without a realm', async () => {
        await manager.storeOfflineToken(user, 'an offline token');
        const calls = [
          manager.getIdpTokenForAccessToken('x', 'acme'),
          manager.getIdpTokenFromOfflineToken('x', 'acme'),
          manager.getIdpTokenFromIdpUserId('x', 'acme'),
          manager.validateOfflineToken(user),
          manager.checkOfflineTokenIsActive(user),
        ];
        for (const call of calls) {
          expect(await failureOf(call)).toEqual({
            name: 'TokensConfigurationError',
            code: 'ERR_TOKENS_CONFIGURATION',
            message: expect.stringMatching(/^The options of TokensModule name no Keycloak realm/),
            retryable: false,
          });
        }
      });
    });

    describe('offline tokens', () => {
      it('are stored, replaced, loaded and deleted', async () => {
        const offlineTokens = rig.get(OfflineTokenStore);
        await expect(manager.loadOfflineToken(user)).resolves.toBeNull();
        await manager.storeOfflineToken(user, 'first');
        await manager.storeOfflineToken(user, 'second');
        await expect(manager.loadOfflineToken(user)).resolves.toBe('second');
        const handle = offlineTokens.getInstance(user);
        const stored = (await handle.loadToken()) ?? '';
        expect(JSON.parse(stored)).toEqual({ tokens: expect.stringMatching(/^v1\./) });
        await expect(handle.replaceToken('another text', 'lost')).resolves.toBe(false);
        await expect(handle.replaceToken(stored, stored)).resolves.toBe(true);
        await handle.storeToken('a text of the host');
        await expect(handle.loadToken()).resolves.toBe('a text of the host');
        expect(await failureOf(manager.loadOfflineToken(user))).toEqual({
          name: 'TokenDecryptionError',
          code: 'ERR_TOKENS_DECRYPTION',
          message: `The offline token of user "${user}" is not stored in the form {"tokens": …}. Let the user log in again.`,
          retryable: false,
        });
        await expect(handle.deleteToken()).resolves.toBe(true);
        await expect(handle.deleteToken()).resolves.toBe(false);
        await expect(handle.loadToken()).resolves.toBeNull();
        await expect(handle.replaceToken('a text of the host', 'lost')).resolves.toBe(false);
      });
    });

    const pair: TokensToStore = {
      accessToken: 'sealed access' as SealedToken,
      refreshToken: 'sealed refresh' as SealedToken,
      accessTokenExpiresAt: 1,
      refreshTokenExpiresAt: 0,
    };

    describe('AuthTokenStore', () => {
      it('stores, loads and deletes texts as they are', async () => {
        const handle = rig.get(AuthTokenStore).getInstance(user, 'acme');
        await expect(handle.loadTokens()).resolves.toBeNull();
        await expect(handle.isAccessTokenValid()).resolves.toBe(false);
        await expect(handle.isRefreshTokenValid()).resolves.toBe(false);
        await handle.storeTokens(pair);
        const stored = { ...pair, version: expect.stringMatching(/^\d+$/) };
        await expect(handle.loadTokens()).resolves.toEqual(stored);
        await expect(handle.isAccessTokenValid()).resolves.toBe(false);
        await expect(handle.isRefreshTokenValid()).resolves.toBe(true);
        await expect(handle.deleteTokens()).resolves.toEqual(stored);
        await expect(handle.deleteTokens()).resolves.toBeNull();
        expect(await failureOf(get())).toEqual(notFound());
        expect(rig.get(AuthTokenStore).getInstance(17, 'acme').keycloakUserId).toBe('17');
      });

      it('stores what the manager can read, and says that it cannot read another text', async () => {
        const auth = rig.get(AuthTokenStore);
        const key = { keycloakUserId: user, idp: 'acme' };
        const place = { table: 'auth_tokens', column: 'access_token', ...key };
        const accessToken = rig.get(TokenCipher).seal('sealed by the host', place);
        await auth.storeTokens(key, { ...pair, accessToken, accessTokenExpiresAt: 0 });
        await expect(get()).resolves.toMatchObject({ accessToken: 'sealed by the host' });
        await auth.storeTokens(key, { ...pair, accessTokenExpiresAt: 0 });
        expect(await failureOf(get())).toEqual({
          name: 'TokenDecryptionError',
          code: 'ERR_TOKENS_DECRYPTION',
          message:
            `The text in auth_tokens.access_token of user "${user}", identity provider "acme", is not a sealed text. ` +
            'Restore the row or the key, or let the user connect the account again.',
          retryable: false,
        });
      });

      it('calls a callback once for a stale pair, and stores what it returns', async () => {
        const auth = rig.get(AuthTokenStore).getInstance(user, 'acme');
        await expect(auth.loadTokens(() => Promise.reject(new Error('called')))).resolves.toBeNull();
        await auth.storeTokens(pair);
        const failure = new Error('The callback of the host failed.');
        await expect(auth.loadTokens(() => Promise.reject(failure))).rejects.toBe(failure);
        await expect(auth.loadTokens(() => Promise.resolve(null))).resolves.toMatchObject(pair);
        const calls: unknown[][] = [];
        const successor = { ...pair, accessToken: 'new' as SealedToken, accessTokenExpiresAt: seconds() + HOUR };
        const callback = (...args: unknown[]) => {
          calls.push(args);
          return Promise.resolve({ ...successor, refreshToken: '' as const });
        };
        const loaded = await Promise.all([auth.loadTokens(callback), auth.loadTokens(callback)]);
        for (const each of loaded) expect(each).toMatchObject(successor);
        expect(calls).toEqual([['acme', 'sealed refresh', 1, 0]]);
        await expect(auth.loadTokens(callback)).resolves.toMatchObject(successor);
        expect(calls).toHaveLength(1);
        await expect(auth.isAccessTokenValid()).resolves.toBe(true);
      });
    });

    describeLogins(() => rig);
    describeEndedGrants(() => rig);
    describeAccounts(() => rig);
    describeScopes(() => rig);
    describeTransactions(() => rig);
    describeTables(() => rig);
  });
}
