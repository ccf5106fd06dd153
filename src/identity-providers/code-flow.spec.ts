import { describe, expect, it } from '@jest/globals';

import { accountIn, type ReadAccount, readUsualAccount } from './code-flow.js';

describe('The usual account', () => {
  it.each<[object, object | null]>([
    [
      { sub: 'a', name: 'Ada' },
      { subject: 'a', name: 'Ada' },
    ],
    [
      { sub: 'a', id: 2 },
      { subject: 'a', name: null },
    ],
    [
      { id: 2, login: 'ada', name: 'Ada' },
      { subject: 2, name: 'ada' },
    ],
    [
      { id: 'x', preferred_username: '', email: 'ada@example.com' },
      { subject: 'x', name: 'ada@example.com' },
    ],
    [
      { id: 'x', username: 7 },
      { subject: 'x', name: null },
    ],
    [{ id: true }, null],
    [{ sub: ['a'] }, null],
    [{}, null],
  ])('of %j is %j', (fields, account) => {
    expect(readUsualAccount({ ...fields })).toEqual(account);
  });
});

describe('An account that a function reads', () => {
  const read = (account: unknown) => accountIn({}, (() => account) as ReadAccount);

  it.each<[unknown, object | null]>([
    [{ subject: 'a' }, { subject: 'a', name: null }],
    [
      { subject: 7, name: 'Ada' },
      { subject: '7', name: 'Ada' },
    ],
    [
      { subject: 'a', name: undefined },
      { subject: 'a', name: null },
    ],
    [
      { subject: 'a', name: 'x'.repeat(300) },
      { subject: 'a', name: 'x'.repeat(255) },
    ],
    [
      { subject: 'a', name: 'nul\0' },
      { subject: 'a', name: null },
    ],
    [
      { subject: 'a', name: '\ud800' },
      { subject: 'a', name: null },
    ],
    [
      { subject: 'a', name: {} },
      { subject: 'a', name: null },
    ],
    [{ subject: '' }, null],
    [{ subject: 'x'.repeat(256) }, null],
    [{ subject: 'nul\0' }, null],
    [{ subject: '\ud800' }, null],
    [{ subject: null }, null],
    [{ subject: {} }, null],
    [{}, null],
    [null, null],
    [undefined, null],
  ])('as %j is %j', (given, account) => {
    expect(read(given)).toEqual(account);
  });

  it('has no number that lost digits, because two accounts could have it', () => {
    expect(JSON.parse('[9007199254740993]')).toEqual([9007199254740992]);
    for (const subject of [9007199254740992, 1.5, NaN, Infinity]) expect(read({ subject })).toBeNull();
    expect(read({ subject: Number.MAX_SAFE_INTEGER })).toMatchObject({ subject: '9007199254740991' });
  });

  it('is not known if the function throws, and the error is dropped', () => {
    expect(
      accountIn({ access_token: 'secret' }, ({ access_token: token }) => {
        throw new Error(String(token));
      }),
    ).toBeNull();
  });
});
