import { describe, expect, it } from '@jest/globals';

import { faultsOf, instantiate } from '../options-validation.js';
import { codeFlowFaults, CodeFlowSettings, isScope } from './code-flow.options.js';

const GOOD = {
  redirectUri: 'https://host.example/connections/acme/callback',
  scopes: ['openid', 'https://scopes.example/read', 'repo:status'],
  authorizationEndpoint: 'https://idp.example/authorize?tenant=1',
  issuer: 'https://idp.example/tenant',
  authorizationParameters: { prompt: 'consent', access_type: 'offline' },
  accountEndpoint: 'http://localhost:8080/me',
  readAccount: () => ({ subject: '1' }),
};

function faults(options: object): string[] {
  return faultsOf(instantiate(CodeFlowSettings, options), 'identityProviders.acme');
}

describe('The options of account links', () => {
  it('can have every option, and none', () => {
    expect(faults(GOOD)).toEqual([]);
    expect(faults({})).toEqual([]);
  });

  it.each<[keyof typeof GOOD, unknown]>([
    ['redirectUri', '/connections/acme/callback'],
    ['redirectUri', 'host.example/callback'],
    ['redirectUri', 'com.example.app:/callback'],
    ['redirectUri', 'https://host.example/callback#fragment'],
    ['redirectUri', 'https://user:password@host.example/callback'],
    ['scopes', 'openid profile'],
    ['scopes', ['openid profile']],
    ['scopes', ['"']],
    ['scopes', ['']],
    ['scopes', [1]],
    ['scopes', {}],
    ['authorizationEndpoint', 'javascript:alert(1)'],
    ['authorizationEndpoint', '//idp.example/authorize'],
    ['issuer', 'https://idp.example?tenant=1'],
    ['issuer', 'idp.example'],
    ['authorizationParameters', { prompt: true }],
    ['authorizationParameters', ['prompt']],
    ['authorizationParameters', 'prompt=consent'],
    ['authorizationParameters', new URLSearchParams('prompt=consent')],
    ['accountEndpoint', '/me'],
    ['accountEndpoint', 'file:///etc/passwd'],
    ['readAccount', 'sub'],
    ['readAccount', async () => Promise.resolve({ subject: '1' })],
  ])('cannot have %s %j', (option, value) => {
    const found = faults({ ...GOOD, [option]: value });
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(new RegExp(`^identityProviders\\.acme\\.${option} must `));
  });

  it.each([
    'response_type',
    'response_mode',
    'client_id',
    'redirect_uri',
    'scope',
    'state',
    'nonce',
    'code_challenge',
    'code_challenge_method',
    'request',
    'request_uri',
  ])('cannot set %s, because the module sets it', (name) => {
    const [fault, ...others] = faults({ authorizationParameters: { prompt: 'none', [name]: 'value-of-host' } });
    expect(others).toEqual([]);
    expect(fault).toContain('authorizationParameters must be an object of texts, without response_type');
    expect(fault).not.toContain('value-of-host');
  });

  it('cannot ask for an ID token that the module cannot check', () => {
    const fault = 'issuer is missing: the module cannot check the ID token of the scope openid without it';
    expect(codeFlowFaults({ scopes: ['openid'] })).toEqual([fault]);
    expect(codeFlowFaults({ scopes: ['openid'], issuer: GOOD.issuer })).toEqual([]);
    expect(codeFlowFaults({ scopes: ['read'] })).toEqual([]);
    expect(codeFlowFaults({})).toEqual([]);
    // A list that is no list is the fault of another rule.
    expect(codeFlowFaults({ scopes: 'openid' as never })).toEqual([]);
  });
});

describe('A scope', () => {
  it.each(['a', 'repo:status', 'https://www.googleapis.com/auth/calendar.readonly', '!', '~', 'x'.repeat(255)])(
    'can be %s',
    (scope) => {
      expect(isScope(scope)).toBe(true);
    },
  );

  it.each(['', ' ', 'a b', 'a\tb', 'a\n', '"', '\\', '\0', 'é', '\u007f', 'x'.repeat(256), 1, null, undefined, ['a']])(
    'cannot be %j',
    (scope) => {
      expect(isScope(scope)).toBe(false);
    },
  );
});
