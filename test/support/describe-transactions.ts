import { beforeEach, describe, expect, it } from '@jest/globals';

import { AuthTokenStore, OfflineTokenStore, QueryRunnerScope, TokenManager } from '../../src/index.js';
import { dataSourceOf } from '../../src/postgres/data-source-of.js';
import { failureOf } from './failure-of.js';
import { type ManagerUnderTest, outside } from './manager-under-test.js';

/** Describes the transactions that token writes join. */
export function describeTransactions(rigOf: () => ManagerUnderTest): void {
  describe('transactions', () => {
    let scope: QueryRunnerScope;
    let manager: TokenManager;
    let user = '';
    let users = 0;
    const rollback = new Error('rolled back on purpose');

    beforeEach(() => {
      scope = rigOf().get(QueryRunnerScope);
      manager = rigOf().get(TokenManager);
      user = `transaction-${++users}`;
    });

    const store = (accessToken: string, refreshToken = 'refresh') =>
      manager.storeIdpTokens(user, 'acme', { accessToken, refreshToken });
    const read = async (of = user): Promise<string | null> => {
      try {
        return (await manager.getIdpToken(of, 'acme')).accessToken;
      } catch {
        return null;
      }
    };
    const usage = (message: RegExp) => ({
      name: 'TokensUsageError',
      code: 'ERR_TOKENS_USAGE',
      message: expect.stringMatching(message),
      retryable: false,
    });

    it('commit when the work resolves, and are visible outside only then', async () => {
      const readOutside = outside(() => read());
      await store('before');
      const result = await scope.run(async () => {
        await store('inside');
        expect(await read()).toBe('inside');
        expect(await readOutside()).toBe('before');
        return 'the result of the work';
      });
      expect(result).toBe('the result of the work');
      expect(await read()).toBe('inside');
    });

    it('roll back when the work rejects, and pass its error on', async () => {
      await store('before');
      const revoked = `${user}-revoked`;
      await manager.storeIdpTokens(revoked, 'acme', { accessToken: 'to revoke' });
      const work = scope.run(async () => {
        await store('inside');
        await manager.storeOfflineToken(user, 'offline');
        await manager.revokeIdpTokens(revoked, 'acme');
        expect(await read(revoked)).toBeNull();
        throw rollback;
      });
      await expect(work).rejects.toBe(rollback);
      expect(await read()).toBe('before');
      expect(await read(revoked)).toBe('to revoke');
      await expect(manager.loadOfflineToken(user)).resolves.toBeNull();
    });

    it('surround an inner run, whose failure the outer work may survive', async () => {
      await scope.run(async (outer) => {
        await store('outer');
        const inner = scope.run(async (runner) => {
          expect(runner).toBe(outer);
          await store('inner');
          throw rollback;
        });
        await expect(inner).rejects.toBe(rollback);
      });
      expect(await read()).toBe('inner');
      const nested = scope.run(async () => {
        await scope.run(() => store('committed by nobody'));
        throw rollback;
      });
      await expect(nested).rejects.toBe(rollback);
      expect(await read()).toBe('inner');
    });

    it('may have nested transactions of their own', async () => {
      await scope.run(async (runner) => {
        await store('first');
        await runner.startTransaction();
        await store('undone');
        await runner.rollbackTransaction();
        expect(await read()).toBe('first');
        await runner.startTransaction();
        await manager.storeIdpTokens(`${user}-nested`, 'acme', { accessToken: 'kept' });
        await runner.commitTransaction();
      });
      expect(await read()).toBe('first');
      expect(await read(`${user}-nested`)).toBe('kept');
      const undone = scope.run(async (runner) => {
        await store('of the outer level');
        await runner.startTransaction();
        await store('of the nested level');
        await runner.commitTransaction();
        throw rollback;
      });
      await expect(undone).rejects.toBe(rollback);
      expect(await read()).toBe('first');
    });

    it('begin at the first statement if they are lazy', async () => {
      expect(scope.current()).toBeUndefined();
      await scope.run(
        async (runner) => {
          expect(scope.current()).toBeUndefined();
          await store('lazy');
          expect(scope.current()).toBe(runner);
          expect(runner.isTransactionActive).toBe(true);
        },
        { lazy: true },
      );
      expect(await read()).toBe('lazy');
      await expect(scope.run(() => Promise.resolve('no statement'), { lazy: true })).resolves.toBe('no statement');
    });

    it('lend a query runner with its data source and with data of the host', async () => {
      await scope.run(async (runner) => {
        expect(runner.data).toEqual({});
        expect(dataSourceOf(runner).options.type).toBe('postgres');
        expect(runner.isReleased).toBe(false);
        expect(Reflect.get(runner, 'no member of this name')).toBeUndefined();
        await store('inside');
      });
    });

    it('do not begin with an isolation level that does not exist', async () => {
      let hasBegun = false;
      const run = scope.run(
        () => {
          hasBegun = true;
          return Promise.resolve();
        },
        { isolationLevel: 'NOPE' as never },
      );
      await expect(run).rejects.toThrow(Error);
      expect(hasBegun).toBe(false);
      await scope.run(() => store('serializable'), { isolationLevel: 'SERIALIZABLE' });
      expect(await read()).toBe('serializable');
    });

    it('must be ended by their owner', async () => {
      const ended = scope.run(async (runner) => {
        await store('ended');
        await runner.commitTransaction();
        await store('afterwards');
      });
      expect(await failureOf(ended)).toEqual(usage(/ended the transaction that it was given/));
      const released = scope.run(async (runner) => {
        await store('released');
        await runner.release();
      });
      expect(await failureOf(released)).toEqual(usage(/released the query runner that it was given/));
      const open = scope.run(async (runner) => {
        await runner.startTransaction();
        await store('left open');
      });
      expect(await failureOf(open)).toEqual(usage(/left a transaction open that it had started inside/));
      expect(await read()).toBe('ended');
    });

    it('do not have their uncommitted pairs refreshed', async () => {
      const stale = scope.run(async () => {
        await manager.storeIdpTokens(user, 'acme', { accessToken: 'x', refreshToken: 'r', accessTokenExpiresAt: 1 });
        await manager.getIdpToken(user, 'acme');
      });
      expect(await failureOf(stale)).toEqual({
        name: 'RefreshUnavailableError',
        code: 'ERR_TOKENS_REFRESH_UNAVAILABLE',
        message: `User "${user}", identity provider "acme": the tokens cannot be refreshed now, because they were stored \
in the current transaction, which must be committed first. Try again in 1 s.`,
        retryable: true,
      });
    });

    it('do not surround a refresh, whose successor survives their rollback', async () => {
      rigOf().answer = () => ({ accessToken: 'refreshed', refreshToken: 'r2', expiresIn: 3600 });
      await manager.storeIdpTokens(user, 'acme', { accessToken: 'x', refreshToken: 'r', accessTokenExpiresAt: 1 });
      const work = scope.run(async () => {
        expect(await read()).toBe('refreshed');
        throw rollback;
      });
      await expect(work).rejects.toBe(rollback);
      expect(await read()).toBe('refreshed');
    });

    it('do not surround the replacement of an offline token', async () => {
      const offline = rigOf().get(OfflineTokenStore).getInstance(user);
      await offline.storeToken('first');
      const work = scope.run(async () => {
        await expect(offline.replaceToken('first', 'second')).resolves.toBe(true);
        throw rollback;
      });
      await expect(work).rejects.toBe(rollback);
      await expect(offline.loadToken()).resolves.toBe('second');
      const locked = scope.run(async () => {
        await offline.storeToken('of the transaction');
        await offline.replaceToken('second', 'third');
      });
      expect(await failureOf(locked)).toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE', retryable: true });
      await expect(offline.loadToken()).resolves.toBe('second');
    });

    it('make writers of the same row wait for their end', async () => {
      const order: string[] = [];
      const storeOutside = outside(async () => {
        await store('outside');
        order.push('outside');
      });
      let waiting: Promise<void> = Promise.resolve();
      await scope.run(async () => {
        await store('inside');
        waiting = storeOutside();
        await rigOf().get(AuthTokenStore).isAccessTokenValid({ keycloakUserId: user, idp: 'acme' });
        order.push('inside');
      });
      await waiting;
      expect(order).toEqual(['inside', 'outside']);
      expect(await read()).toBe('outside');
    });

    it('let others write a row that they only looked for', async () => {
      const storeOutside = outside(() => store('outside'));
      await scope.run(async () => {
        await expect(manager.revokeIdpTokens(user, 'acme')).resolves.toBe(false);
        await storeOutside();
        expect(await read()).toBe('outside');
      });
      expect(await read()).toBe('outside');
    });

    it('make a refresh of the same row wait for their end', async () => {
      const { redeemed } = rigOf();
      redeemed.length = 0;
      rigOf().answer = () => ({ accessToken: 'refreshed', refreshToken: 'r2', expiresIn: 3600 });
      await manager.storeIdpTokens(user, 'acme', { accessToken: 'x', refreshToken: 'r', accessTokenExpiresAt: 1 });
      const readOutside = outside(() => read());
      let waiting: Promise<string | null> = Promise.resolve(null);
      await scope.run(async () => {
        await store('of the transaction');
        waiting = readOutside();
        for (let turn = 0; turn < 20; turn++) await read();
      });
      expect(await waiting).toBe('of the transaction');
      expect(redeemed).toEqual([]);
    });

    it('of the host commit and roll back what joins them', async () => {
      const runner = rigOf().hostRunner();
      try {
        await runner.startTransaction();
        await scope.join(runner, async () => {
          expect(scope.current()).toBe(runner);
          await store('joined');
          expect(await read()).toBe('joined');
        });
        expect(await read()).toBeNull();
        await runner.commitTransaction();
        expect(await read()).toBe('joined');

        await runner.startTransaction();
        const work = scope.join(runner, async () => {
          await store('undone');
          await scope.run(() => manager.storeOfflineToken(user, 'undone'));
          throw rollback;
        });
        await expect(work).rejects.toBe(rollback);
        await runner.rollbackTransaction();
        expect(await read()).toBe('joined');
        await expect(manager.loadOfflineToken(user)).resolves.toBeNull();

        await scope.join(runner, () => store('without a transaction'));
        expect(await read()).toBe('without a transaction');
      } finally {
        await runner.release();
      }
      expect(await failureOf(scope.join(runner, () => store('x')))).toEqual(usage(/query runner to join is released/));
    });
  });
}
