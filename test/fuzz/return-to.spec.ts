import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { checkReturnTo } from '../../src/account-links/return-to.js';
import { InvalidTokenInputError } from '../../src/index.js';
import { FUZZ } from './fuzz.js';

const HOST = 'https://host.example';
const ALLOWED = ['https://app.example', 'https://shop.example/account'];
/** How often a server or a proxy may decode a path. */
const MOST_DECODINGS = 3;

/** Pieces of which attacks are made. */
const piece = fc.oneof(
  fc.constantFrom('/', '//', '\\', '.', '..', '?', '#', '@', ':', ';', ' ', '\t', '\n', '\r', '\0', '%', '&', '='),
  fc.constantFrom('%2f', '%2F', '%5c', '%2e', '%25', '%252f', '%3f', '%23', '%40', '%09', '%0a', '%00', '%20', '%ff'),
  fc.constantFrom(
    '%c0%af',
    '%e3%80%82',
    '%u002f',
    '\uff0f',
    '\uff3c',
    '\u3002',
    '\u2215',
    '\u00a0',
    '\ufeff',
    '\u0085',
  ),
  fc.constantFrom(
    'evil.example',
    'host.example',
    'app.example',
    'shop.example',
    'account',
    'https:',
    'javascript:',
    'a',
  ),
  fc.string({ unit: 'binary', maxLength: 3 }),
);
const start = fc.constantFrom(
  '',
  '/',
  '/a/',
  'https://app.example',
  'https://shop.example/account',
  'https://shop.example/account/',
);
const returnTo = fc.tuple(start, fc.array(piece, { maxLength: 8 })).map(([first, pieces]) => first + pieces.join(''));

/** Decodes the bytes of a text as a server does that accepts every byte. */
function decoded(text: string): string {
  const bytes = Buffer.from(text).toString('latin1');
  const read = bytes.replace(/%([\da-f]{2})/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
  return Buffer.from(read, 'latin1').toString();
}

/** Returns what a server can take the path of a URL for, each without its dots. */
function readingsOf(path: string): string[] {
  const readings = [path];
  while (readings.length <= MOST_DECODINGS) readings.push(decoded(readings.at(-1) ?? ''));
  return readings.flatMap((reading) => {
    const { href } = new URL(reading.replace(/[?#]/g, encodeURIComponent), HOST);
    return [href, new URL(new URL(href).pathname, HOST).href];
  });
}

function checked(value: string): string | undefined {
  try {
    return checkReturnTo(value, ALLOWED);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidTokenInputError);
    return undefined;
  }
}

describe('Whatever the URL to return to is', () => {
  it('the browser stays at the host, or at the allowed path of another one, however the path is decoded', () => {
    fc.assert(
      fc.property(returnTo, (value) => {
        const safe = checked(value);
        if (safe === undefined) return;
        expect(safe).toMatch(/^[\x21-\x7e]+$/);
        const { origin, pathname } = new URL(safe, HOST);
        if (safe.startsWith('/')) {
          expect(origin).toBe(HOST);
          for (const reading of readingsOf(pathname)) expect(new URL(reading).origin).toBe(HOST);
        } else if (origin === 'https://shop.example') {
          for (const reading of readingsOf(pathname)) expect(new URL(reading).pathname).toMatch(/^\/account(\/|$)/);
        } else {
          expect(origin).toBe('https://app.example');
        }
      }),
      FUZZ,
    );
  });

  it('a path of plain segments is one', () => {
    const segment = fc.stringMatching(/^[a-z0-9_~-]{1,8}$/);
    const query = fc.option(fc.stringMatching(/^[a-z]{1,4}=[a-z0-9]{0,4}$/), { nil: undefined });
    fc.assert(
      fc.property(fc.array(segment, { maxLength: 5 }), query, (segments, parameters) => {
        const path = `/${segments.join('/')}${parameters === undefined ? '' : `?${parameters}`}`;
        expect(checked(path)).toBe(path);
      }),
      FUZZ,
    );
  });
});
