import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { AuthTokenStore, OfflineTokenStore, QueryRunnerScope, TokenManager } from '../../src/index.js';
import { dataSourceOf } from '../../src/postgres/data-source-of.js';
import { failureOf } from './failure-of.js';
import { gate } from './gate.js';
import { type ManagerUnderTest, outside } from './manager-under-test.js';
import { until } from './until.js';

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

    it('make writers of the same row wait for their end, however long it takes', async () => {
      const other = `${user}-other`;
      await store('before');
      await manager.storeOfflineToken(user, 'before');
      const began = performance.now();
      const writes = outside(() => [
        store('stored'),
        manager.revokeIdpTokens(user, 'acme'),
        manager.storeOfflineToken(user, 'stored'),
        scope.run(async () => {
          await manager.storeIdpTokens(other, 'acme', { accessToken: 'stored with it' });
          await store('stored in a transaction');
        }),
      ]);
      let waiting: Promise<unknown>[] = [];
      await scope.run(async () => {
        await store('inside');
        await manager.storeOfflineToken(user, 'inside');
        waiting = writes();
        for (const write of waiting) write.catch(() => undefined); // the assertion below sees a rejection
        // longer than the module tries statements that do not wait
        await until(() => performance.now() - began > 2000);
      });
      await expect(Promise.all(waiting)).resolves.toHaveLength(4);
      expect(await read(other)).toBe('stored with it');
      await expect(manager.loadOfflineToken(user)).resolves.toBe('stored');
    });

    it('that wait for each other are not kept waiting, because one of them fails', async () => {
      const [first, second] = [`${user}-first`, `${user}-second`];
      const storeFor = (of: string, accessToken: string) => manager.storeIdpTokens(of, 'acme', { accessToken });
      const [hasFirst, hasSecond] = [gate(), gate()];
      const outcomes = await Promise.allSettled([
        scope.run(async () => {
          await storeFor(first, 'of the first');
          hasFirst.open();
          await hasSecond.passed;
          await storeFor(second, 'of the first');
        }),
        scope.run(async () => {
          await storeFor(second, 'of the second');
          hasSecond.open();
          await hasFirst.passed;
          await storeFor(first, 'of the second');
        }),
      ]);
      const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
      expect(refused).toHaveLength(1);
      expect(refused[0]?.reason).toMatchObject({
        name: 'TokenStoreUnavailableError',
        message: expect.stringMatching(/SQLSTATE 40P01/),
        sqlState: '40P01',
        retryable: true,
      });
      const winner = outcomes[0].status === 'fulfilled' ? 'of the first' : 'of the second';
      expect([await read(first), await read(second)]).toEqual([winner, winner]);
    });

    describe('with a failed statement whose error the work swallows', () => {
      let accept: () => Promise<void>;
      let refused = '';
      const aborted = (action: RegExp) => ({
        name: 'TokenStoreUnavailableError',
        message: expect.stringMatching(action),
        sqlState: '25P02',
      });

      beforeEach(async () => {
        refused = `${user}-refused`;
        accept = await rigOf().refuseStores(refused);
      });

      afterEach(() => accept());

      const fail = async () => {
        const failing = manager.storeIdpTokens(refused, 'acme', { accessToken: 'x' });
        expect(await failureOf(failing)).toMatchObject({ code: 'ERR_TOKENS_STORE_UNAVAILABLE' });
      };

      it('do not commit', async () => {
        await store('before');
        const run = scope.run(async () => {
          await store('inside');
          await manager.storeOfflineToken(user, 'offline');
          await fail();
        });
        await expect(run).rejects.toMatchObject(
          aborted(/^PostgreSQL refused to commit a transaction \(SQLSTATE 25P02\)/),
        );
        expect(await read()).toBe('before');
        await expect(manager.loadOfflineToken(user)).resolves.toBeNull();
      });

      it('refuse every later statement', async () => {
        await store('before');
        const calls: (() => Promise<unknown>)[] = [
          () => store('afterwards'),
          () => manager.getIdpToken(user, 'acme'),
          () => manager.revokeIdpTokens(user, 'acme'),
          () => manager.reactivateIdpTokens('acme'),
          () => manager.loadOfflineToken(user),
          () => manager.storeOfflineToken(user, 'offline'),
          () => rigOf().get(AuthTokenStore).deleteTokens({ keycloakUserId: user, idp: 'acme' }),
        ];
        const run = scope.run(async (runner) => {
          await fail();
          for (const call of calls) {
            await expect(call()).rejects.toMatchObject(aborted(/^PostgreSQL refused to .+ \(SQLSTATE 25P02\)/));
          }
          await expect(runner.query('SELECT 1')).rejects.toThrow(/current transaction is aborted/);
          await expect(runner.startTransaction()).rejects.toThrow(/current transaction is aborted/);
        });
        await expect(run).rejects.toMatchObject(aborted(/commit a transaction/));
        expect(await read()).toBe('before');
      });

      it('begin if they are lazy, and do not commit', async () => {
        await expect(scope.run(fail, { lazy: true })).rejects.toMatchObject(aborted(/commit a transaction/));
      });

      it('go on after the rollback of the nested transaction that has it', async () => {
        await scope.run(async (runner) => {
          await store('outer');
          await runner.startTransaction();
          await store('nested');
          await fail();
          await expect(runner.commitTransaction()).rejects.toThrow(/current transaction is aborted/);
          await runner.rollbackTransaction();
          expect(await read()).toBe('outer');
          await manager.storeOfflineToken(user, 'afterwards');
        });
        expect(await read()).toBe('outer');
        await expect(manager.loadOfflineToken(user)).resolves.toBe('afterwards');
      });

      it('are rolled back by the COMMIT of the host that owns them', async () => {
        await store('before');
        const runner = rigOf().hostRunner();
        try {
          await runner.startTransaction();
          await scope.join(runner, async () => {
            await store('joined');
            await runner.query('CREATE TABLE of_the_failed_transaction ()');
            await fail();
          });
          await expect(runner.query('SELECT 2')).rejects.toThrow(/current transaction is aborted/);
          await runner.commitTransaction();
          expect(await read()).toBe('before');
          const [table] = (await runner.query("SELECT to_regclass('of_the_failed_transaction') AS name")) as unknown[];
          expect(table).toEqual({ name: null });
          await runner.startTransaction();
          await scope.join(runner, () => store('of the next transaction'));
          await runner.commitTransaction();
          expect(await read()).toBe('of the next transaction');
        } finally {
          await runner.release();
        }
      });

      it('(outside of a transaction) has no effect on other calls', async () => {
        await fail();
        await store('stored');
        expect(await read()).toBe('stored');
      });
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
