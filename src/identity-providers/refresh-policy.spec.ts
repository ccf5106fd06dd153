import { describe, expect, it } from '@jest/globals';
import { validateSync } from 'class-validator';

import { completePolicy, LEASE_MARGIN_MS, policyFault, RefreshPolicyRules } from './refresh-policy.js';

describe('completePolicy', () => {
  it('takes refresh tokens for single-use when nothing is known: a long lease, a long deadline', () => {
    expect(completePolicy()).toEqual({
      exchangeTimeoutMs: 30_000,
      leaseMs: 95_000,
      replayWindowMs: 0,
      takeoverDelayMs: 3500,
      oldAccessTokenSurvives: false,
      leewaySeconds: undefined,
    });
  });

  it('has a short lease and deadline with a replay window, whoever named it', () => {
    const short = { exchangeTimeoutMs: 10_000, leaseMs: 12_000, replayWindowMs: 600_000, takeoverDelayMs: 0 };
    expect(completePolicy({}, { replayWindowMs: 600_000 })).toMatchObject(short);
    expect(completePolicy({ replayWindowMs: 600_000 })).toMatchObject(short);
  });

  it('lets the operator override what is known of the provider, field by field, also by 0 and false', () => {
    const known = { replayWindowMs: 600_000, oldAccessTokenSurvives: true };
    expect(completePolicy({ replayWindowMs: 0 }, known)).toEqual({
      exchangeTimeoutMs: 30_000,
      leaseMs: 95_000,
      replayWindowMs: 0,
      takeoverDelayMs: 3500,
      oldAccessTokenSurvives: true,
      leewaySeconds: undefined,
    });
    const own = {
      exchangeTimeoutMs: 1,
      leaseMs: 2,
      replayWindowMs: 3,
      takeoverDelayMs: 4,
      oldAccessTokenSurvives: false,
      leewaySeconds: 0,
    };
    expect(completePolicy(own, known)).toEqual(own);
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

  it('refuses a missing policy', () => {
    expect(policyFault(undefined)).toContain('completePolicy()');
    expect(policyFault(null)).toContain('completePolicy()');
  });
});

describe('RefreshPolicyRules', () => {
  function faultyFields(fields: object): string[] {
    return validateSync(Object.assign(new RefreshPolicyRules(), fields)).map(({ property }) => property);
  }

  it('accepts the least and the most of every field, and none of them', () => {
    expect(faultyFields({})).toEqual([]);
    for (const fields of [
      { exchangeTimeoutMs: 100, leaseMs: 2100, replayWindowMs: 0, oldAccessTokenSurvives: false, leewaySeconds: 0 },
      { exchangeTimeoutMs: 600_000, leaseMs: 3_600_000, replayWindowMs: 1e12, oldAccessTokenSurvives: true },
    ]) {
      expect(faultyFields(fields)).toEqual([]);
    }
  });

  it.each([
    ['exchangeTimeoutMs', [99, 600_001, 1000.5, '1000', Number.NaN, Infinity, true, {}]],
    ['leaseMs', [2099, 3_600_001, 3000.5, '3000', Number.NaN]],
    ['replayWindowMs', [-1, 0.5, '0', Number.NaN, Infinity]],
    ['oldAccessTokenSurvives', [0, 1, 'true', {}]],
    ['leewaySeconds', [-1, 0.5, '900', Number.NaN, Infinity]],
  ])('refuses %s out of its range or of another type', (field, values) => {
    for (const value of values) expect(faultyFields({ [field]: value })).toEqual([field]);
  });
});
