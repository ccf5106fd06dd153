import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { bearerToken } from '../../src/http/bearer-token.js';
import { AuthenticationRequiredError, KeycloakSessionExpiredError } from '../../src/index.js';
import { FUZZ } from './fuzz.js';

/** The b64token of RFC 6750 section 2.1. */
const B64TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;
/** The only texts of the two errors. So they repeat nothing of a header. */
const MESSAGES = [
  new AuthenticationRequiredError().message,
  'The bearer token is not good (malformed). Log in again.',
] as const;

const tokenCharacter = fc.constantFrom(
  ...Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/'),
);
const token = fc
  .tuple(fc.string({ unit: tokenCharacter, minLength: 1, maxLength: 60 }), fc.nat({ max: 3 }))
  .map(([characters, padding]) => characters + '='.repeat(padding));
const scheme = fc.constantFrom('Bearer', 'bearer', 'BEARER', 'bEaReR');
const spaces = fc.nat({ max: 4 }).map((count) => ' '.repeat(count));
const credentials = fc.tuple(scheme, spaces, token).map(([name, gap, text]) => `${name} ${gap}${text}`);

/** Pieces of which wrong headers are made. */
const piece = fc.oneof(
  token,
  scheme,
  credentials,
  fc.constantFrom(' ', '  ', '\t', ',', ', ', ';', '"', '=', '==', '\r\n', '\0', '\u00a0', 'ä', 'Basic', 'Digest', ''),
  fc.string({ maxLength: 10 }),
  fc.string({ unit: 'binary', maxLength: 10 }),
);
const value = fc.oneof(
  credentials,
  fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join('')),
  fc.array(credentials, { maxLength: 3 }).map((all) => all.join(', ')),
  fc.string({ unit: 'binary' }),
);
const header = fc.oneof(fc.constant(undefined), value, fc.array(value, { maxLength: 3 }));

/** Returns the token of a header, or fails the test if the header is refused in an unknown way. */
function tokenOf(authorization: string | string[] | undefined): string | undefined {
  try {
    return bearerToken(authorization);
  } catch (error) {
    const isKnown = error instanceof AuthenticationRequiredError || error instanceof KeycloakSessionExpiredError;
    expect({ isKnown, cause: (error as Error).cause }).toEqual({ isKnown: true, cause: undefined });
    expect(MESSAGES).toContain((error as Error).message);
    expect(Object.keys(error as Error).sort()).toEqual(['code', 'name', 'retryable']);
    return undefined;
  }
}

describe('The bearer token', () => {
  it('of any header is its one b64token, or a known error that repeats nothing of the header', () => {
    fc.assert(
      fc.property(header, (authorization) => {
        const found = tokenOf(authorization);
        if (found === undefined) return;
        expect(found).toMatch(B64TOKEN);
        const [only = '', ...others] = [authorization ?? []].flat();
        expect(others).toEqual([]);
        // What is left of the header beside the token is the scheme, and spaces around it.
        expect(only.trim().endsWith(found)).toBe(true);
        expect(only.trim().slice(0, -found.length)).toMatch(/^bearer +$/i);
      }),
      FUZZ,
    );
  });

  it('is found in every header with one scheme and one token', () => {
    fc.assert(
      fc.property(scheme, spaces, token, spaces, fc.boolean(), (name, gap, text, around, isList) => {
        const authorization = `${around}${name} ${gap}${text}${around}`;
        expect(tokenOf(isList ? [authorization] : authorization)).toBe(text);
      }),
      FUZZ,
    );
  });

  it('is none of two, however they are joined', () => {
    const separators = [',', ', ', ' ', ' , ', ';', '\t', '\n', '\r\n', '\0', ',,', ' and '];
    fc.assert(
      fc.property(credentials, credentials, fc.constantFrom('list', ...separators), (first, second, separator) => {
        const authorization = separator === 'list' ? [first, second] : `${first}${separator}${second}`;
        expect(tokenOf(authorization)).toBeUndefined();
      }),
      FUZZ,
    );
  });

  it('of another scheme is none', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,12}$/), spaces, token, (name, gap, text) => {
        fc.pre(name.toLowerCase() !== 'bearer');
        expect(tokenOf(`${name} ${gap}${text}`)).toBeUndefined();
      }),
      FUZZ,
    );
  });
});
