import { describe, expect, it } from '@jest/globals';

import type { CodeFlow } from '../identity-providers/code-flow.js';
import { OAuth2Provider } from '../identity-providers/oauth2.provider.js';
import type { ServerMetadata } from '../identity-providers/server-metadata.js';
import { LinkRefusedError, ProviderUnavailableError } from '../link.errors.js';
import { checkedAnswer, type LinkCallback, parametersOf, stateIn } from './callback.js';

const ISSUER = 'https://idp.example';
const STATE = 'state-of-attempt';
const MARKUP = '<script>alert(1)</script>';

function flowOf(endpoints: { issuer: string } | { tokenEndpoint: string }): CodeFlow {
  const { codeFlow } = new OAuth2Provider({
    clientId: 'client',
    clientSecret: 'secret',
    clientAuthentication: 'client_secret_basic',
    ...endpoints,
    redirectUri: 'https://host.example/callback',
  });
  if (!codeFlow) throw new Error('The provider has no code flow.');
  return codeFlow;
}

const withIssuer = flowOf({ issuer: ISSUER });
const withoutIssuer = flowOf({ tokenEndpoint: `${ISSUER}/token` });
const naming: ServerMetadata = { issuer: ISSUER, authorization_response_iss_parameter_supported: true };
const silent: ServerMetadata = { issuer: ISSUER };

function check(query: string, server = naming, flow = withIssuer): URLSearchParams {
  return checkedAnswer(new URLSearchParams(query), { idp: 'acme', flow, server, state: STATE });
}

/** Returns the reason and the code of a refusal. */
function refusalOf(...answer: Parameters<typeof check>): object {
  try {
    return { accepted: check(...answer).toString() };
  } catch (error) {
    if (error instanceof ProviderUnavailableError) return { unavailable: error.message };
    if (!(error instanceof LinkRefusedError)) throw error;
    expect(error.message).not.toContain('<');
    expect(error).not.toHaveProperty('cause');
    return { reason: error.reason, providerCode: error.providerCode };
  }
}

describe('The parameters of a callback', () => {
  const query = 'code=c&state=s&state=t';

  it.each<[string, LinkCallback]>([
    ['a URL', new URL(`https://host.example/callback?${query}#fragment`)],
    ['a text of a URL', `https://host.example/callback?${query}#state=u`],
    ['a path', `/callback?${query}`],
    ['a query', `?${query}`],
    ['an object', { code: 'c', state: ['s', 't'] }],
  ])('are read from %s', (_, callback) => {
    expect([...parametersOf(callback)]).toEqual([...new URLSearchParams(query)]);
  });

  it.each<[string, unknown]>([
    ['a text without a query', 'nonsense'],
    ['an empty text', ''],
    ['no URL', 'http://['],
    ['nested objects', { state: { toString: () => 's' }, code: [[1], null, { a: 'b' }], __proto__: { iss: 'x' } }],
    ['null', null],
    ['nothing', undefined],
    ['a number', 1],
  ])('of %s are none', (_, callback) => {
    expect([...parametersOf(callback as LinkCallback)]).toEqual([]);
  });

  it('have one state, or none', () => {
    expect(stateIn(new URLSearchParams('state=s'))).toBe('s');
    for (const several of ['', 'state=', 'state=s&state=s', `state=${'x'.repeat(16_385)}`]) {
      expect(stateIn(new URLSearchParams(several))).toBeUndefined();
    }
  });
});

describe('The answer to an authorization request', () => {
  it('has one code', () => {
    expect(check(`state=${STATE}&code=c&iss=${ISSUER}`).get('code')).toBe('c');
    for (const query of ['', 'code=']) {
      expect(refusalOf(`state=${STATE}&iss=${ISSUER}&${query}`)).toEqual({
        reason: 'provider_error',
        providerCode: 'NO_CODE',
      });
    }
    expect(refusalOf(`state=${STATE}&iss=${ISSUER}&code=a&code=b`)).toMatchObject({ reason: 'provider_error' });
  });

  it.each([
    ['another one', 'iss=https://evil.example'],
    ['almost the same one', `iss=${ISSUER}/`],
    ['two', `iss=${ISSUER}&iss=https://evil.example`],
    ['none', ''],
    ['an empty one', 'iss='],
  ])('of a server that names itself is refused with %s', (_, iss) => {
    for (const rest of ['code=c', 'error=access_denied', 'error=server_error']) {
      expect(refusalOf(`state=${STATE}&${rest}&${iss}`)).toEqual({
        reason: 'issuer_mismatch',
        providerCode: 'INVALID_ANSWER',
      });
    }
  });

  it('of a server that does not name itself needs no issuer, and may not have another one', () => {
    expect(refusalOf(`state=${STATE}&code=c`, silent)).toHaveProperty('accepted');
    expect(refusalOf(`state=${STATE}&code=c&iss=https://evil.example`, silent)).toMatchObject({
      reason: 'issuer_mismatch',
    });
  });

  it('of a server without an issuer in the options is not compared, because nothing tells which one is right', () => {
    expect(refusalOf(`state=${STATE}&code=c&iss=https://any.example`, silent, withoutIssuer)).toHaveProperty(
      'accepted',
    );
  });

  it.each(['response=eyJ', 'id_token=eyJ', 'token=t', 'state=other'])('is refused with %s', (further) => {
    expect(refusalOf(`state=${STATE}&code=c&iss=${ISSUER}&${further}`)).toMatchObject({ reason: 'provider_error' });
  });

  it.each(['access_denied', 'user_denied', 'user_cancelled_login', 'user_cancelled_authorize'])(
    'with the error %s says that the user declined',
    (error) => {
      expect(refusalOf(`state=${STATE}&iss=${ISSUER}&error=${error}`)).toEqual({
        reason: 'denied',
        providerCode: error,
      });
    },
  );

  it.each([
    ['invalid_scope', 'invalid_scope'],
    [MARKUP, 'unknown_error'],
    ['Error%20of%20a%20server', 'unknown_error'],
  ])('with the error %s has no text of the server', (error, providerCode) => {
    const query = `state=${STATE}&iss=${ISSUER}&error=${error}&error_description=${MARKUP}&error_uri=${MARKUP}`;
    expect(refusalOf(query)).toEqual({ reason: 'provider_error', providerCode });
  });

  it('with an error and a code is an error', () => {
    expect(refusalOf(`state=${STATE}&iss=${ISSUER}&error=access_denied&code=c`)).toMatchObject({ reason: 'denied' });
  });

  it.each(['server_error', 'temporarily_unavailable'])('with the error %s says that the server is down', (error) => {
    expect(refusalOf(`state=${STATE}&iss=${ISSUER}&error=${error}`)).toHaveProperty('unavailable');
  });
});
