import { describe, expect, it } from '@jest/globals';

import { type AuthTokensRow, readRow } from '../storage/auth-tokens/auth-tokens-row.js';
import type { TokenKey } from '../token-key.js';
import { isFresh, type TokenDemand } from './token-freshness.js';

const HOUR = 3600;
const VERSION = '8070450532247928832';

interface Times {
  /** How long the access token is still valid, in seconds. */
  left: number;
  lifetime?: number;
}

/** Returns a row as the database returns it. An expiry of 0 means that the token never expires. */
function row({ left, lifetime = 8 * HOUR }: Times): AuthTokensRow {
  const present = 1_790_000_000;
  const expiresAt = left === Infinity ? 0 : present + left;
  return readRow({
    token_version: VERSION,
    access_token_expires_at: expiresAt,
    refresh_token_expires_at: 0,
    issued_at: expiresAt - lifetime,
    present,
    lease_expires_at: null,
    first_leased_at: null,
    retry_at: null,
    quarantined_until: null,
  });
}

const KEYS = Array.from({ length: 2000 }, (_, index) => ({ keycloakUserId: `user-${index}`, idp: 'github' }));
const KEY = { keycloakUserId: 'user-1', idp: 'github' };

interface Circumstances extends Times {
  leewaySeconds?: number;
  demand?: TokenDemand;
  key?: TokenKey;
}

function fresh({ leewaySeconds = 900, demand = {}, key = KEY, ...times }: Circumstances): boolean {
  return isFresh(row(times), demand, key, leewaySeconds, 0);
}

/** Returns the validity up to which a token counts as stale, in seconds, to a tenth of a second. */
function staleUpTo(circumstances: Omit<Circumstances, 'left'>): number {
  let [stale, valid] = [-1, 10 * 24 * HOUR * 10];
  while (valid - stale > 1) {
    const middle = Math.floor((stale + valid) / 2);
    if (fresh({ ...circumstances, left: middle / 10 })) valid = middle;
    else stale = middle;
  }
  return stale / 10;
}

describe('The leeway before the expiry of an access token', () => {
  it('is the configured one, spread by a quarter up and down, when the lifetime is ten times as long', () => {
    const leeways = KEYS.map((key) => staleUpTo({ key, lifetime: 10 * HOUR, leewaySeconds: 900 }));
    expect(Math.min(...leeways)).toBeGreaterThanOrEqual(0.75 * 900 - 0.1);
    expect(Math.min(...leeways)).toBeLessThan(0.77 * 900);
    expect(Math.max(...leeways)).toBeLessThanOrEqual(1.25 * 900);
    expect(Math.max(...leeways)).toBeGreaterThan(1.23 * 900);
  });

  it('is spread evenly: each tenth of the range holds about a tenth of the rows', () => {
    const counts = new Array<number>(10).fill(0);
    for (const key of KEYS) {
      const share = (staleUpTo({ key, lifetime: 10 * HOUR, leewaySeconds: 1000 }) - 750) / 500;
      const tenth = Math.min(9, Math.max(0, Math.floor(share * 10)));
      counts[tenth] = (counts[tenth] ?? 0) + 1;
    }
    for (const count of counts) {
      expect(count).toBeGreaterThan(KEYS.length / 20);
      expect(count).toBeLessThan(KEYS.length / 6);
    }
  });

  it('is a tenth of the lifetime when that is shorter', () => {
    const leeways = KEYS.map((key) => staleUpTo({ key, lifetime: 1000, leewaySeconds: 900 }));
    expect(Math.min(...leeways)).toBeGreaterThanOrEqual(74.9);
    expect(Math.min(...leeways)).toBeLessThan(77);
    expect(Math.max(...leeways)).toBeLessThanOrEqual(125);
    expect(Math.max(...leeways)).toBeGreaterThan(123);
  });

  it('is the same for a row at all times and with any lifetime, in proportion', () => {
    for (const key of KEYS.slice(0, 20)) {
      const factor = staleUpTo({ key, lifetime: 20 * HOUR, leewaySeconds: 1000 }) / 1000;
      expect(staleUpTo({ key, lifetime: 20 * HOUR, leewaySeconds: 1000 }) / 1000).toBe(factor);
      expect(staleUpTo({ key, lifetime: 5000, leewaySeconds: 1000 }) / 500).toBeCloseTo(factor, 2);
    }
  });

  it('differs between the providers of one user', () => {
    const leeways = ['github', 'gitlab', 'bitbucket', 'azure_devops'].map((idp) =>
      staleUpTo({ key: { keycloakUserId: 'user-1', idp }, lifetime: 10 * HOUR }),
    );
    expect(new Set(leeways).size).toBe(4);
  });

  it('is nothing when 0 is configured: a token is fresh until it expires', () => {
    expect(fresh({ left: 0.1, leewaySeconds: 0 })).toBe(true);
    expect(fresh({ left: 0, leewaySeconds: 0 })).toBe(false);
  });

  it.each([0, -HOUR])('is nothing for a token that was stored expired, with a lifetime of %d', (lifetime) => {
    expect(fresh({ left: 0.1, lifetime })).toBe(true);
    expect(fresh({ left: 0, lifetime })).toBe(false);
    expect(fresh({ left: -1, lifetime })).toBe(false);
  });
});

describe('A demand for validity', () => {
  it('counts when it is longer than the leeway', () => {
    const demand = { minValiditySeconds: HOUR };
    expect(fresh({ left: HOUR + 1, demand })).toBe(true);
    expect(fresh({ left: HOUR, demand })).toBe(false);
  });

  it('does not shorten the leeway', () => {
    for (const minValiditySeconds of [0, 1, -HOUR]) {
      expect(staleUpTo({ demand: { minValiditySeconds } })).toBe(staleUpTo({}));
    }
  });

  it('counts up to half of the lifetime, so that a fresh token always meets it', () => {
    for (const minValiditySeconds of [4 * HOUR, 8 * HOUR, 1e9]) {
      const demand = { minValiditySeconds };
      expect(fresh({ left: 8 * HOUR, demand })).toBe(true);
      expect(fresh({ left: 4 * HOUR + 1, demand })).toBe(true);
      expect(fresh({ left: 4 * HOUR, demand })).toBe(false);
    }
  });

  it('is not spread', () => {
    const demand = { minValiditySeconds: 2 * HOUR };
    for (const key of KEYS.slice(0, 50)) expect(staleUpTo({ key, demand })).toBe(2 * HOUR);
  });
});

describe('A token that the API of the provider refused', () => {
  it('is not fresh, however long it should be valid', () => {
    for (const left of [8 * HOUR, Infinity]) {
      expect(fresh({ left, demand: { rejectedVersion: VERSION } })).toBe(false);
    }
  });

  it('is fresh again once it has been replaced by another version', () => {
    const demand = { rejectedVersion: '8070450532247928833' }; // one more than VERSION, equal as a double
    expect(fresh({ left: 8 * HOUR, demand })).toBe(true);
  });
});

describe('A token that does not expire', () => {
  const forever = { left: Infinity, lifetime: Infinity };

  it('is always fresh', () => {
    for (const leewaySeconds of [0, 900, 1e9]) expect(fresh({ ...forever, leewaySeconds })).toBe(true);
  });

  it('meets every demand', () => {
    for (const minValiditySeconds of [0, HOUR, 1e12]) {
      expect(fresh({ ...forever, demand: { minValiditySeconds } })).toBe(true);
    }
  });
});
