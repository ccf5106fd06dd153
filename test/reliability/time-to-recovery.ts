/**
 * Measures how long users wait for a token after a process was killed, with the default policy. It is no part of the
 * suites, because it takes minutes. `npm run measure:recovery` prints the figures.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';

import { InterruptedRefresh } from '../support/interrupted-refresh.js';

/** Lease and takeover delay of the default policy, and 5 s for the refresh in the next process. */
const LONGEST_MS = 35_000 + 3500 + 5000;
const TIMEOUT_MS = 300_000;
const figures: string[] = [];

let rig: InterruptedRefresh;

beforeAll(async () => {
  rig = await InterruptedRefresh.start({
    provider: { mode: 'single-use', oldAccessTokenDies: true },
    entry: (url) => ({
      introspectionEndpoint: `${url}/introspect`,
      policy: { refreshEndsAccessToken: true },
    }),
  });
});

afterAll(async () => {
  const head = '| kill -9 of the holder | seconds from the kill until | s |\n| --- | --- | --- |';
  process.stdout.write(`\n${head}\n${figures.join('\n')}\n\n`);
  await rig.stop();
});

afterEach(async () => {
  await rig.clear();
});

function note(when: string, what: string, ms: number): void {
  figures.push(`| ${when} | ${what} | ${(ms / 1000).toFixed(1)} |`);
}

describe.each([
  ['stale, and works', 600],
  ['expired', -10],
])('With the default policy and an access token that is %s, a process killed', (state, validForSeconds) => {
  it(
    'before the redemption costs its lease and the takeover delay until the user is served',
    async () => {
      const { user, accessToken, refreshToken } = await rig.staleUser(validForSeconds);
      await rig.killBeforeRedemption(user, refreshToken);
      const watch = rig.watch(user);
      const servedMs = await watch.served(accessToken, TIMEOUT_MS);
      await watch.end();
      note(`before the provider redeemed, access token ${state}`, 'the user is served', servedMs);
      expect([...watch.dead]).toEqual([]);
      expect(servedMs).toBeLessThan(LONGEST_MS);
    },
    TIMEOUT_MS,
  );

  it(
    'after the redemption costs as much until the user is told, if the old access token can tell',
    async () => {
      const { user, refreshToken } = await rig.staleUser(validForSeconds);
      await rig.killAfterRedemption(user, refreshToken);
      const watch = rig.watch(user);
      const toldMs = await watch.told('ERR_TOKENS_REAUTHENTICATION_REQUIRED', TIMEOUT_MS);
      await watch.end();
      note(`after the provider redeemed, access token ${state}`, 'the user is told', toldMs);
      expect([...watch.handedOut]).toEqual([]);
      if (validForSeconds > 0) expect(toldMs).toBeLessThan(LONGEST_MS);
    },
    TIMEOUT_MS,
  );
});
