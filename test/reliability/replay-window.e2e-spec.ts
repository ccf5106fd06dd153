import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';

import { InterruptedRefresh } from '../support/interrupted-refresh.js';
import { OutcomeTable } from '../support/outcome-table.js';

/** Longer than the start of a process takes. Tests that need the end of the window move the row into the past. */
const REPLAY_WINDOW_MS = 120_000;
const TAKEOVER_DELAY_MS = 2500;
const table = new OutcomeTable();

let rig: InterruptedRefresh;

beforeAll(async () => {
  rig = await InterruptedRefresh.start({
    provider: { mode: 'replay-new', replayWindowMs: REPLAY_WINDOW_MS },
    entry: () => ({
      policy: {
        exchangeTimeoutMs: 1000,
        leaseMs: 3000,
        replayWindowMs: REPLAY_WINDOW_MS,
        takeoverDelayMs: TAKEOVER_DELAY_MS,
      },
    }),
  });
});

afterAll(async () => {
  table.print();
  await rig.stop();
});

afterEach(async () => {
  await rig.clear();
});

/** Waits until the lease has expired, and moves the row into the past so that its replay window is over. */
async function windowOver(user: string): Promise<void> {
  await rig.leaseOver(user);
  await rig.age(user, REPLAY_WINDOW_MS);
}

async function outcomesOf(refreshToken: string): Promise<string[]> {
  return (await rig.sent(refreshToken)).map(({ outcome }) => outcome);
}

describe('A lease that ran out without a word', () => {
  it('inside the replay window is taken over at once, also while the access token works', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.killAfterRedemption(user, refreshToken);
    await rig.leaseOver(user);
    const askedAt = performance.now();
    const { accessToken: next } = await rig.tokens.getIdpToken(user, 'hostile');
    expect(performance.now() - askedAt).toBeLessThan(TAKEOVER_DELAY_MS);
    expect(next).not.toBe(accessToken);
    await expect(rig.provider.isAlive(next)).resolves.toBe(true);
    await expect(outcomesOf(refreshToken)).resolves.toEqual(['redeemed', 'replayed']);
    table.add('replay window: kill -9, taken over inside', { tried: 1, recovered: 1, reauthentication: 0, lost: 0 });
  });

  it('and is older than the window is left alone while the access token works', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.killAfterRedemption(user, refreshToken);
    await windowOver(user);
    for (let time = 0; time < 5; time++) {
      await expect(rig.tokens.getIdpToken(user, 'hostile')).resolves.toMatchObject({ accessToken });
    }
    await expect(rig.provider.isAlive(accessToken)).resolves.toBe(true);
    await expect(outcomesOf(refreshToken)).resolves.toEqual(['redeemed']);
    await expect(rig.row(user)).resolves.toMatchObject({ status: 'active', open_leases: 1 });
  });

  it('and is older than the window is taken over when the access token has expired, after the holder was waited for', async () => {
    const { user, refreshToken } = await rig.staleUser(600);
    await rig.killBeforeRedemption(user, refreshToken);
    await windowOver(user);
    await rig.expireIn(user, -10);
    const askedAt = performance.now();
    const { accessToken } = await rig.tokens.getIdpToken(user, 'hostile');
    expect(performance.now() - askedAt).toBeGreaterThan(TAKEOVER_DELAY_MS);
    await expect(rig.provider.isAlive(accessToken)).resolves.toBe(true);
    await expect(outcomesOf(refreshToken)).resolves.toEqual(['pending', 'redeemed']);
    table.add('replay window: kill -9, taken over after it', { tried: 1, recovered: 1, reauthentication: 0, lost: 0 });
  });
});

describe('Two leases in a row that ran out without a word', () => {
  it('do not open the replay window anew', async () => {
    const { user, accessToken, refreshToken } = await rig.staleUser(600);
    await rig.killAfterRedemption(user, refreshToken);
    await rig.leaseOver(user);
    await rig.killBeforeRedemption(user, refreshToken);
    await expect(rig.row(user)).resolves.toMatchObject({ open_leases: 2 });
    await windowOver(user);
    await expect(rig.tokens.getIdpToken(user, 'hostile')).resolves.toMatchObject({ accessToken });
    await expect(outcomesOf(refreshToken)).resolves.toEqual(['redeemed', 'pending']);
    await expect(rig.row(user)).resolves.toMatchObject({ status: 'active', open_leases: 2 });
  });
});
