import { describe, expect, it } from '@jest/globals';

import { impossibleToken, isEncrypted, providerFinding } from './check-providers.js';

const ENDPOINT = 'https://idp.example.com/token?key=secret';

describe('providerFinding', () => {
  it.each([
    ['terminal', 'invalid_grant', 'ok', /does not refuse the client/],
    ['terminal', 'bad_refresh_token', 'ok', /bad_refresh_token/],
    ['configuration', 'invalid_client', 'fault', /refuses the client/],
    ['configuration', 'http_401', 'fault', /refuses the client/],
    ['configuration', 'CLIENT_ASSERTION_FAILED', 'fault', /refuses the client/],
    ['configuration', 'http_302', 'fault', /redirects/],
    ['configuration', 'http_404', 'fault', /no token endpoint/],
    ['configuration', 'OTHER_ISSUER', 'fault', /names no token endpoint that the module can use/],
    ['configuration', 'NO_TOKEN_ENDPOINT', 'fault', /names no token endpoint that the module can use/],
    ['configuration', 'UNUSABLE_TOKEN_ENDPOINT', 'fault', /names no token endpoint that the module can use/],
    ['configuration', 'unauthorized_client', 'fault', /refuses the client/],
    ['configuration', 'unsupported_grant_type', 'warning', /has no refresh/],
    ['configuration', 'invalid_request', 'warning', /tells nothing/],
    ['not-redeemed', 'ECONNREFUSED', 'fault', /cannot be reached/],
    ['not-redeemed', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'fault', /cannot be reached/],
    ['not-redeemed', 'http_429', 'warning', /puts requests off/],
    ['not-redeemed', 'RATE_LIMITED', 'warning', /puts requests off/],
    ['not-redeemed', 'temporarily_unavailable', 'warning', /puts requests off/],
    ['ambiguous', 'TIMEOUT', 'fault', /no complete answer/],
    ['ambiguous', 'http_500', 'warning', /was not checked/],
    ['ambiguous', 'UNREADABLE_ANSWER', 'fault', /no answer of a token endpoint/],
    ['ambiguous', 'PROVIDER_REJECTED', 'fault', /no complete answer/],
  ] as const)('judges %s %s as %s', (kind, code, level, message) => {
    const finding = providerFinding('acme', { kind, code }, ENDPOINT);
    expect(finding).toMatchObject({ check: 'provider acme', level, message: expect.stringMatching(message) });
    expect(finding.remedy === undefined).toBe(level === 'ok');
    expect(JSON.stringify(finding)).not.toContain('secret');
  });

  it('refuses a server that issues tokens for any refresh token, and prints none of them', () => {
    const finding = providerFinding('acme', { kind: 'success', tokens: { accessToken: 'very-secret' } }, ENDPOINT);
    expect(finding.level).toBe('fault');
    expect(JSON.stringify(finding)).not.toContain('very-secret');
  });

  it('warns of a connection that is not encrypted and leaves the machine', () => {
    const level = (endpoint: string) =>
      providerFinding('acme', { kind: 'terminal', code: 'invalid_grant' }, endpoint).level;
    expect(level('http://idp.example.com/token')).toBe('warning');
    expect(level('http://127.0.0.1:8080/token')).toBe('ok');
    expect(isEncrypted('http://127.0.0.1.example.com/')).toBe(false);
    expect(isEncrypted('http://[::1]:80/')).toBe(true);
  });

  it('asks with another token each time', () => {
    expect(impossibleToken()).not.toBe(impossibleToken());
    expect(impossibleToken()).toMatch(/^doctor[0-9a-f]{64}$/);
  });
});
