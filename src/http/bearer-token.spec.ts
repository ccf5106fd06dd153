import { describe, expect, it } from '@jest/globals';

import { AuthenticationRequiredError, KeycloakSessionExpiredError } from '../tokens.errors.js';
import { bearerToken } from './bearer-token.js';

describe('The bearer token of a request', () => {
  it.each(['Bearer a.b-c_d~e+f/g==', 'bearer a', 'BEARER a', 'Bearer    a', '  Bearer a ', ['Bearer a']])(
    'is read from %j',
    (authorization) => {
      expect(bearerToken(authorization)).toBe([authorization].flat().join('').trim().split(/ +/)[1]);
    },
  );

  it.each([
    undefined,
    '',
    ' ',
    [],
    [''],
    'Basic YTpi',
    'Digest Bearer',
    'Bearerish a',
    'a.b.c',
    ['Basic a', 'Digest b'],
  ])('is not there in %j', (authorization) => {
    expect(() => bearerToken(authorization)).toThrow(AuthenticationRequiredError);
  });

  it.each([
    'Bearer',
    'bearer ',
    'Bearer a b',
    'Bearer a, Bearer b',
    'Bearer a,b',
    'Bearer\ta',
    'Bearer "a"',
    'Bearer a=b',
    'Bearer \u00e4',
    ['Bearer a', 'Bearer b'],
    ['Bearer a', 'Bearer a'],
    ['Basic a', 'Bearer b'],
  ])('is not good in %j', (authorization) => {
    expect(() => bearerToken(authorization)).toThrow(KeycloakSessionExpiredError);
    expect(() => bearerToken(authorization)).toThrow('The bearer token is not good (malformed). Log in again.');
  });
});
