import { afterEach, describe, expect, it, jest } from '@jest/globals';

import { accountIn, type CodeFlow, readUsualAccount } from '../identity-providers/code-flow.js';
import { OAuth2Provider, type OAuth2ProviderProfile } from '../identity-providers/oauth2.provider.js';
import { bearerRequest } from '../oauth-http/authorization.js';
import { accountOf } from './account-of-tokens.js';

const USER = 'https://api.example/user';
const ISSUED = { tokens: { accessToken: 'access' }, fields: { access_token: 'access', team: 'T1' } };
const question = { request: (token: string) => bearerRequest(USER, token), read: readUsualAccount };

afterEach(() => {
  jest.restoreAllMocks();
});

function flowWith(profile: Partial<OAuth2ProviderProfile>): CodeFlow {
  const { codeFlow } = new OAuth2Provider({
    clientId: 'client',
    clientSecret: 'secret',
    clientAuthentication: 'client_secret_basic',
    tokenEndpoint: 'https://idp.example/token',
    redirectUri: 'https://host.example/callback',
    ...profile,
  });
  if (!codeFlow) throw new Error('The provider has no code flow.');
  return codeFlow;
}

function answer(body: string | null, status = 200) {
  const headers = { location: 'https://evil.example/user' };
  return jest.spyOn(globalThis, 'fetch').mockResolvedValue(new Response(body, { status, headers }));
}

function accountOfIssued(flow: CodeFlow, claims?: Record<string, unknown>, userinfo?: string) {
  const server = { issuer: 'https://idp.example', ...(userinfo !== undefined && { userinfo_endpoint: userinfo }) };
  return accountOf(flow, server, ISSUED, claims);
}

describe('The account of new tokens', () => {
  it('is the answer to the question for it', async () => {
    const fetched = answer('{"id":7,"login":"ada"}');
    await expect(accountOfIssued(flowWith({ accountQuestion: question }))).resolves.toEqual({
      account: { subject: '7', name: 'ada' },
    });
    expect(fetched).toHaveBeenCalledTimes(1);
    expect(fetched.mock.calls[0]).toMatchObject([
      USER,
      { redirect: 'manual', headers: { authorization: 'Bearer access' } },
    ]);
  });

  it.each<[string, string | null, number, string]>([
    ['a page', '<html>7</html>', 200, 'UNREADABLE_ANSWER'],
    ['a list', '[]', 200, 'UNREADABLE_ANSWER'],
    ['a text', '"7"', 200, 'UNREADABLE_ANSWER'],
    ['nothing', null, 200, 'UNREADABLE_ANSWER'],
    ['an account without an id', '{"login":"ada"}', 200, 'UNREADABLE_ANSWER'],
    ['an id that lost digits', '{"id":9007199254740993}', 200, 'UNREADABLE_ANSWER'],
    ['a redirect', null, 302, 'http_302'],
    ['an error', '{"id":7}', 401, 'http_401'],
    ['another success', '{"id":7}', 201, 'http_201'],
    ['too much', `{"id":7,"x":"${'x'.repeat(1024 * 1024)}"}`, 200, 'BODY_TOO_LARGE'],
  ])('is not known if the provider answers with %s', async (_, body, status, failure) => {
    const fetched = answer(body, status);
    await expect(accountOfIssued(flowWith({ accountQuestion: question }))).resolves.toEqual({ account: null, failure });
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it('is not known if the provider does not answer', async () => {
    jest.spyOn(globalThis, 'fetch').mockRejectedValue(new TypeError('fetch failed', { cause: { code: 'ECONNRESET' } }));
    await expect(accountOfIssued(flowWith({ accountQuestion: question }))).resolves.toEqual({
      account: null,
      failure: 'ECONNRESET',
    });
  });

  it('is not known if the answer is about another user than the ID token', async () => {
    answer('{"sub":"mallory"}');
    const flow = flowWith({ accountQuestion: question });
    await expect(accountOfIssued(flow, { sub: 'ada' })).resolves.toEqual({
      account: null,
      failure: 'UNREADABLE_ANSWER',
    });
  });

  it('is that of the ID token', async () => {
    const fetched = answer('{}');
    await expect(accountOfIssued(flowWith({}), { sub: 'ada', name: 'Ada' })).resolves.toEqual({
      account: { subject: 'ada', name: 'Ada' },
    });
    expect(fetched).not.toHaveBeenCalled();
  });

  it.each<[string, number, string | null]>([
    ['{"sub":"ada","email":"ada@example.com"}', 200, 'ada@example.com'],
    ['{"sub":"mallory","email":"mallory@example.com"}', 200, null],
    ['{"email":"ada@example.com"}', 200, null],
    ['<html></html>', 200, null],
    ['{"sub":"ada","email":"ada@example.com"}', 500, null],
  ])('has its name from the user info %s (%i), if it is about the same user', async (body, status, name) => {
    answer(body, status);
    await expect(accountOfIssued(flowWith({}), { sub: 'ada' }, 'https://idp.example/me')).resolves.toEqual({
      account: { subject: 'ada', name },
    });
  });

  it('is what a function of the host reads in the claims, or in the token answer', async () => {
    const flow = flowWith({ readAccount: ({ team }) => (typeof team === 'string' ? { subject: team } : null) });
    await expect(accountOfIssued(flow)).resolves.toEqual({ account: { subject: 'T1', name: null } });
    await expect(accountOfIssued(flow, { sub: 'ada', team: 'T2' })).resolves.toEqual({
      account: { subject: 'T2', name: null },
    });
    await expect(accountOfIssued(flow, { sub: 'ada' })).resolves.toEqual({
      account: null,
      failure: 'UNREADABLE_ANSWER',
    });
  });

  it('is not known, and nothing failed, if nothing can tell it', async () => {
    await expect(accountOfIssued(flowWith({}))).resolves.toEqual({ account: null });
    expect(accountIn(ISSUED.fields, readUsualAccount)).toBeNull();
  });
});
