import { beforeEach, describe, expect, it } from '@jest/globals';

import { QueryRunnerScope, type SealedToken } from '../../src/index.js';
import type { ImportRules } from '../../src/storage/auth-tokens/auth-tokens-write.statements.js';
import { AuthTokensTable } from '../../src/storage/auth-tokens/auth-tokens.table.js';
import { DisconnectedAccountsTable } from '../../src/storage/disconnected-accounts/disconnected-accounts.table.js';
import type { ScopedTokens } from '../../src/storage/stored-tokens.js';
import { TokenRevocationsTable } from '../../src/storage/token-revocations/token-revocations.table.js';
import type { AccountKey } from '../../src/token-key.js';
import { type ManagerUnderTest, outside } from './manager-under-test.js';

const ISSUED_AT = Math.floor(Date.now() / 1000) - 100;

function pairOf(accessToken: string, refreshToken = ''): ScopedTokens {
  return {
    accessToken: accessToken as SealedToken,
    refreshToken: refreshToken as SealedToken | '',
    accessTokenExpiresAt: 0,
    refreshTokenExpiresAt: refreshToken ? 4_000_000_000 : 0,
    scopes: null,
  };
}

/** Describes what only other parts of the module see of the tables. */
export function describeTables(rigOf: () => ManagerUnderTest): void {
  let table: AuthTokensTable;
  let disconnected: DisconnectedAccountsTable;
  let revocations: TokenRevocationsTable;
  let scope: QueryRunnerScope;
  let key: AccountKey;
  let keys = 0;
  const rollback = new Error('rolled back on purpose');

  beforeEach(() => {
    table = rigOf().get(AuthTokensTable);
    disconnected = rigOf().get(DisconnectedAccountsTable);
    revocations = rigOf().get(TokenRevocationsTable);
    scope = rigOf().get(QueryRunnerScope);
    // This provider is not configured, so that no revoker takes its pairs up.
    key = { keycloakUserId: 'user-of-tables', idp: `provider-${++keys}`, account: '' };
  });

  const store = (pair: ScopedTokens, { clientId = 'client', keeps = true } = {}) =>
    table.store(key, pair, clientId || null, keeps);
  const load = async () => {
    const row = await table.load(key);
    if (!row) throw new Error('The row is not there.');
    return row;
  };
  /** Takes the lease of the row. */
  const lease = async ({ isRejected = false } = {}) => {
    const { version: seenVersion, state: seenState } = await load();
    const leaseId = String(keys * 1000 + 1);
    const grant = await table.leases.acquire(key, { leaseId, leaseMs: 60_000, seenVersion, seenState, isRejected });
    expect(grant.kind).toBe('granted');
    return { leaseId, seenVersion };
  };
  const claimed = async (limit = 100, busy: readonly string[] = []) =>
    (await revocations.claim({ revocable: [key.idp], busy, limit })).map(({ id, ...pair }) => {
      expect(id).toMatch(/^\d+$/);
      return pair;
    });

  describe('a store without a refresh token', () => {
    it('keeps the refresh token, its expiry and its client, and draws a version', async () => {
      await store(pairOf('a', 'r'));
      const before = await load();
      await store(pairOf('b'), { clientId: '' });
      const { tokens, id, version, clientId, state, openLeases } = await load();
      expect(tokens).toEqual({ ...pairOf('b', 'r'), version });
      expect({ id, clientId, state, openLeases }).toEqual({
        id: before.id,
        clientId: 'client',
        state: 'idle',
        openLeases: 0,
      });
      expect(version).not.toBe(before.version);
    });

    it('keeps the version that was redeemed for the refresh token', async () => {
      await store(pairOf('a', 'r'));
      const { leaseId: version, seenVersion: redeemedVersion } = await lease();
      const successor = { version, redeemedVersion, issuedAt: ISSUED_AT, clientId: 'client', rejections: 2 };
      await table.leases.commit(key, { ...pairOf('b', 's'), ...successor });
      expect(await load()).toMatchObject({ parentVersion: redeemedVersion, rejections: 2 });
      await store(pairOf('c'));
      expect(await load()).toMatchObject({ tokens: pairOf('c', 's'), parentVersion: redeemedVersion, rejections: 0 });
    });

    it('keeps the version and the open lease of a refresh under way, and forgets what was said of the old token', async () => {
      await store(pairOf('a', 'r'));
      await lease({ isRejected: true });
      const before = await load();
      expect(before).toMatchObject({ state: 'leased', openLeases: 1, wasRejected: true });
      await store(pairOf('b'));
      const after = await load();
      expect(after).toMatchObject({
        ...{ state: 'leased', openLeases: 1, wasRejected: false, rejections: 0, version: before.version },
        tokens: pairOf('b', 'r'),
      });
      expect(after.issuedSecondsAgo * 1000).toBeLessThan(after.firstLeasedMsAgo);
    });

    it('drops what the host does not keep, and the refresh token of another client', async () => {
      await store(pairOf('a', 'r'));
      await store(pairOf('b'), { clientId: 'another' });
      expect(await load()).toMatchObject({ tokens: pairOf('b'), clientId: 'another', hasRefreshToken: false });
      await store(pairOf('a', 'r'));
      await store(pairOf('b'), { keeps: false });
      expect(await load()).toMatchObject({ tokens: pairOf('b'), clientId: 'client', hasRefreshToken: false });
    });
  });

  describe('a verdict on a refresh token', () => {
    const verdict = { quarantineMs: 60_000, errorCode: 'invalid_grant', isCertain: false };

    it('drops the token alone if a login has replaced the access token since the exchange began', async () => {
      await store(pairOf('a', 'r'));
      const held = await lease();
      await store(pairOf('b'));
      await expect(table.leases.reject(key, { ...held, ...verdict })).resolves.toBe('quarantined');
      const { tokens, version, ...row } = await load();
      expect(tokens).toEqual({ ...pairOf('b'), version });
      expect(version).not.toBe(held.seenVersion);
      expect(row).toMatchObject({
        ...{ state: 'idle', openLeases: 0, firstLeasedMsAgo: 0, quarantinedForMs: 0, hasRefreshToken: false },
        ...{ clientId: 'client', failureKind: 'transient', lastErrorCode: 'invalid_grant' },
      });
    });

    it('ends the grant otherwise', async () => {
      await store(pairOf('a', 'r'));
      const held = await lease();
      await expect(table.leases.reject(key, { ...held, ...verdict })).resolves.toBe('ended');
      expect(await load()).toMatchObject({ state: 'ended', tokens: pairOf('a', 'r'), version: held.seenVersion });
    });

    it('on a dead access token leaves the refresh token to the provider when the grant is reactivated', async () => {
      await store(pairOf('a', 'r'));
      const held = await lease();
      const dead = { ...held, ...verdict, errorCode: 'ACCESS_TOKEN_DEAD', isCertain: true };
      await expect(table.leases.reject(key, dead)).resolves.toBe('ended');
      const all = { idp: key.idp, userIds: null, accounts: null, endedAfter: null, errorCode: null };
      await expect(table.reactivate(all)).resolves.toBe(1);
      const row = await load();
      expect(row).toMatchObject({
        ...{ state: 'abandoned', openLeases: 1, wasRejected: true, version: held.seenVersion },
        ...{ failureCount: 0, failureKind: null, lastErrorCode: null },
      });
      await expect(table.reactivate(all)).resolves.toBe(0);
    });

    it('leaves no rejection behind that was not one when the grant is reactivated', async () => {
      await store(pairOf('a', 'r'));
      await table.leases.reject(key, { ...(await lease({ isRejected: true })), ...verdict });
      await table.reactivate({
        idp: key.idp,
        userIds: null,
        accounts: null,
        endedAfter: null,
        errorCode: 'invalid_grant',
      });
      expect(await load()).toMatchObject({ state: 'idle', openLeases: 0, wasRejected: true });
    });
  });

  describe('an import', () => {
    const importPair = (pair: ScopedTokens, rules: Partial<ImportRules> = {}, clientId: string | null = 'client') =>
      table.import(
        key,
        { ...pair, issuedAt: ISSUED_AT, mayDropRefreshToken: false, isExplicit: false, ...rules },
        clientId,
      );

    it('inserts a pair with its time of issue', async () => {
      await expect(importPair(pairOf('a', 'r'))).resolves.toBe(true);
      const row = await load();
      expect(row).toMatchObject({ tokens: pairOf('a', 'r'), parentVersion: null, clientId: 'client', state: 'idle' });
      expect(row.issuedAt).toBe(ISSUED_AT);
    });

    it('replaces a pair that was issued earlier, or in the same second and not refreshed since', async () => {
      await importPair(pairOf('a', 'r'));
      const { id, version } = await load();
      await expect(importPair(pairOf('b', 's'), { issuedAt: ISSUED_AT - 1 })).resolves.toBe(false);
      await expect(importPair(pairOf('c', 's'))).resolves.toBe(true);
      await expect(importPair(pairOf('d', 's'), { issuedAt: ISSUED_AT + 1 })).resolves.toBe(true);
      const row = await load();
      expect(row).toMatchObject({ id, tokens: pairOf('d', 's') });
      expect(row.version).not.toBe(version);
    });

    it('never replaces what was refreshed here since, and a pair of unknown age only if nothing was', async () => {
      const unknown = { issuedAt: 0 };
      await importPair(pairOf('a', 'r'));
      await expect(importPair(pairOf('b', 'r'), unknown)).resolves.toBe(true);
      const { leaseId, seenVersion: redeemedVersion } = await lease();
      const successor = {
        version: leaseId,
        redeemedVersion,
        issuedAt: ISSUED_AT + 10,
        clientId: 'client',
        rejections: 0,
      };
      await expect(table.leases.commit(key, { ...pairOf('c', 's'), ...successor })).resolves.toBe(true);
      for (const issuedAt of [0, ISSUED_AT, ISSUED_AT + 10]) {
        await expect(importPair(pairOf('d', 'r'), { issuedAt })).resolves.toBe(false);
      }
      const verdict = { quarantineMs: 0, errorCode: 'invalid_grant', isCertain: true };
      await table.leases.reject(key, { ...(await lease()), ...verdict });
      await expect(importPair(pairOf('e', 't'), unknown)).resolves.toBe(true);
      expect(await load()).toMatchObject({ state: 'idle', tokens: pairOf('e', 't') });
    });

    it('without a refresh token replaces a pair with one only if it may', async () => {
      await importPair(pairOf('a', 'r'));
      const later = { issuedAt: ISSUED_AT + 1 };
      await expect(importPair(pairOf('b'), later)).resolves.toBe(false);
      await expect(importPair(pairOf('b'), { ...later, mayDropRefreshToken: true })).resolves.toBe(true);
      await importPair(pairOf('c', 'r'), later);
      await expect(importPair(pairOf('d'), later, 'another')).resolves.toBe(true);
      expect(await load()).toMatchObject({ tokens: pairOf('d'), clientId: 'another' });
    });

    it('joins the transaction around it', async () => {
      const run = scope.run(async () => {
        await expect(importPair(pairOf('a', 'r'))).resolves.toBe(true);
        expect(await load()).toMatchObject({ tokens: pairOf('a', 'r') });
        throw rollback;
      });
      await expect(run).rejects.toBe(rollback);
      await expect(table.load(key)).resolves.toBeNull();
    });

    it('by itself connects no account that its user disconnected', async () => {
      await expect(table.deleteForRevocation(key, true)).resolves.toBe(false);
      await expect(disconnected.has(key)).resolves.toBe(true);
      await expect(importPair(pairOf('a'))).resolves.toBe(false);
      await expect(importPair(pairOf('a'), { isExplicit: true })).resolves.toBe(true);
      await expect(disconnected.has(key)).resolves.toBe(false);
      await expect(table.deleteForRevocation(key, true)).resolves.toBe(true);
      await store(pairOf('of a login'));
      await expect(importPair(pairOf('b'), { issuedAt: ISSUED_AT + 1000 })).resolves.toBe(true);
    });
  });

  describe('a note of a disconnected account', () => {
    it('is of one user and provider, and needs no pair', async () => {
      await expect(disconnected.has(key)).resolves.toBe(false);
      await expect(table.deleteForRevocation(key, false)).resolves.toBe(false);
      await expect(disconnected.has(key)).resolves.toBe(true);
      await expect(disconnected.has({ ...key, keycloakUserId: 'another' })).resolves.toBe(false);
      await expect(disconnected.has({ ...key, idp: 'another' })).resolves.toBe(false);
    });

    it('is forgotten with the deletion of a later pair, and not if there is none', async () => {
      await table.deleteForRevocation(key, false);
      await expect(table.delete(key)).resolves.toBeNull();
      await expect(disconnected.has(key)).resolves.toBe(true);
      await store(pairOf('a', 'r'));
      await expect(disconnected.has(key)).resolves.toBe(true);
      await expect(table.delete(key)).resolves.toMatchObject(pairOf('a', 'r'));
      await expect(disconnected.has(key)).resolves.toBe(false);
    });

    it('joins the transaction around it', async () => {
      const run = scope.run(async () => {
        await table.deleteForRevocation(key, false);
        await expect(disconnected.has(key)).resolves.toBe(true);
        throw rollback;
      });
      await expect(run).rejects.toBe(rollback);
      await expect(disconnected.has(key)).resolves.toBe(false);
    });
  });

  describe('the end of a connection and an automatic import at the same time', () => {
    const importPair = () =>
      table.import(
        key,
        { ...pairOf('imported', 'r'), issuedAt: ISSUED_AT, mayDropRefreshToken: false, isExplicit: false },
        'client',
      );
    const expectDisconnected = async () => {
      await expect(table.load(key)).resolves.toBeNull();
      await expect(disconnected.has(key)).resolves.toBe(true);
    };

    it('leave no pair, in either order', async () => {
      await Promise.all([importPair(), table.deleteForRevocation(key, true)]);
      await expectDisconnected();
      await table.delete(key);
      await Promise.all([table.deleteForRevocation(key, true), importPair()]);
      await expectDisconnected();
    });

    it('leave no pair, at whatever moment the import runs', async () => {
      await store(pairOf('a'));
      const imports = Array.from({ length: 20 }, async (_, moment) => {
        for (let turn = 0; turn < moment; turn++) await Promise.resolve();
        await importPair();
      });
      await Promise.all([table.deleteForRevocation(key, true), ...imports]);
      await expectDisconnected();
    });

    it('leave no pair if the transaction of the end is open meanwhile', async () => {
      const importOutside = outside(importPair);
      await scope.run(async () => {
        await table.deleteForRevocation(key, true);
        await expect(importOutside()).resolves.toBe(false);
      });
      await expectDisconnected();
    });

    it('leave no pair if the transaction of the import is open meanwhile', async () => {
      const disconnectOutside = outside(() => table.deleteForRevocation(key, true));
      let deleted: Promise<boolean> = Promise.resolve(false);
      await scope.run(async () => {
        await expect(importPair()).resolves.toBe(true);
        deleted = disconnectOutside();
        expect(await load()).toMatchObject({ tokens: pairOf('imported', 'r') });
      });
      await expect(deleted).resolves.toBe(true);
      await expectDisconnected();
      expect(await claimed()).toMatchObject([{ accessToken: 'imported' }]);
    });

    it('connect the account again in a transaction that has deleted its own note', async () => {
      await table.deleteForRevocation(key, true);
      await scope.run(async () => {
        await store(pairOf('of a login'));
        await table.delete(key);
        await expect(importPair()).resolves.toBe(true);
      });
      expect(await load()).toMatchObject({ tokens: pairOf('imported', 'r') });
    });
  });

  describe('the outbox of revocations', () => {
    const pair = (accessToken: string) => ({
      ...key,
      accessToken: accessToken as SealedToken,
      refreshToken: '' as const,
      clientId: 'client',
    });

    it('gets the pair of a deletion if its provider can revoke, and nothing if nothing was stored', async () => {
      await expect(table.deleteForRevocation(key, true)).resolves.toBe(false);
      await store(pairOf('not revocable'));
      await table.deleteForRevocation(key, false);
      await store(pairOf('revocable', 'r'));
      await expect(table.deleteForRevocation(key, true)).resolves.toBe(true);
      const { refreshTokenExpiresAt, accessTokenExpiresAt, scopes, ...tokens } = pairOf('revocable', 'r');
      expect([refreshTokenExpiresAt, accessTokenExpiresAt, scopes]).toEqual([4_000_000_000, 0, null]);
      expect(await claimed()).toEqual([{ ...key, ...tokens, clientId: 'client', attempts: 1 }]);
    });

    it('gives each due pair to one claim, up to a limit', async () => {
      for (const name of ['a', 'b', 'c']) await revocations.add(pair(name));
      const first = await claimed(2);
      expect(first).toHaveLength(2);
      const all = [...first, ...(await claimed(2))].map(({ accessToken }) => accessToken).sort();
      expect(all).toEqual(['a', 'b', 'c']);
      expect(await claimed()).toEqual([]);
    });

    it('gives no pair of a busy provider, or of one at which the process cannot revoke', async () => {
      await revocations.add(pair('a'));
      expect(await claimed(1, [key.idp])).toEqual([]);
      await expect(revocations.claim({ revocable: [], busy: [], limit: 100 })).resolves.toEqual([]);
      expect(await claimed()).toHaveLength(1);
    });

    it('gives each due pair to one of two claims at once', async () => {
      for (const name of ['a', 'b', 'c']) await revocations.add(pair(name));
      const all = (await Promise.all([claimed(), claimed()])).flat().map(({ accessToken }) => accessToken);
      expect(all.sort()).toEqual(['a', 'b', 'c']);
    });

    it('has no pair that was removed, also after it was postponed', async () => {
      await revocations.add(pair('a'));
      const [first] = await revocations.claim({ revocable: [key.idp], busy: [], limit: 100 });
      const id = first?.id ?? '';
      await revocations.postpone(id, 'http_503');
      expect(await claimed()).toEqual([]);
      await revocations.remove(id);
      await revocations.postpone(id, 'http_503');
      expect(await claimed()).toEqual([]);
    });

    it('tells which tokens of a key are still to be revoked, also in the transaction that adds them', async () => {
      const find = () => revocations.findPending(key);
      const findOutside = outside(find);
      await revocations.add(pair('a'));
      await scope.run(async () => {
        await revocations.add(pair('b'));
        await revocations.add({ ...pair('c'), keycloakUserId: 'another' });
        await expect(findOutside()).resolves.toEqual([{ accessToken: 'a', refreshToken: '' }]);
        expect((await find()).map(({ accessToken }) => accessToken).sort()).toEqual(['a', 'b']);
      });
      await expect(find()).resolves.toHaveLength(2);
      for (const { id } of await revocations.claim({ revocable: [key.idp], busy: [], limit: 100 })) {
        await revocations.remove(id);
      }
      await expect(find()).resolves.toEqual([]);
    });

    it('gives no pair that is not committed', async () => {
      const run = scope.run(async () => {
        await revocations.add(pair('a'));
        expect(await claimed()).toEqual([]);
        throw rollback;
      });
      await expect(run).rejects.toBe(rollback);
      expect(await claimed()).toEqual([]);
    });
  });
}
