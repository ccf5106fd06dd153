import { afterAll, afterEach, describe, expect, it } from '@jest/globals';

import { InterruptedRefresh } from '../support/interrupted-refresh.js';
import { OutcomeTable } from '../support/outcome-table.js';
import type { TokenWatch } from '../support/token-watch.js';
import { until } from '../support/until.js';

const REAUTHENTICATION = 'ERR_TOKENS_REAUTHENTICATION_REQUIRED';
const UNAVAILABLE = 'ERR_TOKENS_REFRESH_UNAVAILABLE';
const VALID_FOR_SECONDS = 14;
const policy = { exchangeTimeoutMs: 1000, leaseMs: 3000, takeoverDelayMs: 800 };
const table = new OutcomeTable();

let rig: InterruptedRefresh;

afterAll(() => {
  table.print();
});

afterEach(async () => {
  await rig.stop();
});

async function start(kind: 'asked' | 'not asked'): Promise<void> {
  rig = await InterruptedRefresh.start({
    provider: { mode: 'single-use', oldAccessTokenDies: true },
    entry: (url) => ({
      policy: { ...policy, refreshEndsAccessToken: true },
      ...(kind === 'asked' && { introspectionEndpoint: `${url}/introspect` }),
    }),
    refresh: { commitWaitMs: 300 },
  });
}

/** Returns the errors of a watch that say when a caller must ask again. */
function undecided(watch: TokenWatch): { at: number; retryAfterMs: number }[] {
  return watch.errors.flatMap(({ code, retryAfterMs = 0, at }) =>
    code === UNAVAILABLE && retryAfterMs > 100 ? [{ at, retryAfterMs }] : [],
  );
}

describe.each(['asked', 'not asked'] as const)('An old access token that tells nothing, %s', (kind) => {
  const questions = kind === 'asked' ? 1 : 0;

  it('keeps the user waiting until it expires, and not longer', async () => {
    await start(kind);
    await rig.provider.answerIntrospections(500);
    const { user, accessToken, refreshToken } = await rig.staleUser(VALID_FOR_SECONDS);
    const { access_token_expires_at: expiresAt } = await rig.row(user);
    await rig.killBeforeRedemption(user, refreshToken);
    const watchedFrom = Date.now();
    const watch = rig.watch(user);
    await until(() => undecided(watch).length > 0, 20_000);
    await until(() => Date.now() > Number(expiresAt) * 1000 - 500, 20_000);
    await expect(rig.questions(accessToken)).resolves.toBe(questions);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['pending']);
    await watch.served(accessToken);
    await watch.end();
    const refusals = undecided(watch);
    expect(refusals.length).toBeGreaterThan(5);
    for (const { at, retryAfterMs } of refusals) {
      const untilExpiryMs = Number(expiresAt) * 1000 - (watchedFrom + at);
      expect(Math.abs(retryAfterMs - untilExpiryMs)).toBeLessThan(500);
    }
    expect([...watch.dead]).toEqual([]);
    expect([...watch.handedOut]).not.toContain(accessToken);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['pending', 'redeemed']);
    await expect(rig.questions(accessToken)).resolves.toBe(questions);
    table.add(`witness ${kind}, tells nothing`, { tried: 1, recovered: 1, reauthentication: 0, lost: 0 });
  });

  it('decides nothing for good when the provider’s API refuses it: the refresh token is sent', async () => {
    await start(kind);
    await rig.provider.answerIntrospections(500);
    const { user, refreshToken } = await rig.staleUser(600);
    const { token_version: rejectedVersion } = await rig.row(user);
    await rig.killBeforeRedemption(user, refreshToken);
    await rig.leaseOver(user);
    await expect(rig.tokens.getIdpToken(user, 'hostile')).rejects.toMatchObject({ code: UNAVAILABLE });
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['pending']);
    const demand = { rejectedVersion: String(rejectedVersion) };
    const { accessToken } = await rig.tokens.getIdpToken(user, 'hostile', demand);
    await expect(rig.provider.isAlive(accessToken)).resolves.toBe(true);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['pending', 'redeemed']);
  });

  it('keeps nobody waiting whose token the provider’s API has refused', async () => {
    await start(kind);
    await rig.provider.answerIntrospections(500);
    const { user, accessToken: old, refreshToken } = await rig.staleUser(600);
    const { token_version: rejectedVersion } = await rig.row(user);
    await rig.killBeforeRedemption(user, refreshToken);
    await rig.leaseOver(user);
    const demand = { rejectedVersion: String(rejectedVersion) };
    const { accessToken } = await rig.tokens.getIdpToken(user, 'hostile', demand);
    await expect(rig.provider.isAlive(accessToken)).resolves.toBe(true);
    await expect(rig.questions(old)).resolves.toBe(questions);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['pending', 'redeemed']);
  });

  it('and a spent refresh token end in the user being told, once it has expired', async () => {
    await start(kind);
    await rig.provider.answerIntrospections(500);
    const { user, refreshToken } = await rig.staleUser(6);
    await rig.killAfterRedemption(user, refreshToken);
    const watch = rig.watch(user);
    await watch.told(REAUTHENTICATION, 25_000);
    await watch.end();
    expect([...watch.handedOut]).toEqual([]);
    await expect(rig.row(user)).resolves.toMatchObject({ status: 'reauthentication_required' });
    table.add(`witness ${kind}, tells nothing, token spent`, {
      tried: 1,
      recovered: 0,
      reauthentication: 1,
      lost: 0,
    });
  });
});

describe('A pair that cannot be stored yet', () => {
  it('is what the callers of its process get, also when its lease has run out meanwhile', async () => {
    await start('not asked');
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.provider.setFaults([refreshToken], { kind: 'delay', ms: 300 });
    const call = rig.tokens.getIdpToken(user, 'hostile');
    await until(async () => (await rig.row(user)).open_leases === 1);
    const lock = await rig.lock(user);
    const { accessToken: unstored } = await call;
    expect(unstored).not.toBe(accessToken);
    await rig.leaseOver(user);
    await expect(rig.tokens.getIdpToken(user, 'hostile')).resolves.toMatchObject({ accessToken: unstored });
    await lock.release();
    await until(async () => (await rig.row(user)).open_leases === 0);
    await expect(rig.tokens.getIdpToken(user, 'hostile')).resolves.toMatchObject({ accessToken: unstored });
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['redeemed']);
  });
});

describe('A pair that cannot be stored before its access token expires', () => {
  it('is not handed out any more then, and is stored all the same', async () => {
    rig = await InterruptedRefresh.start({
      provider: { mode: 'single-use', accessTokenSeconds: 2 },
      entry: () => ({ policy }),
      refresh: { commitWaitMs: 300 },
    });
    const { user, refreshToken } = await rig.staleUser(-10);
    await rig.provider.setFaults([refreshToken], { kind: 'delay', ms: 300 });
    const call = rig.tokens.getIdpToken(user, 'hostile');
    await until(async () => (await rig.row(user)).open_leases === 1);
    const lock = await rig.lock(user);
    const { accessToken, expiresAt } = await call;
    await until(() => Date.now() > (expiresAt + 1) * 1000);
    await expect(rig.tokens.getIdpToken(user, 'hostile')).rejects.toMatchObject({ retryable: true });
    await lock.release();
    await until(async () => (await rig.row(user)).open_leases === 0);
    const { accessToken: next } = await rig.tokens.getIdpToken(user, 'hostile');
    expect(next).not.toBe(accessToken);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['redeemed']);
  });
});

describe('A provider whose refresh does not end the old access token', () => {
  it('is asked nothing: the old access token is handed out until it expires', async () => {
    rig = await InterruptedRefresh.start({
      provider: { mode: 'single-use' },
      entry: (url) => ({
        policy,
        introspectionEndpoint: `${url}/introspect`,
      }),
    });
    const { user, accessToken, refreshToken } = await rig.staleUser(10);
    const { access_token_expires_at: expiresAt } = await rig.row(user);
    await rig.killBeforeRedemption(user, refreshToken);
    await rig.leaseOver(user);
    const watch = rig.watch(user);
    await until(() => Date.now() > Number(expiresAt) * 1000 - 500, 20_000);
    expect([...watch.handedOut]).toEqual([accessToken]);
    expect(watch.errors).toEqual([]);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['pending']);
    await watch.served(accessToken);
    await watch.end();
    expect([...watch.dead]).toEqual([]);
    await expect(rig.questions(accessToken)).resolves.toBe(0);
    expect((await rig.sent(refreshToken)).map(({ outcome }) => outcome)).toEqual(['pending', 'redeemed']);
    table.add('refresh does not end the access token', { tried: 1, recovered: 1, reauthentication: 0, lost: 0 });
  });
});
