import { describe, expect, it } from '@jest/globals';

import { InvalidTokenInputError } from '../tokens.errors.js';
import { allowListFault, checkReturnTo } from './return-to.js';

const ALLOWED = ['https://app.example', 'https://shop.example/account'];

describe('A URL to return to', () => {
  it.each([
    ['/', '/'],
    ['/settings?tab=accounts#github', '/settings?tab=accounts#github'],
    ['/search?q=%0A%2F%2F', '/search?q=%0A%2F%2F'],
    ['/a/../b', '/b'],
    ['/ünï', '/%C3%BCn%C3%AF'],
    ['/r?next=//evil.example', '/r?next=//evil.example'],
    ['/a%20b', '/a%20b'],
    ['/100%25', '/100%25'],
    ['/what%3F/%23', '/what%3F/%23'],
    // Only a slash of ASCII begins the name of a host.
    ['/\uff0fevil.example', '/%EF%BC%8Fevil.example'],
    ['/\u2215/evil.example', '/%E2%88%95/evil.example'],
    ['/\u3002/evil.example', '/%E3%80%82/evil.example'],
    ['https://app.example', 'https://app.example/'],
    ['https://app.example/any/path?x=1', 'https://app.example/any/path?x=1'],
    ['https://APP.example:443/x', 'https://app.example/x'],
    ['https://shop.example/account', 'https://shop.example/account'],
    ['https://shop.example/account/links', 'https://shop.example/account/links'],
    ['https://shop.example/account/a%20b?next=/../x', 'https://shop.example/account/a%20b?next=/../x'],
  ])('can be %s', (returnTo, normal) => {
    expect(checkReturnTo(returnTo, ALLOWED)).toBe(normal);
  });

  it.each([
    '//evil.example',
    '///evil.example',
    '/\\evil.example',
    '\\\\evil.example',
    '/\t/evil.example',
    '/\n/evil.example',
    '\t//evil.example',
    ' //evil.example',
    '/a/..//evil.example',
    '/.//evil.example',
    '/%2fevil.example',
    '/%2Fevil.example',
    '/%5cevil.example',
    '/%252fevil.example',
    '/%25252fevil.example',
    '/%09/evil.example',
    '/%2e%2e%2f/evil.example',
    '/%3f%2f..%2f%2fevil.example',
    '/%23%2f..%2f%2fevil.example',
    '/a/%2e%2e//evil.example',
    '/%25ff/..%252f%252fevil.example',
    '/%c0%af/evil.example',
    '/%ff',
    '/\u0085/evil.example',
    '/\u00a0\t/evil.example',
    '\u00a0//evil.example',
    '\ufeff//evil.example',
    '/%',
    'https:evil.example',
    'https:/evil.example',
    'https://evil.example',
    'https://app.example.evil.example',
    'https://app.example@evil.example',
    'https://user@app.example',
    'https://app.example\\@evil.example',
    'http://app.example',
    'https://app.example:8443',
    'https://shop.example',
    'https://shop.example/accounts',
    'https://shop.example/account/../other',
    'https://shop.example/account/%2e%2e/other',
    'https://shop.example/account/..%2fother',
    'https://shop.example/account/..%252fother',
    'https://shop.example/account/%2e%2e%5cother',
    'https://shop.example/account%2f..%2fother',
    'https://app\u3002example.evil.example',
    'https://app.example\uff0eevil.example',
    'https://app.example\u2044evil.example',
    'ht\ntps://app.example',
    'javascript:alert(1)',
    'data:text/html,x',
    'settings',
    '',
    '?x',
    `/${'x'.repeat(2048)}`,
    '/x\r\nSet-Cookie: a=b',
    42,
    null,
    ['/'],
  ])('cannot be %j', (returnTo) => {
    expect(() => checkReturnTo(returnTo, ALLOWED)).toThrow(InvalidTokenInputError);
  });

  it('is never repeated in the error', () => {
    let message = '';
    try {
      checkReturnTo('https://evil.example', []);
    } catch (error) {
      message = String(error);
    }
    expect(message).toContain('returnTo must be a path of the application');
    expect(message).not.toContain('evil');
  });
});

describe('An allow-list', () => {
  it.each([[[]], [ALLOWED], [['http://localhost:3000']]])('can be %j', (allowed) => {
    expect(allowListFault(allowed)).toBeUndefined();
  });

  it.each([
    [undefined],
    ['https://app.example'],
    [['app.example']],
    [['*']],
    [['javascript:x']],
    [['https://user@app.example']],
    [['https://app.example?x']],
    [[1]],
  ])('cannot be %j', (allowed) => {
    expect(allowListFault(allowed)).toContain('must be a list');
  });
});
