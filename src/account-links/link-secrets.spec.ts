import { describe, expect, it } from '@jest/globals';

import { codeChallengeOf, hashOf, newSecret, nonceOf } from './link-secrets.js';

describe('The secrets of an attempt', () => {
  it('have 256 random bits, in the characters of a code verifier', () => {
    const secrets = Array.from({ length: 100 }, newSecret);
    expect(new Set(secrets).size).toBe(100);
    for (const secret of secrets) expect(secret).toMatch(/^[\w-]{43}$/);
  });

  it('have the code challenge of RFC 7636 appendix B', () => {
    expect(codeChallengeOf('dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk')).toBe(
      'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
    );
  });

  it('are told by none of the texts that leave the process', () => {
    const verifier = newSecret();
    const texts = [codeChallengeOf(verifier), nonceOf(verifier), hashOf(`state of ${verifier}`)];
    expect(new Set([verifier, ...texts]).size).toBe(4);
    expect(nonceOf(verifier)).toBe(nonceOf(verifier));
    expect(nonceOf(newSecret())).not.toBe(nonceOf(verifier));
  });
});
