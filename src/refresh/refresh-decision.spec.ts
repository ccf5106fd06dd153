import { describe, expect, it } from '@jest/globals';

import { completePolicy, type RefreshPolicy } from '../identity-providers/refresh-policy.js';
import type { LeaseState } from '../storage/leases/leased-row.js';
import { decide, isUsable, type RefreshableRow, type RefreshRules, type Step } from './refresh-decision.js';

const READ_AT = 5000;

/** A row whose access token works for another hour and whose refresh token does not expire. */
function row(state: LeaseState, changes: Partial<RefreshableRow> = {}): RefreshableRow {
  return {
    id: '1',
    version: '2',
    parentVersion: null,
    clientId: 'client',
    state,
    leasedForMs: state === 'leased' || state === 'outcome_unknown' ? 20_000 : 0,
    openLeases: state === 'leased' || state === 'outcome_unknown' || state === 'abandoned' ? 1 : 0,
    firstLeasedMsAgo: state === 'abandoned' ? 40_000 : 0,
    outcomeUnknown: state === 'outcome_unknown',
    backingOffForMs: state === 'backing_off' ? 7000 : 0,
    quarantinedForMs: state === 'quarantined' ? 9000 : 0,
    failureCount: 0,
    failureKind: state === 'backing_off' ? 'transient' : null,
    lastErrorCode: state === 'backing_off' || state === 'outcome_unknown' ? 'http_503' : null,
    rejections: 0,
    wasRejected: false,
    issuedSecondsAgo: 3600,
    readAt: READ_AT,
    hasRefreshToken: true,
    refreshTokenValidForSeconds: Infinity,
    accessTokenValidForSeconds: 3600,
    ...changes,
  };
}

const POLICIES = {
  'single-use': completePolicy(),
  'refresh ends the access token': completePolicy({ refreshEndsAccessToken: true }),
  'refresh ends it, with a witness': completePolicy({ refreshEndsAccessToken: true }),
  'replay window': completePolicy({ replayWindowMs: 600_000, oldAccessTokenSurvives: true }),
} satisfies Record<string, RefreshPolicy>;
type PolicyName = keyof typeof POLICIES;

const DEMANDS = {
  fresh: [{ isMet: true, isRejected: false }, 3600],
  stale: [{ isMet: false, isRejected: false }, 60],
  expired: [{ isMet: false, isRejected: false }, -1],
  rejected: [{ isMet: false, isRejected: true }, 3600],
} as const;
type DemandName = keyof typeof DEMANDS;

function rulesOf(name: PolicyName): RefreshRules {
  return { policy: POLICIES[name], clientId: 'client', canAskWitness: name.endsWith('with a witness') };
}

/** Names a step in a few words. */
function word(step: Step): string {
  if (step.kind === 'lease') {
    if (!step.takeover) return 'lease';
    return `take over${step.takeover.delayMs > 0 ? ' later' : ''}${step.takeover.asksWitness ? ', ask' : ''}`;
  }
  return step.kind === 'refuse' ? step.refusal.reason : step.kind;
}

/**
 * The expected step for every state of a row, under every policy, with a token that is fresh, stale, expired or
 * rejected.
 */
const TABLE: [LeaseState, PolicyName, Record<DemandName, string>][] = [
  ...(Object.keys(POLICIES) as PolicyName[]).flatMap(
    (policy): [LeaseState, PolicyName, Record<DemandName, string>][] => [
      ['idle', policy, { fresh: 'serve', stale: 'lease', expired: 'lease', rejected: 'lease' }],
      ['backing_off', policy, { fresh: 'serve', stale: 'serve', expired: 'unavailable', rejected: 'unavailable' }],
      ['quarantined', policy, { fresh: 'serve', stale: 'serve', expired: 'unavailable', rejected: 'unavailable' }],
      [
        'ended',
        policy,
        {
          fresh: 'refresh_rejected',
          stale: 'refresh_rejected',
          expired: 'refresh_rejected',
          rejected: 'refresh_rejected',
        },
      ],
    ],
  ),
  ['leased', 'single-use', { fresh: 'serve', stale: 'wait', expired: 'wait', rejected: 'wait' }],
  ['leased', 'refresh ends the access token', { fresh: 'wait', stale: 'wait', expired: 'wait', rejected: 'wait' }],
  ['leased', 'refresh ends it, with a witness', { fresh: 'wait', stale: 'wait', expired: 'wait', rejected: 'wait' }],
  ['leased', 'replay window', { fresh: 'serve', stale: 'serve', expired: 'wait', rejected: 'wait' }],
  [
    'outcome_unknown',
    'single-use',
    { fresh: 'serve', stale: 'serve', expired: 'unavailable', rejected: 'unavailable' },
  ],
  [
    'outcome_unknown',
    'refresh ends the access token',
    { fresh: 'unavailable', stale: 'unavailable', expired: 'unavailable', rejected: 'unavailable' },
  ],
  [
    'outcome_unknown',
    'refresh ends it, with a witness',
    { fresh: 'unavailable', stale: 'unavailable', expired: 'unavailable', rejected: 'unavailable' },
  ],
  [
    'outcome_unknown',
    'replay window',
    { fresh: 'serve', stale: 'serve', expired: 'unavailable', rejected: 'unavailable' },
  ],
  [
    'abandoned',
    'single-use',
    { fresh: 'serve', stale: 'serve', expired: 'take over later', rejected: 'take over later' },
  ],
  [
    'abandoned',
    'refresh ends the access token',
    { fresh: 'unavailable', stale: 'unavailable', expired: 'take over later', rejected: 'take over later' },
  ],
  [
    'abandoned',
    'refresh ends it, with a witness',
    {
      fresh: 'take over later, ask',
      stale: 'take over later, ask',
      expired: 'take over later',
      rejected: 'take over later, ask',
    },
  ],
  ['abandoned', 'replay window', { fresh: 'serve', stale: 'take over', expired: 'take over', rejected: 'take over' }],
];

describe('The decision about a row', () => {
  const cases = TABLE.flatMap(([state, policy, steps]) =>
    (Object.keys(DEMANDS) as DemandName[]).map((demand) => [state, policy, demand, steps[demand]] as const),
  );

  it.each(cases)('%s, %s: a token that is %s → %s', (state, policy, name, expected) => {
    const [demand, accessTokenValidForSeconds] = DEMANDS[name];
    expect(word(decide(row(state, { accessTokenValidForSeconds }), demand, rulesOf(policy), READ_AT))).toBe(expected);
  });

  it('has been made for every state under every policy', () => {
    const combinations = new Set(TABLE.map(([state, policy]) => `${state} ${policy}`));
    expect(combinations.size).toBe(7 * Object.keys(POLICIES).length);
  });
});

const STALE = { isMet: false, isRejected: false };
const REJECTED = { isMet: false, isRejected: true };
const SINGLE_USE = rulesOf('single-use');

function step(changed: RefreshableRow, demand = STALE, rules = SINGLE_USE, now = READ_AT): Step {
  return decide(changed, demand, rules, now);
}

describe('A takeover', () => {
  const replay = { ...rulesOf('replay window'), policy: completePolicy({ replayWindowMs: 30_000 }) };

  it('inside the replay window is not delayed, as long as the request arrives in it', () => {
    const inside = row('abandoned', { accessTokenValidForSeconds: 60, firstLeasedMsAgo: 20_000 });
    expect(step(inside, STALE, replay)).toEqual({ kind: 'lease', takeover: { delayMs: 0, asksWitness: false } });
  });

  it('after the replay window leaves a valid access token alone, and is delayed for an expired one', () => {
    const after = { firstLeasedMsAgo: 20_001 };
    expect(step(row('abandoned', { ...after, accessTokenValidForSeconds: 60 }), STALE, replay)).toEqual({
      kind: 'serve',
    });
    expect(step(row('abandoned', { ...after, accessTokenValidForSeconds: -1 }), STALE, replay)).toEqual({
      kind: 'lease',
      takeover: { delayMs: 3500, asksWitness: false },
    });
  });

  it('counts the time since the row was read', () => {
    const inside = row('abandoned', { accessTokenValidForSeconds: 60, firstLeasedMsAgo: 20_000 });
    expect(step(inside, STALE, replay, READ_AT + 1)).toEqual({ kind: 'serve' });
  });

  it('is not delayed when the only holder has said that it will not come', () => {
    const gone = { outcomeUnknown: true, accessTokenValidForSeconds: -1 };
    expect(word(step(row('abandoned', gone)))).toBe('take over');
    expect(word(step(row('abandoned', { ...gone, openLeases: 2 })))).toBe('take over later');
  });

  it('happens where a token without an expiry could never be decided on', () => {
    const forever = row('abandoned', { accessTokenValidForSeconds: Infinity });
    expect(word(step(forever, STALE, rulesOf('refresh ends the access token')))).toBe('take over later');
    expect(word(step(forever, STALE, SINGLE_USE))).toBe('serve');
  });

  it('does not ask an access token that was refused before the exchange, and has nothing to lose', () => {
    const refused = row('abandoned', { wasRejected: true });
    expect(word(step(refused, STALE, rulesOf('refresh ends it, with a witness')))).toBe('take over later');
    expect(word(step(refused, STALE, rulesOf('refresh ends the access token')))).toBe('take over later');
  });

  it('of an undecided row waits for the expiry of the access token, or for its rejection', () => {
    const undecided = { openLeases: 1, failureKind: 'undecided' as const, accessTokenValidForSeconds: 600 };
    const rules = rulesOf('refresh ends it, with a witness');
    expect(step(row('backing_off', undecided), STALE, rules)).toMatchObject({
      kind: 'refuse',
      refusal: { reason: 'unavailable', retryAfterMs: 600_000 },
    });
    expect(word(step(row('backing_off', undecided), REJECTED, rules))).toBe('take over later');
    const expired = { ...undecided, accessTokenValidForSeconds: -1 };
    expect(word(step(row('backing_off', expired), STALE, rules))).toBe('take over later');
  });
});

describe('A row that cannot be refreshed', () => {
  it('serves what still works, and then says what the user or the operator must do', () => {
    const cases: [Partial<RefreshableRow>, string][] = [
      [{ hasRefreshToken: false }, 'no_refresh_token'],
      [{ refreshTokenValidForSeconds: 0 }, 'refresh_token_expired'],
      [{ clientId: 'other' }, 'other_client'],
    ];
    for (const [changes, reason] of cases) {
      expect(word(step(row('idle', changes)))).toBe('serve');
      expect(word(step(row('idle', { ...changes, accessTokenValidForSeconds: -1 })))).toBe(reason);
      expect(word(step(row('idle', changes), REJECTED))).toBe(reason);
    }
  });

  it('is told by its client only when both clients are known', () => {
    expect(word(step(row('idle', { clientId: null })))).toBe('lease');
    expect(word(step(row('idle', { clientId: 'other' }), STALE, { ...SINGLE_USE, clientId: undefined }))).toBe('lease');
  });

  it('names the fault of the operator while it backs off from one', () => {
    const refused = row('backing_off', { failureKind: 'configuration', lastErrorCode: 'invalid_client' });
    expect(step(refused, REJECTED)).toEqual({
      kind: 'refuse',
      refusal: { reason: 'misconfigured', code: 'invalid_client' },
    });
  });

  it('says how long the obstacle lasts, counted from now', () => {
    const later = READ_AT + 1000;
    const expired = { accessTokenValidForSeconds: -1 };
    const retryAfter = (state: LeaseState) => {
      const decided = step(row(state, expired), STALE, SINGLE_USE, later);
      return decided.kind === 'refuse' && decided.refusal.reason === 'unavailable' && decided.refusal.retryAfterMs;
    };
    expect(['outcome_unknown', 'quarantined', 'backing_off'].map((state) => retryAfter(state as LeaseState))).toEqual([
      19_000, 8000, 6000,
    ]);
  });
});

describe('An API that refuses every token', () => {
  const refused = (rejections: number, issuedSecondsAgo: number) =>
    step(row('idle', { rejections, issuedSecondsAgo }), REJECTED);

  it('gets two new tokens at once, and then one after a pause that doubles up to a minute', () => {
    expect([0, 1].map((rejections) => word(refused(rejections, 0)))).toEqual(['lease', 'lease']);
    const pauses = [2, 3, 4, 8, 30].map((rejections) => {
      const decided = refused(rejections, 0);
      return decided.kind === 'refuse' && decided.refusal.reason === 'unavailable' && decided.refusal.retryAfterMs;
    });
    expect(pauses).toEqual([1000, 2000, 4000, 60_000, 60_000]);
    expect(word(refused(4, 4))).toBe('lease');
  });

  it('does not keep the token from others who find it fresh', () => {
    expect(word(step(row('idle', { rejections: 9, issuedSecondsAgo: 0 }), { isMet: true, isRejected: false }))).toBe(
      'serve',
    );
  });

  it('does not count the time for which the clock of the database is behind that of the issue', () => {
    expect([0, 1].map((rejections) => word(refused(rejections, -3600)))).toEqual(['lease', 'lease']);
    expect(refused(2, -3600)).toMatchObject({ refusal: { reason: 'unavailable', retryAfterMs: 1000 } });
  });
});

describe('A stale token', () => {
  it('is usable until it expires, also while the caller waits', () => {
    const policy = completePolicy();
    const valid = row('idle', { accessTokenValidForSeconds: 2 });
    expect(isUsable(valid, STALE, policy, READ_AT + 1999)).toBe(true);
    expect(isUsable(valid, STALE, policy, READ_AT + 2000)).toBe(false);
    expect(isUsable(row('idle', { accessTokenValidForSeconds: Infinity }), STALE, policy, 1e12)).toBe(true);
  });

  it('is not usable once the API refused it, or an exchange may have ended it', () => {
    expect(isUsable(row('idle'), REJECTED, completePolicy(), READ_AT)).toBe(false);
    expect(isUsable(row('abandoned'), STALE, completePolicy({ refreshEndsAccessToken: true }), READ_AT)).toBe(false);
    expect(isUsable(row('abandoned'), STALE, completePolicy(), READ_AT)).toBe(true);
  });

  it('is not usable once its grant has ended, which the user must be told', () => {
    expect(isUsable(row('ended'), STALE, completePolicy(), READ_AT)).toBe(false);
  });
});
