import { describe, expect, it } from '@jest/globals';

import { checkExpiry, checkKey, checkToken, checkUserId } from './token-input.js';
import { InvalidTokenInputError } from './tokens.errors.js';

/** The message of the error that a check throws. The test fails if the check accepts the input. */
function refusal(check: () => unknown): string {
  try {
    check();
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidTokenInputError);
    expect(error).toMatchObject({ code: 'ERR_TOKENS_INVALID_INPUT', retryable: false });
    return (error as Error).message;
  }
  throw new Error('the input was accepted');
}

/** Values that cannot name a row. */
const NO_NAMES = [undefined, null, '', ' ', '\t\n', 7, true, {}, ['user-1'], Symbol('user-1')].map((name) => [name]);

describe('checkUserId', () => {
  it.each(['user-1', '7f3e0c1c-4a5b-4c43-9a3e-0d9e6a1f2b3c', 'f:1:Jürgen', '用户', '😀', ' a ', 'x'.repeat(255)])(
    'returns %j as it is',
    (userId) => {
      expect(checkUserId(userId)).toBe(userId);
    },
  );

  it.each(NO_NAMES)('refuses what is no text or a blank one: %p', (value) => {
    expect(refusal(() => checkUserId(value))).toBe('The user id must be a non-empty string.');
  });

  it('refuses a text that the columns cannot hold, and does not repeat it', () => {
    const token = 'eyJhbGciOiJSUzI1NiJ9.'.padEnd(256, 'x');
    expect(refusal(() => checkUserId(token))).toBe('The user id has 256 characters, more than 255. Is it a token?');
  });

  it('refuses a NUL character', () => {
    expect(refusal(() => checkUserId('user\0-1'))).toContain('NUL');
  });

  it.each(['user-\ud800', '\udc00user', '\udc00\ud800'])(
    'refuses half a surrogate pair, which would be stored as another id: %j',
    (userId) => {
      expect(refusal(() => checkUserId(userId))).toContain('surrogate');
    },
  );
});

describe('checkKey', () => {
  it('returns a copy with the default account, so that the caller may change its own object', () => {
    const key = { keycloakUserId: 'user-1', idp: 'github', other: 1 };
    const checked = checkKey(key);
    key.keycloakUserId = 'user-2';
    expect(checked).toEqual({ keycloakUserId: 'user-1', idp: 'github', account: '' });
  });

  it.each(NO_NAMES)('names the part that is wrong: %p', (value) => {
    const wrong = value as string;
    expect(refusal(() => checkKey({ keycloakUserId: wrong, idp: 'github' }))).toBe(
      'The user id must be a non-empty string.',
    );
    expect(refusal(() => checkKey({ keycloakUserId: 'user-1', idp: wrong }))).toBe(
      'The name of the identity provider must be a non-empty string.',
    );
  });

  it('applies every rule of the user id to the provider', () => {
    for (const idp of ['x'.repeat(256), 'git\0hub', 'github\ud800']) {
      expect(refusal(() => checkKey({ keycloakUserId: 'user-1', idp }))).toContain('The name of the identity provider');
    }
  });
});

describe('checkToken', () => {
  it.each([
    ['of GitHub', 'ghu_16C7e42F292c6912E7710c838347Ae178B4a'],
    ['of one space', ' '],
    ['of 64 KiB', 'x'.repeat(64 * 1024)],
    ['of 64 KiB in four-byte characters', '😀'.repeat(16 * 1024)],
  ])('returns a token as it is: one %s', (_, token) => {
    expect(checkToken(token, 'accessToken')).toBe(token);
  });

  it.each([undefined, null, '', 7, {}, ['ghu_1'], Buffer.from('ghu_1')])('refuses %j, naming the token', (token) => {
    expect(refusal(() => checkToken(token, 'accessToken'))).toBe(
      'accessToken must be a non-empty string. Pass the token as the provider issued it.',
    );
  });

  it.each([
    ['characters', 'x'.repeat(64 * 1024 + 1)],
    ['bytes', `${'😀'.repeat(16 * 1024)}x`],
  ])('refuses a token of more than 64 Ki %s and does not repeat it', (_, token) => {
    expect(refusal(() => checkToken(token, 'refreshToken'))).toBe(
      'refreshToken is larger than 64 KiB. Check that it is a token and not a document.',
    );
  });
});

describe('checkExpiry', () => {
  it.each([0, 1, 1790000000, 99_999_999_999])('returns %d as it is', (expiresAt) => {
    expect(checkExpiry(expiresAt, 'accessTokenExpiresAt')).toBe(expiresAt);
  });

  it.each<[unknown, string]>([
    [-1, '-1'],
    [0.5, '0.5'],
    [1790000000.5, '1790000000.5'],
    [Number.NaN, 'NaN'],
    [Infinity, 'Infinity'],
    ['1790000000', 'string'],
    ['', 'string'],
    [undefined, 'undefined'],
    [null, 'object'],
    [1790000000n, 'bigint'],
    [new Date(0), 'object'],
    [[0], 'object'],
  ])('refuses %p, which is no epoch second', (expiresAt, shown) => {
    expect(refusal(() => checkExpiry(expiresAt, 'accessTokenExpiresAt'))).toBe(
      `accessTokenExpiresAt must be whole epoch seconds, or 0 for a token that does not expire; it is ${shown}.`,
    );
  });

  it.each([100_000_000_000, 1_790_000_000_000, Number.MAX_SAFE_INTEGER, Number.MAX_VALUE])(
    'takes %d for milliseconds and says so',
    (expiresAt) => {
      expect(refusal(() => checkExpiry(expiresAt, 'refreshTokenExpiresAt'))).toContain(
        `refreshTokenExpiresAt must be whole epoch seconds, or 0 for a token that does not expire; ` +
          `${expiresAt} looks like milliseconds. Divide it by 1000.`,
      );
    },
  );

  it('does not repeat a text, which may be a token', () => {
    expect(
      refusal(() => checkExpiry('ghu_16C7e42F292c6912E7710c838347Ae178B4a', 'accessTokenExpiresAt')),
    ).not.toContain('ghu_');
  });
});
