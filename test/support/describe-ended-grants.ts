import { beforeEach, describe, expect, it } from '@jest/globals';

import { type EndedGrants, QueryRunnerScope, TokenManager } from '../../src/index.js';
import { failureOf } from './failure-of.js';
import { type ManagerUnderTest, outside } from './manager-under-test.js';

/** Describes grants that ended by mistake, and the operator's call that makes them active again. */
export function describeEndedGrants(rigOf: () => ManagerUnderTest): void {
  describe('grants that ended by mistake', () => {
    let manager: TokenManager;
    let users: [string, string] = ['', ''];
    let rounds = 0;
    const refuse = () => {
      rigOf().answer = () => ({ status: 400, error: 'invalid_grant' });
    };
    const accept = () => {
      rigOf().answer = (refreshToken) => ({ accessToken: `access of ${refreshToken}`, expiresIn: 3600 });
    };

    beforeEach(async () => {
      manager = rigOf().get(TokenManager);
      users = [`ended-${++rounds}-a`, `ended-${rounds}-b`];
      refuse();
      for (const user of users) {
        const pair = { accessToken: 'x', refreshToken: `refresh of ${user}`, accessTokenExpiresAt: 1 };
        await manager.storeIdpTokens(user, 'acme', pair);
        await failureOf(manager.getIdpToken(user, 'acme'));
      }
      accept();
      rigOf().redeemed.length = 0;
    });

    const reactivate = (which: EndedGrants = {}) => manager.reactivateIdpTokens('acme', { userIds: users, ...which });
    const working = async () => {
      const all = await Promise.allSettled(users.map((user) => manager.getIdpToken(user, 'acme')));
      return users.filter((_, index) => all[index]?.status === 'fulfilled');
    };

    it('come back with their refresh tokens', async () => {
      await expect(working()).resolves.toEqual([]);
      await expect(reactivate()).resolves.toBe(2);
      await expect(working()).resolves.toEqual(users);
      expect([...rigOf().redeemed].sort()).toEqual(users.map((user) => `refresh of ${user}`));
      await expect(reactivate()).resolves.toBe(0);
    });

    it.each<[string, () => EndedGrants, number]>([
      ['of one user', () => ({ userIds: users.slice(1) }), 1],
      ['of no user', () => ({ userIds: [] }), 0],
      ['that ended since', () => ({ endedAfter: new Date(Date.now() - 60_000) }), 2],
      ['that end later', () => ({ endedAfter: new Date(Date.now() + 60_000) }), 0],
      ['with a code', () => ({ errorCode: 'invalid_grant' }), 2],
      ['with another code', () => ({ errorCode: 'bad_refresh_token' }), 0],
      [
        'by every condition',
        () => ({ userIds: users.slice(1), endedAfter: new Date(0), errorCode: 'invalid_grant' }),
        1,
      ],
    ])('are chosen: %s', async (_, which, count) => {
      await expect(reactivate(which())).resolves.toBe(count);
      await expect(working()).resolves.toHaveLength(count);
    });

    it('are those of one provider, and not those that a login has made active', async () => {
      await manager.storeIdpTokens(users[0], 'acme', { accessToken: 'of the login', refreshToken: 'new' });
      const { version } = await manager.getIdpToken(users[0], 'acme');
      await expect(manager.reactivateIdpTokens('github', { userIds: users })).resolves.toBe(0);
      await expect(reactivate()).resolves.toBe(1);
      await expect(manager.getIdpToken(users[0], 'acme')).resolves.toMatchObject({ version });
    });

    it('end again if they have really ended', async () => {
      await reactivate();
      refuse();
      await expect(working()).resolves.toEqual([]);
      expect(rigOf().redeemed).toHaveLength(2);
      await expect(reactivate()).resolves.toBe(2);
    });

    it('come back or not with the transaction around the call', async () => {
      const rollback = new Error('rolled back on purpose');
      const run = rigOf()
        .get(QueryRunnerScope)
        .run(async () => {
          await expect(reactivate()).resolves.toBe(2);
          throw rollback;
        });
      await expect(run).rejects.toBe(rollback);
      await expect(working()).resolves.toEqual([]);
    });

    it('are looked for without waiting for transactions that have other rows locked', async () => {
      const reactivateOutside = outside(() => reactivate());
      await reactivate({ userIds: users.slice(1) });
      await rigOf()
        .get(QueryRunnerScope)
        .run(async () => {
          await manager.storeIdpTokens(users[1], 'acme', { accessToken: 'of the transaction' });
          await expect(reactivateOutside()).resolves.toBe(1);
        });
    });

    it.each(['', ' ', 'x'.repeat(300)])(
      'are not looked for at a provider that no options can name: "%s"',
      async (idp) => {
        expect(await failureOf(manager.reactivateIdpTokens(idp))).toMatchObject({
          name: 'UnsupportedProviderError',
          code: 'ERR_TOKENS_UNSUPPORTED_PROVIDER',
        });
      },
    );

    it.each<[string, unknown, string]>([
      ['nothing', null, 'must be an object'],
      ['no list of users', { userIds: 'ada' }, 'must have a list as userIds'],
      ['no date', { endedAfter: 'now' }, 'must have a valid Date as endedAfter'],
      ['an empty code', { errorCode: '' }, 'must have a non-empty text as errorCode'],
      [
        'an unknown condition',
        { userId: 'ada' },
        'has no condition "userId". Use userIds, accounts, endedAfter or errorCode',
      ],
    ])('are not looked for with arguments that cannot be meant: %s', async (_, which, rule) => {
      expect(await failureOf(manager.reactivateIdpTokens('acme', which as EndedGrants))).toEqual({
        name: 'InvalidTokenInputError',
        code: 'ERR_TOKENS_INVALID_INPUT',
        message: `The choice of ended grants ${rule}.`,
        retryable: false,
      });
    });
  });
}
