import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';

import { InterruptedRefresh } from '../support/interrupted-refresh.js';
import { OutcomeTable } from '../support/outcome-table.js';
import { until } from '../support/until.js';

const REAUTHENTICATION = 'ERR_TOKENS_REAUTHENTICATION_REQUIRED';
const UNAVAILABLE = 'ERR_TOKENS_REFRESH_UNAVAILABLE';
const policy = {
  exchangeTimeoutMs: 1000,
  leaseMs: 3000,
  takeoverDelayMs: 800,
  refreshEndsAccessToken: true,
};
const table = new OutcomeTable();

let rig: InterruptedRefresh;

beforeAll(async () => {
  rig = await InterruptedRefresh.start({
    provider: { mode: 'single-use', oldAccessTokenDies: true },
    entry: (url) => ({
      introspectionEndpoint: `${url}/introspect`,
      policy,
    }),
    refresh: { backoffBaseMs: 50, backoffMaxMs: 100 },
  });
});

afterAll(async () => {
  table.print();
  await rig.stop();
});

afterEach(async () => {
  await rig.clear();
});

describe('A process that is killed during a refresh which ends the old access token', () => {
  it('before the provider redeemed: the old access token tells, and the user is served', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.killBeforeRedemption(user, refreshToken);
    const watch = rig.watch(user);
    await watch.served(accessToken);
    await watch.end();
    expect([...watch.dead]).toEqual([]);
    expect([...watch.handedOut]).not.toContain(accessToken);
    expect(watch.errors.filter(({ code }) => code === REAUTHENTICATION)).toEqual([]);
    await expect(rig.questions(accessToken)).resolves.toBe(1);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['pending', 'redeemed']);
    await expect(rig.row(user)).resolves.toMatchObject({ status: 'active', open_leases: 0, lease_id: null });
    table.add('witness: kill -9 before the provider redeemed', {
      tried: 1,
      recovered: 1,
      reauthentication: 0,
      lost: 0,
    });
  });

  it('after the provider redeemed: the old access token tells, and the user is told at once', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.killAfterRedemption(user, refreshToken);
    const watch = rig.watch(user);
    await watch.told(REAUTHENTICATION);
    await watch.end();
    expect([...watch.handedOut]).toEqual([]);
    await expect(rig.questions(accessToken)).resolves.toBe(1);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['redeemed']);
    await expect(rig.row(user)).resolves.toMatchObject({
      status: 'reauthentication_required',
      last_error_code: 'ACCESS_TOKEN_DEAD',
    });
    table.add('witness: kill -9 after the provider redeemed', { tried: 1, recovered: 0, reauthentication: 1, lost: 0 });
  });

  it('after the provider redeemed, of a token that others take for fresh: it is not handed out', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.database.query(
      "UPDATE auth_tokens SET issued_at = now() - interval '1000 s' WHERE keycloak_user_id = $1",
      [user],
    );
    await expect(rig.tokens.getIdpToken(user, 'hostile')).resolves.toMatchObject({ accessToken });
    await rig.killAfterRedemption(user, refreshToken, { minValiditySeconds: 700 });
    const watch = rig.watch(user);
    await watch.told(REAUTHENTICATION);
    await watch.end();
    expect([...watch.handedOut]).toEqual([]);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['redeemed']);
    table.add('witness: kill -9 after the provider redeemed, access token fresh', {
      tried: 1,
      recovered: 0,
      reauthentication: 1,
      lost: 0,
    });
  });

  it('before the provider redeemed, which is down afterwards: the old access token is served on', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.killBeforeRedemption(user, refreshToken);
    await rig.leaseOver(user);
    await rig.provider.setFaults(
      [refreshToken],
      ...Array.from({ length: 50 }, () => ({ kind: 'unavailable' }) as const),
    );
    await expect(rig.tokens.getIdpToken(user, 'hostile')).resolves.toMatchObject({ accessToken });
    await expect(rig.row(user)).resolves.toMatchObject({
      status: 'active',
      open_leases: 0,
      last_error_code: 'http_503',
    });
    await expect(rig.tokens.getIdpToken(user, 'hostile')).resolves.toMatchObject({ accessToken });
    await rig.provider.setFaults([refreshToken]);
    const watch = rig.watch(user);
    await watch.served(accessToken);
    await watch.end();
    expect(watch.errors).toEqual([]);
    await expect(rig.questions(accessToken)).resolves.toBe(1);
  });

  it('twice before the provider redeemed: each lease is asked about once, and the user is served', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.killBeforeRedemption(user, refreshToken);
    await rig.leaseOver(user);
    await rig.killBeforeRedemption(user, refreshToken);
    const watch = rig.watch(user);
    await watch.served(accessToken);
    await watch.end();
    expect([...watch.dead]).toEqual([]);
    await expect(rig.questions(accessToken)).resolves.toBe(2);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['pending', 'pending', 'redeemed']);
    table.add('witness: kill -9 of two holders', { tried: 1, recovered: 1, reauthentication: 0, lost: 0 });
  });
});

describe('A process that is stopped after the provider redeemed', () => {
  it('brings a grant back that was ended on the word of the old access token', async () => {
    const { user, refreshToken } = await rig.staleUser(600);
    const holder = await rig.stopAfterRedemption(user, refreshToken);
    const watch = rig.watch(user);
    await watch.told(REAUTHENTICATION);
    await expect(rig.row(user)).resolves.toMatchObject({ status: 'reauthentication_required' });
    holder.kill('SIGCONT');
    await until(() => watch.handedOut.size > 0);
    await watch.end();
    expect([...watch.dead]).toEqual([]);
    expect(watch.handedOut.size).toBe(1);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['redeemed']);
    await expect(rig.row(user)).resolves.toMatchObject({ status: 'active', open_leases: 0, last_error_code: null });
    table.add('witness: late commit after the end', { tried: 1, recovered: 1, reauthentication: 0, lost: 0 });
  });
});

describe('An answer of the provider that is lost, while the holder lives', () => {
  it('with the old access token alive: it is served on, the refresh backs off, and nothing is lost', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.provider.setFaults([refreshToken], { kind: 'error-before' }, { kind: 'error-before' });
    await expect(rig.tokens.getIdpToken(user, 'hostile')).resolves.toMatchObject({ accessToken });
    await expect(rig.row(user)).resolves.toMatchObject({ status: 'active', open_leases: 0, failure_count: 1 });
    const watch = rig.watch(user);
    await watch.served(accessToken);
    await watch.end();
    expect(watch.errors).toEqual([]);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual([
      'not-served',
      'not-served',
      'redeemed',
    ]);
    table.add('witness: 500 before the provider redeemed', { tried: 1, recovered: 1, reauthentication: 0, lost: 0 });
  });

  it('with the old access token dead: the user is told at once, and the spent token is not sent again', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.provider.setFaults([refreshToken], { kind: 'error-after-rotating' });
    const askedAt = performance.now();
    await expect(rig.tokens.getIdpToken(user, 'hostile')).rejects.toMatchObject({ code: REAUTHENTICATION });
    expect(performance.now() - askedAt).toBeLessThan(policy.exchangeTimeoutMs);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['redeemed']);
    await expect(rig.questions(accessToken)).resolves.toBe(1);
    table.add('witness: 500 after the provider redeemed', { tried: 1, recovered: 0, reauthentication: 1, lost: 0 });
  });

  it('with the old access token dead, and the row locked by the host: the dead token is not handed out', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.provider.setFaults([refreshToken], { kind: 'error-after-rotating', ms: 300 });
    const call = rig.tokens.getIdpToken(user, 'hostile');
    await until(async () => (await rig.row(user)).open_leases === 1);
    const lock = await rig.lock(user);
    await expect(call).rejects.toMatchObject({ retryable: true });
    const watch = rig.watch(user);
    await lock.release();
    await watch.told(REAUTHENTICATION);
    await watch.end();
    expect([...watch.handedOut]).toEqual([]);
    expect(watch.errors.filter(({ code }) => code !== REAUTHENTICATION && code !== UNAVAILABLE)).toEqual([]);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['redeemed']);
    expect(await rig.questions(accessToken)).toBeLessThanOrEqual(2);
  });
});
