import { afterAll, afterEach, describe, expect, it } from '@jest/globals';

import { OutcomeTable } from '../support/outcome-table.js';
import { type Failover, failOver, type FailoverSettings, USERS } from './failover.js';

const table = new OutcomeTable();
/** Functions that end what a test has started. */
const ends: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

afterAll(() => {
  table.print();
});

/** Runs a failover and prints its figures. */
async function counted(name: string, settings: FailoverSettings): Promise<Failover> {
  const failover = await failOver(settings, (end) => ends.push(end));
  const { acknowledged, unreplicated, outcomes, awayMs, landedMs } = failover;
  table.add(name, outcomes);
  process.stdout.write(
    `${name}: ${acknowledged.length} pairs acknowledged by the dead primary, ${unreplicated.length} of them not on the ` +
      `standby; away for ${Math.round(awayMs)} ms, all refreshes landed after ${Math.round(landedMs)} ms\n`,
  );
  return failover;
}

describe('A primary that is killed while refreshed pairs are committed costs', () => {
  it('nothing where its standby was synchronous: each refresh token is redeemed once, each pair lands', async () => {
    const failover = await counted('synchronous standby', { isSynchronous: true, isCutOff: false });
    expect(failover.unreplicated).toEqual([]);
    expectOnlyUnreplicatedLost(failover);
  });

  it('nothing where its synchronous standby was out of reach before: the commits waited, and land on it', async () => {
    const failover = await counted('synchronous standby, cut off before', { isSynchronous: true, isCutOff: true });
    expect(failover.unreplicated).toEqual([]);
    expectOnlyUnreplicatedLost(failover);
  });

  it('the pairs that had not reached its asynchronous standby, and no other', async () => {
    expectOnlyUnreplicatedLost(await counted('asynchronous standby', { isSynchronous: false, isCutOff: false }));
  });

  it('the pairs stored since its asynchronous standby was out of reach, and no other', async () => {
    const failover = await counted('asynchronous standby, cut off before', { isSynchronous: false, isCutOff: true });
    expect(failover.unreplicated.length).toBeGreaterThan(0);
    expectOnlyUnreplicatedLost(failover);
  });
});

function expectOnlyUnreplicatedLost(failover: Failover): void {
  const { acknowledged, neverStored, unreplicated, differing, outcomes, redemptions } = failover;
  const lost = unreplicated.length;
  expect(acknowledged.length).toBeLessThan(USERS);
  expect(neverStored).toEqual([]);
  expect(differing).toEqual(unreplicated);
  // Their users must connect the account again, because the standby has a refresh token that is spent.
  expect(outcomes).toEqual({ tried: USERS, recovered: USERS - lost, reauthentication: lost, lost: 0 });
  const { redeemed, 'reuse-punished': punished = 0 } = redemptions;
  expect({ redeemed, punished }).toEqual({ redeemed: USERS, punished: lost });
}
