import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';

import { type AnswerRules, classifyTokenAnswer, type ReadAnswer } from '../../src/identity-providers/token-answer.js';
import { FUZZ } from './fuzz.js';

/** A text of a body that no failure may contain. */
const SECRET = 'gho_SECRETsecret1234567890';
/** The codes that end the grant at every provider. */
const TERMINAL = [
  'invalid_grant',
  'invalid_token',
  'bad_refresh_token',
  'invalid_refresh_token',
  'interaction_required',
  'login_required',
  'consent_required',
];
const OTHER_ERRORS = [
  'invalid_client',
  'invalid_request',
  'server_error',
  'slow_down',
  'temporarily_unavailable',
  SECRET,
];

const token = fc.oneof(fc.string({ minLength: 1 }), fc.constant(SECRET), fc.constant('a b&c=d<e>"ü\n'));
const pair = fc.record(
  {
    access_token: token,
    refresh_token: token,
    expires_in: fc.oneof(fc.integer(), fc.string(), fc.constant(null)),
    refresh_token_expires_in: fc.oneof(fc.integer(), fc.constant(SECRET)),
    scope: fc.string(),
  },
  { requiredKeys: ['access_token'] },
);
const failure = fc.record(
  {
    error: fc.oneof(fc.constantFrom(...TERMINAL, ...OTHER_ERRORS), fc.string(), fc.jsonValue()),
    error_description: fc.oneof(fc.constant(SECRET), fc.string()),
    message: fc.constant(SECRET),
  },
  { requiredKeys: [] },
);

function form(fields: object): string {
  return new URLSearchParams(
    Object.entries(fields).map(([name, value]): [string, string] => [
      name,
      typeof value === 'object' ? JSON.stringify(value) : String(value),
    ]),
  ).toString();
}

const json = (fields: object) => JSON.stringify(fields);
const encoding = fc.constantFrom<(fields: object) => string>(json, form, (fields) => `\uFEFF ${json(fields)}\r\n`);
const page = fc
  .tuple(
    fc.constantFrom('<html>', '<!DOCTYPE html>', '<a href="?', '\n <script>', '<?xml version="1.0"?>'),
    fc.constantFrom('&access_token=', '&error=invalid_grant&refresh_token=', 'error=', ''),
    fc.constantFrom(SECRET, 'invalid_grant'),
  )
  .map((parts) => parts.join(''));
const prose = fc.constantFrom(
  `Try again &access_token=${SECRET} later`,
  `&error=invalid_grant for ${SECRET}`,
  `error=invalid_grant\naccess_token=${SECRET}`,
);
const status = fc.oneof(
  fc.constantFrom(200, 201, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504),
  fc.integer({ min: 200, max: 599 }),
);
const headers = fc.dictionary(
  fc.constantFrom('content-type', 'retry-after', 'date', 'location', 'www-authenticate'),
  fc.constantFrom('application/json', 'text/html', 'application/x-www-form-urlencoded', '7', '-1', 'soon', SECRET),
);
const rules = fc.record<AnswerRules>(
  {
    terminalErrorCodes: fc.subarray(['invalid_request', 'http_400', 'http_500', 'server_error', 'invalid_grant']),
    readAnswer: fc.constantFrom<ReadAnswer>(
      (fields) => fields,
      () => ({}),
      () => {
        throw new Error(SECRET);
      },
      () => SECRET as never,
    ),
  },
  { requiredKeys: [] },
);

function classify(answer: { status: number; headers: Record<string, string>; body: string }, given?: AnswerRules) {
  return classifyTokenAnswer({ kind: 'answered', ...answer, headers: new Headers(answer.headers) }, given);
}

describe('An answer of a token endpoint', () => {
  it('keeps every pair that a success has', () => {
    fc.assert(
      fc.property(fc.integer({ min: 200, max: 299 }), headers, pair, encoding, (each, some, fields, encode) => {
        const readAnswer: ReadAnswer = (read) => ({ ...read });
        const body = encode(fields);
        const classified = classify({ status: each, headers: some, body });
        expect(classified).toMatchObject({ kind: 'success', tokens: { accessToken: fields.access_token } });
        expect(classify({ status: each, headers: some, body }, { readAnswer })).toEqual(classified);
        const { refreshToken } = classified.kind === 'success' ? classified.tokens : {};
        expect(refreshToken).toBe(fields.refresh_token);
      }),
      FUZZ,
    );
  });

  it('ends a grant only by a code that the provider sent with a status below 500', () => {
    fc.assert(
      fc.property(status, headers, fc.oneof(failure, pair), encoding, (each, some, fields, encode) => {
        const classified = classify({ status: each, headers: some, body: encode(fields) });
        if (classified.kind !== 'terminal') return;
        expect(each).toBeLessThan(500);
        expect([408, 429]).not.toContain(each);
        expect(TERMINAL).toContain(classified.code);
        expect('error' in fields && fields.error).toBe(classified.code);
      }),
      FUZZ,
    );
  });

  it('neither ends a grant nor has a pair in a page, whatever the options say', () => {
    fc.assert(
      fc.property(status, headers, fc.oneof(page, prose), rules, (each, some, body, given) => {
        const { kind } = classify({ status: each, headers: some, body }, { ...given, readAnswer: undefined });
        expect(kind).not.toBe('success');
        expect(kind).not.toBe('terminal');
      }),
      FUZZ,
    );
  });

  it('is neither a success nor a verdict when its JSON is cut anywhere', () => {
    const cut = fc
      .tuple(fc.oneof(pair, failure), fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }))
      .map(([fields, part]) => json(fields).slice(0, Math.floor(part * json(fields).length)));
    fc.assert(
      fc.property(status, headers, cut, (each, some, body) => {
        const { kind } = classify({ status: each, headers: some, body });
        expect(['success', 'terminal']).not.toContain(kind);
      }),
      FUZZ,
    );
  });

  it('leaves nothing of its body in a failure', () => {
    const body = fc.oneof(
      fc.tuple(fc.oneof(failure, pair), encoding).map(([fields, encode]) => encode(fields)),
      page,
      prose,
      fc.string(),
    );
    fc.assert(
      fc.property(status, headers, body, rules, (each, some, text, given) => {
        const classified = classify({ status: each, headers: some, body: text }, given);
        if (classified.kind === 'success') return;
        expect(JSON.stringify(classified)).not.toContain('SECRET');
        expect(classified.code).toMatch(/^[a-z][a-z0-9_]{0,63}$|^[A-Z_]{1,64}$/);
        const { retryAfterMs = 0 } = 'retryAfterMs' in classified ? classified : {};
        expect(retryAfterMs).toBeGreaterThanOrEqual(0);
        expect(retryAfterMs).toBeLessThanOrEqual(3_600_000);
      }),
      FUZZ,
    );
  });
});
