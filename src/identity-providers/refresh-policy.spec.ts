import { describe, expect, it } from '@jest/globals';
import { validateSync } from 'class-validator';

import {
  completePolicy,
  LEASE_MARGIN_MS,
  policyFault,
  type RefreshPolicy,
  RefreshPolicySettings,
} from './refresh-policy.js';

describe('completePolicy', () => {
  it('takes refresh tokens for single-use when nothing is known: a long lease, a long deadline', () => {
    expect(completePolicy()).toEqual({
      exchangeTimeoutMs: 15_000,
      leaseMs: 35_000,
      replayWindowMs: 0,
      takeoverDelayMs: 3500,
      oldAccessTokenSurvives: false,
      refreshEndsAccessToken: false,
      leewaySeconds: undefined,
    });
  });

  it('has a short lease and deadline with a replay window, whoever named it', () => {
    const short = { exchangeTimeoutMs: 10_000, leaseMs: 12_000, replayWindowMs: 600_000, takeoverDelayMs: 3500 };
    expect(completePolicy({}, { replayWindowMs: 600_000 })).toMatchObject(short);
    expect(completePolicy({ replayWindowMs: 600_000 })).toMatchObject(short);
  });

  it('lets the operator override what is known of the provider, field by field, also by 0 and false', () => {
    const known = { replayWindowMs: 600_000, oldAccessTokenSurvives: true };
    expect(completePolicy({ replayWindowMs: 0 }, known)).toEqual({
      exchangeTimeoutMs: 15_000,
      leaseMs: 35_000,
      replayWindowMs: 0,
      takeoverDelayMs: 3500,
      oldAccessTokenSurvives: true,
      refreshEndsAccessToken: false,
      leewaySeconds: undefined,
    });
    const own = {
      exchangeTimeoutMs: 1,
      leaseMs: 2,
      replayWindowMs: 3,
      takeoverDelayMs: 4,
      oldAccessTokenSurvives: false,
      refreshEndsAccessToken: true,
      leewaySeconds: 0,
    };
    expect(completePolicy(own, known)).toEqual(own);
  });

  it.each([
    ['nothing', {}, false, true],
    ['that it survives', { oldAccessTokenSurvives: true }, true, false],
    ['that it does not survive', { oldAccessTokenSurvives: false }, false, true],
    ['that it need not end', { refreshEndsAccessToken: false }, false, false],
    ['that it ends', { refreshEndsAccessToken: true }, false, true],
  ])(
    'takes the old access token for ended by a refresh where that is known, unless the operator says otherwise: %s',
    (_, overrides, oldAccessTokenSurvives, refreshEndsAccessToken) => {
      const policy = completePolicy(overrides, { refreshEndsAccessToken: true });
      expect(policy).toMatchObject({ oldAccessTokenSurvives, refreshEndsAccessToken });
      expect(policyFault(policy)).toBeUndefined();
    },
  );

  it.each([
    ['nothing', {}, true, false],
    ['that it ends', { refreshEndsAccessToken: true }, false, true],
    ['that it need not end', { refreshEndsAccessToken: false }, true, false],
    ['that it does not survive', { oldAccessTokenSurvives: false }, false, false],
  ])(
    'takes the old access token for surviving a refresh where that is known, unless the operator says otherwise: %s',
    (_, overrides, oldAccessTokenSurvives, refreshEndsAccessToken) => {
      const policy = completePolicy(overrides, { oldAccessTokenSurvives: true });
      expect(policy).toMatchObject({ oldAccessTokenSurvives, refreshEndsAccessToken });
      expect(policyFault(policy)).toBeUndefined();
    },
  );

  it('leaves a contradiction of the operator to be found', () => {
    const both = { oldAccessTokenSurvives: true, refreshEndsAccessToken: true };
    for (const known of [{}, { refreshEndsAccessToken: true }, { oldAccessTokenSurvives: true }]) {
      expect(completePolicy(both, known)).toMatchObject(both);
      expect(policyFault(completePolicy(both, known))).toBe(
        'oldAccessTokenSurvives and refreshEndsAccessToken contradict each other: set one of them to false',
      );
    }
  });

  it.each([
    ['single-use refresh tokens', completePolicy()],
    ['a replay window', completePolicy({ replayWindowMs: 1 })],
  ])('has defaults without a fault: %s', (_, policy) => {
    expect(policyFault(policy)).toBeUndefined();
  });
});

describe('policyFault', () => {
  const policy = completePolicy({ exchangeTimeoutMs: 5000 });

  it('accepts a lease that outlives the exchange by a margin at either end, and none that is shorter', () => {
    const shortest = 5000 + 2 * LEASE_MARGIN_MS;
    expect(policyFault({ ...policy, leaseMs: shortest })).toBeUndefined();
    expect(policyFault({ ...policy, leaseMs: shortest - 1 })).toContain(
      'leaseMs (6999) must be at least exchangeTimeoutMs (5000) + 2000',
    );
  });

  it('refuses a policy with a figure that is missing or no number', () => {
    expect(policyFault({ ...policy, leaseMs: Number.NaN })).toContain('leaseMs');
    expect(policyFault({ ...policy, exchangeTimeoutMs: Number.NaN })).toContain('exchangeTimeoutMs');
  });

  it('takes a missing yes-or-no for no, as in a policy of before it existed, and none of another type', () => {
    for (const field of ['oldAccessTokenSurvives', 'refreshEndsAccessToken'] as const) {
      const others = Object.fromEntries(Object.entries(policy).filter(([name]) => name !== field));
      // Hosts without TypeScript can give what the type forbids.
      for (const older of [others, { ...others, [field]: undefined }, { ...others, [field]: true }]) {
        expect(policyFault(older as unknown as RefreshPolicy)).toBeUndefined();
      }
      for (const value of ['false', 0, 1, null, {}]) {
        expect(policyFault({ ...others, [field]: value } as unknown as RefreshPolicy)).toBe(
          'oldAccessTokenSurvives and refreshEndsAccessToken must be boolean values',
        );
      }
    }
  });

  it('refuses a missing policy', () => {
    expect(policyFault(undefined)).toContain('completePolicy()');
    expect(policyFault(null)).toContain('completePolicy()');
  });
});

describe('RefreshPolicySettings', () => {
  function faultyFields(fields: object): string[] {
    return validateSync(Object.assign(new RefreshPolicySettings(), fields)).map(({ property }) => property);
  }

  it('accepts the least and the most of every field, and none of them', () => {
    expect(faultyFields({})).toEqual([]);
    for (const fields of [
      { exchangeTimeoutMs: 100, leaseMs: 2100, replayWindowMs: 0, oldAccessTokenSurvives: false, leewaySeconds: 0 },
      { exchangeTimeoutMs: 600_000, leaseMs: 3_600_000, replayWindowMs: 1e12, oldAccessTokenSurvives: true },
      { takeoverDelayMs: 0, refreshEndsAccessToken: false },
      { takeoverDelayMs: 60_000, refreshEndsAccessToken: true },
    ]) {
      expect(faultyFields(fields)).toEqual([]);
    }
  });

  it.each([
    ['exchangeTimeoutMs', [99, 600_001, 1000.5, '1000', Number.NaN, Infinity, true, {}]],
    ['leaseMs', [2099, 3_600_001, 3000.5, '3000', Number.NaN]],
    ['replayWindowMs', [-1, 0.5, '0', Number.NaN, Infinity]],
    ['takeoverDelayMs', [-1, 60_001, 0.5, '0', Number.NaN]],
    ['oldAccessTokenSurvives', [0, 1, 'true', {}]],
    ['refreshEndsAccessToken', [0, 1, 'true', {}]],
    ['leewaySeconds', [-1, 0.5, '900', Number.NaN, Infinity]],
  ])('refuses %s out of its range or of another type', (field, values) => {
    for (const value of values) expect(faultyFields({ [field]: value })).toEqual([field]);
  });
});
