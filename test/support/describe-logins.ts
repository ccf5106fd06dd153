import { beforeEach, describe, expect, it } from '@jest/globals';

import { type IdpTokens, TokenCipher, TokenManager } from '../../src/index.js';
import { AuthTokensTable } from '../../src/storage/auth-tokens/auth-tokens.table.js';
import { authTokenLocation } from '../../src/storage/token-locations.js';
import { failureOf } from './failure-of.js';
import { gate } from './gate.js';
import type { ManagerUnderTest, ProviderAnswer } from './manager-under-test.js';

const HOUR = 3600;

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** Describes logins that bring an access token alone, and access tokens without an expiry. */
export function describeLogins(rigOf: () => ManagerUnderTest): void {
  let manager: TokenManager;
  let user = '';
  let users = 0;

  beforeEach(() => {
    manager = rigOf().get(TokenManager);
    user = `login-${++users}`;
    rigOf().redeemed.length = 0;
    rigOf().answer = (refreshToken) => ({
      accessToken: `access of ${refreshToken}`,
      refreshToken: `${refreshToken}+`,
      expiresIn: HOUR,
    });
  });

  const store = (idp: string, tokens: Partial<IdpTokens> = {}) =>
    manager.storeIdpTokens(user, idp, { accessToken: 'access', refreshToken: user, ...tokens });
  const logInAgain = (idp: string, accessToken = 'of the login') => manager.storeIdpTokens(user, idp, { accessToken });
  const get = (idp: string) => manager.getIdpToken(user, idp);
  const rejected = async (idp: string) => manager.getIdpToken(user, idp, { rejectedVersion: (await get(idp)).version });
  const expectNoRefreshToken = async (idp: string) => {
    const { message } = await failureOf(rejected(idp));
    expect(message).toMatch(/because the access token is no longer usable and there is no refresh token\.$/);
  };
  /** Begins a refresh of a stale pair. The caller says when the provider answers, and what. */
  const beginRefresh = async (idp: string) => {
    const begun = gate();
    const answered = gate();
    let answer: ProviderAnswer = { status: 400, error: 'invalid_grant' };
    const next = rigOf().answer;
    rigOf().answer = async () => {
      begun.open();
      await answered.passed;
      rigOf().answer = next;
      return answer;
    };
    await store(idp, { accessTokenExpiresAt: 1 });
    const refreshed = get(idp);
    await begun.passed;
    const answerWith = (given: ProviderAnswer) => {
      answer = given;
      answered.open();
      return refreshed;
    };
    return { answerWith };
  };

  describe('a login without a refresh token', () => {
    it.each([undefined, ''])('that has %j in its place keeps the stored one', async (refreshToken) => {
      await store('acme');
      const { version } = await get('acme');
      await store('acme', { accessToken: 'of the login', refreshToken });
      const token = await get('acme');
      expect(token).toMatchObject({ accessToken: 'of the login' });
      expect(token.version).not.toBe(version);
      await rejected('acme');
      expect(rigOf().redeemed).toEqual([user]);
    });

    it('is not refreshed because of a late report about the access token before it', async () => {
      await store('acme');
      const { version: rejectedVersion } = await get('acme');
      await logInAgain('acme');
      await expect(manager.getIdpToken(user, 'acme', { rejectedVersion })).resolves.toMatchObject({
        accessToken: 'of the login',
      });
      expect(rigOf().redeemed).toEqual([]);
    });

    it('ends the pause after tokens that the API has refused', async () => {
      await store('acme');
      await rejected('acme');
      await rejected('acme');
      await logInAgain('acme');
      await expect(rejected('acme')).resolves.toMatchObject({ accessToken: `access of ${user}++` });
    });

    it('drops the refresh token of a grant that has ended', async () => {
      rigOf().answer = () => ({ status: 400, error: 'invalid_grant' });
      await store('acme', { accessTokenExpiresAt: 1 });
      await failureOf(get('acme'));
      await logInAgain('acme');
      await expect(get('acme')).resolves.toMatchObject({ accessToken: 'of the login' });
      await expectNoRefreshToken('acme');
    });

    describe.each(['acme', 'gitlab'])('during a refresh at %s', (idp) => {
      it('loses nothing of this refresh', async () => {
        const { answerWith } = await beginRefresh(idp);
        await logInAgain(idp);
        await expect(
          answerWith({ accessToken: 'refreshed', refreshToken: `${user}-2`, expiresIn: HOUR }),
        ).resolves.toMatchObject({ accessToken: 'refreshed' });
        await expect(rejected(idp)).resolves.toMatchObject({ accessToken: `access of ${user}-2` });
        expect(rigOf().redeemed).toEqual([user, `${user}-2`]);
      });

      it('is served although the provider rejects this refresh, and loses the rejected refresh token', async () => {
        const { answerWith } = await beginRefresh(idp);
        await logInAgain(idp);
        await expect(answerWith({ status: 400, error: 'invalid_grant' })).resolves.toMatchObject({
          accessToken: 'of the login',
        });
        await expect(get(idp)).resolves.toMatchObject({ accessToken: 'of the login' });
        await expectNoRefreshToken(idp);
        expect(rigOf().redeemed).toEqual([user]);
        await expect(manager.reactivateIdpTokens(idp, { userIds: [user] })).resolves.toBe(0);
        await logInAgain(idp, 'of a later login');
        await expect(get(idp)).resolves.toMatchObject({ accessToken: 'of a later login' });
      });

      it.each([503, 500] as const)('is served although this refresh fails with status %d', async (status) => {
        rigOf().answer = () => ({ status });
        const { answerWith } = await beginRefresh(idp);
        await logInAgain(idp);
        await expect(answerWith({ status })).resolves.toMatchObject({ accessToken: 'of the login' });
        await expect(get(idp)).resolves.toMatchObject({ accessToken: 'of the login' });
      });
    });

    it('is no longer alone when a login with a refresh token follows during a refresh', async () => {
      const { answerWith } = await beginRefresh('acme');
      await logInAgain('acme');
      await store('acme', { accessToken: 'of the last login', refreshToken: `${user}-last` });
      await expect(answerWith({ status: 400, error: 'invalid_grant' })).resolves.toMatchObject({
        accessToken: 'of the last login',
      });
      await rejected('acme');
      expect(rigOf().redeemed).toEqual([user, `${user}-last`]);
    });
  });

  describe('an access token without an expiry', () => {
    /** Stores a pair that the provider issued a while ago. */
    const storeIssued = async (idp: string, secondsAgo: number, refreshToken: string | null) => {
      const key = { keycloakUserId: user, idp, account: '' };
      const cipher = rigOf().get(TokenCipher);
      const pair = {
        accessToken: cipher.seal('access', authTokenLocation(key, 'access_token')),
        refreshToken: refreshToken ? cipher.seal(refreshToken, authTokenLocation(key, 'refresh_token')) : '',
        accessTokenExpiresAt: 0,
        refreshTokenExpiresAt: 0,
        scopes: null,
        issuedAt: seconds() - secondsAgo,
        mayDropRefreshToken: false,
        isExplicit: true,
      } as const;
      await expect(rigOf().get(AuthTokensTable).import(key, pair, null)).resolves.toBe(true);
    };

    it('has the end of the lifetime that the module assumes at the provider', async () => {
      await storeIssued('gitlab', 1200, user);
      const { accessToken, expiresAt } = await get('gitlab');
      expect(accessToken).toBe('access');
      expect(Math.abs(expiresAt - seconds() - 6000)).toBeLessThan(5);
      expect(rigOf().redeemed).toEqual([]);
    });

    it('is refreshed when this lifetime is over', async () => {
      await storeIssued('gitlab', 7201, user);
      await expect(get('gitlab')).resolves.toMatchObject({ accessToken: `access of ${user}` });
      expect(rigOf().redeemed).toEqual([user]);
    });

    it('is served for ever if no refresh token can replace it, or if its provider has no such lifetime', async () => {
      await storeIssued('gitlab', 8000, null);
      await storeIssued('acme', 8000, user);
      await expect(get('gitlab')).resolves.toMatchObject({ accessToken: 'access', expiresAt: 0 });
      await expect(get('acme')).resolves.toMatchObject({ accessToken: 'access', expiresAt: 0 });
      expect(rigOf().redeemed).toEqual([]);
    });

    it('gets a new lifetime by a login without a refresh token', async () => {
      await storeIssued('gitlab', 7201, user);
      await logInAgain('gitlab');
      const { accessToken, expiresAt } = await get('gitlab');
      expect(accessToken).toBe('of the login');
      expect(Math.abs(expiresAt - seconds() - 7200)).toBeLessThan(5);
    });
  });
}
