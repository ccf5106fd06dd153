import { describe, expect, it } from '@jest/globals';

import type { RefreshAnswer } from './identity-provider.js';
import { type AnswerRules, classifyTokenAnswer, type ReadAnswer } from './token-answer.js';

const JSON_TYPE = { 'content-type': 'application/json; charset=utf-8' };
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };
const OK = { access_token: 'a', refresh_token: 'r', token_type: 'bearer' };
/** A text that no failure may contain. Providers repeat what was sent. */
const ECHOED_TOKEN = 'ghr_1B4a2e77838347a7E420ce178F2E7c6912E169246c34E1ccbF66C46812d16D5B1A9Dc86A1498';

function answer(
  status: number,
  body: unknown,
  headers: Record<string, string> = JSON_TYPE,
  rules?: AnswerRules,
): RefreshAnswer {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return classifyTokenAnswer({ kind: 'answered', status, headers: new Headers(headers), body: text }, rules);
}

function lifetimes(fields: object): [number | undefined, number | undefined] {
  const classified = answer(200, { ...OK, ...fields });
  if (classified.kind !== 'success') throw new Error(`classified as ${classified.kind}`);
  return [classified.tokens.accessTokenExpiresIn, classified.tokens.refreshTokenExpiresIn];
}

describe('A successful answer', () => {
  it('is read from JSON', () => {
    expect(answer(200, { ...OK, expires_in: 28800, refresh_token_expires_in: 15897600, scope: '' })).toEqual({
      kind: 'success',
      tokens: {
        accessToken: 'a',
        refreshToken: 'r',
        accessTokenExpiresIn: 28800,
        refreshTokenExpiresIn: 15897600,
      },
    });
  });

  it('is read from a form, as GitHub sends it unless asked for JSON', () => {
    const body = 'access_token=a%2Bb&expires_in=28800&refresh_token=r%26+s&refresh_token_expires_in=15897600&scope=';
    expect(answer(200, body, FORM_TYPE)).toEqual({
      kind: 'success',
      tokens: {
        accessToken: 'a+b',
        refreshToken: 'r& s',
        accessTokenExpiresIn: 28800,
        refreshTokenExpiresIn: 15897600,
      },
    });
  });

  it('is a success whatever else it says: a pair that was issued is kept', () => {
    expect(answer(200, { ...OK, error: 'invalid_grant' })).toMatchObject({
      kind: 'success',
      tokens: { accessToken: 'a' },
    });
    expect(answer(200, { ...OK, error: false })).toMatchObject({ kind: 'success' });
    expect(answer(400, { ...OK, error: 'invalid_grant' })).toMatchObject({ kind: 'terminal' });
  });

  it('is read by what it is, not by its label', () => {
    const form = 'access_token=a&refresh_token=r';
    expect(answer(200, form, { 'content-type': 'text/plain' })).toMatchObject({ tokens: { refreshToken: 'r' } });
    expect(answer(200, form, { 'content-type': 'Application/X-WWW-Form-Urlencoded' }).kind).toBe('success');
    expect(answer(200, JSON.stringify(OK), FORM_TYPE)).toMatchObject({ tokens: { refreshToken: 'r' } });
    expect(answer(200, `\uFEFF${JSON.stringify(OK)}`).kind).toBe('success');
  });

  it('is read from JSON whatever the content type says, except a form', () => {
    for (const type of ['text/html', 'text/plain', 'application/vnd.api+json', 'nonsense']) {
      expect(answer(200, OK, { 'content-type': type }).kind).toBe('success');
    }
    expect(answer(200, OK, {}).kind).toBe('success');
    expect(answer(201, OK).kind).toBe('success');
  });

  it.each([
    ['left out', {}],
    ['null', { refresh_token: null }],
    ['empty', { refresh_token: '' }],
    ['no text', { refresh_token: 7 }],
  ])('has no refresh token when it is %s', (_, fields) => {
    const classified = answer(200, { access_token: 'a', ...fields });
    expect(classified).toMatchObject({ kind: 'success', tokens: { accessToken: 'a' } });
    expect(classified).not.toHaveProperty('tokens.refreshToken', expect.anything());
  });

  it.each([null, ''])('may carry an error of %j', (error) => {
    expect(answer(200, { ...OK, error }).kind).toBe('success');
  });

  it.each<[unknown, number | undefined]>([
    [7200, 7200],
    ['7200', 7200],
    [3599.9, 3599],
    [1, 1],
    [0, undefined],
    ['0', undefined],
    [-1, undefined],
    ['-7200', undefined],
    ['', undefined],
    ['soon', undefined],
    ['NaN', undefined],
    ['Infinity', undefined],
    [null, undefined],
    [true, undefined],
    [[7200], undefined],
    [{}, undefined],
    [1e10, 1e10],
    [1e300, 1e10],
    ['9'.repeat(400), undefined],
    [Number.MAX_SAFE_INTEGER, 1e10],
  ])('has, for a lifetime of %j, that of %j seconds', (given, seconds) => {
    expect(lifetimes({ expires_in: given })).toEqual([seconds, undefined]);
    expect(lifetimes({ refresh_token_expires_in: given })).toEqual([undefined, seconds]);
  });

  it('keeps a lifetime that JSON cannot hold out of the tokens', () => {
    expect(answer(200, '{"access_token":"a","expires_in":1e999}')).toEqual({
      kind: 'success',
      tokens: { accessToken: 'a' },
    });
  });

  it('has the lifetime of the refresh token under the name that Keycloak gives it', () => {
    expect(lifetimes({ refresh_expires_in: 1800 })).toEqual([undefined, 1800]);
    expect(lifetimes({ refresh_expires_in: 1800, refresh_token_expires_in: 60 })).toEqual([undefined, 60]);
  });
});

/** A provider's answer, and its class and code. */
type Row = [what: string, status: number, body: unknown, kind: RefreshAnswer['kind'], code: string];

describe('An answer that is no success', () => {
  it.each<Row>([
    ['invalid_grant', 400, { error: 'invalid_grant' }, 'terminal', 'invalid_grant'],
    ['invalid_grant at 401, as older GitLab', 401, { error: 'invalid_grant' }, 'terminal', 'invalid_grant'],
    ['invalid_grant at 403, as Atlassian', 403, { error: 'invalid_grant' }, 'terminal', 'invalid_grant'],
    ['invalid_token', 401, { error: 'invalid_token' }, 'terminal', 'invalid_token'],
    ['bad_refresh_token in a 200', 200, { error: 'bad_refresh_token' }, 'terminal', 'bad_refresh_token'],
    ['invalid_grant in a 200', 200, { error: 'invalid_grant' }, 'terminal', 'invalid_grant'],
    ...['interaction_required', 'login_required', 'consent_required', 'invalid_refresh_token'].map((error): Row => [
      error,
      400,
      { error },
      'terminal',
      error,
    ]),
    [
      'invalid_refresh_token in a 200, as Slack',
      200,
      { ok: false, error: 'invalid_refresh_token' },
      'terminal',
      'invalid_refresh_token',
    ],
    ['login_required at a 500', 500, { error: 'login_required' }, 'ambiguous', 'http_500'],
    ['server_error at a 400', 400, { error: 'server_error' }, 'ambiguous', 'server_error'],
    ['slow_down at a 400', 400, { error: 'slow_down' }, 'not-redeemed', 'slow_down'],
    [
      'incorrect_client_credentials in a 200',
      200,
      { error: 'incorrect_client_credentials' },
      'configuration',
      'incorrect_client_credentials',
    ],
    ['invalid_client', 401, { error: 'invalid_client' }, 'configuration', 'invalid_client'],
    ['invalid_client at 400', 400, { error: 'invalid_client' }, 'configuration', 'invalid_client'],
    ['unauthorized_client', 400, { error: 'unauthorized_client' }, 'configuration', 'unauthorized_client'],
    ['invalid_request', 400, { error: 'invalid_request' }, 'configuration', 'invalid_request'],
    ['invalid_scope', 400, { error: 'invalid_scope' }, 'configuration', 'invalid_scope'],
    ['unsupported_grant_type', 400, { error: 'unsupported_grant_type' }, 'configuration', 'unsupported_grant_type'],
    ['an unknown error', 400, { error: 'application_suspended' }, 'configuration', 'application_suspended'],
    ['an error of no text', 400, { error: { code: 'invalid_grant' } }, 'configuration', 'unknown_error'],
    ['400 without a code', 400, {}, 'configuration', 'http_400'],
    ['400 with tokens', 400, OK, 'configuration', 'http_400'],
    ['401 without a code', 401, 'Unauthorized', 'configuration', 'http_401'],
    ['403 without a code', 403, '<html>', 'configuration', 'http_403'],
    ['404', 404, 'Not Found', 'configuration', 'http_404'],
    ['405', 405, '', 'configuration', 'http_405'],
    ['421', 421, '', 'configuration', 'http_421'],
    ['301', 301, '', 'configuration', 'http_301'],
    ['302 with tokens', 302, OK, 'configuration', 'http_302'],
    ['307 with an error', 307, { error: 'invalid_grant' }, 'configuration', 'http_307'],
    ['308', 308, '', 'configuration', 'http_308'],
    ['408', 408, '', 'ambiguous', 'http_408'],
    ['429', 429, '', 'not-redeemed', 'http_429'],
    ['429 with an error', 429, { error: 'invalid_grant' }, 'not-redeemed', 'http_429'],
    ['503', 503, '', 'not-redeemed', 'http_503'],
    ['503 with an error', 503, { error: 'invalid_grant' }, 'not-redeemed', 'http_503'],
    ['500', 500, '', 'ambiguous', 'http_500'],
    ['500 with an error', 500, { error: 'invalid_grant' }, 'ambiguous', 'http_500'],
    ['500 with tokens', 500, OK, 'ambiguous', 'http_500'],
    ['502', 502, '<html>Bad Gateway</html>', 'ambiguous', 'http_502'],
    ['504', 504, '', 'ambiguous', 'http_504'],
    ['temporarily_unavailable', 400, { error: 'temporarily_unavailable' }, 'not-redeemed', 'temporarily_unavailable'],
    ['an unreadable body', 200, '<html>Sign in</html>', 'ambiguous', 'UNREADABLE_ANSWER'],
    ['a cut body', 200, '{"access_token":"a","refr', 'ambiguous', 'UNREADABLE_ANSWER'],
    ['an empty body', 200, '', 'ambiguous', 'UNREADABLE_ANSWER'],
    ['204', 204, '', 'ambiguous', 'UNREADABLE_ANSWER'],
    ['an empty object', 200, {}, 'ambiguous', 'UNREADABLE_ANSWER'],
    ['an array', 200, [OK], 'ambiguous', 'UNREADABLE_ANSWER'],
    ['null', 200, 'null', 'ambiguous', 'UNREADABLE_ANSWER'],
    ['a number', 200, '7', 'ambiguous', 'UNREADABLE_ANSWER'],
    ['a text', 200, '"access_token"', 'ambiguous', 'UNREADABLE_ANSWER'],
    ['no access token', 200, { refresh_token: 'r' }, 'ambiguous', 'UNREADABLE_ANSWER'],
    ['an empty access token', 200, { access_token: '' }, 'ambiguous', 'UNREADABLE_ANSWER'],
    ['an access token of no text', 200, { access_token: { value: 'a' } }, 'ambiguous', 'UNREADABLE_ANSWER'],
  ])('is classified by status and code: %s', (_, status, body, kind, code) => {
    expect(answer(status, body)).toEqual({ kind, code });
  });

  it('is read from a form too', () => {
    const body = 'error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect+or+expired.';
    expect(answer(200, body, FORM_TYPE)).toEqual({ kind: 'terminal', code: 'bad_refresh_token' });
    expect(answer(200, '<html>', FORM_TYPE)).toEqual({ kind: 'ambiguous', code: 'UNREADABLE_ANSWER' });
    expect(answer(200, '', FORM_TYPE)).toEqual({ kind: 'ambiguous', code: 'UNREADABLE_ANSWER' });
  });

  it.each([
    ['a token', ECHOED_TOKEN],
    ['a sentence with a token', `invalid_grant for ${ECHOED_TOKEN}`],
    ['a token in lower case', 'e72e16c7e42f292c6912e7710c838347ae178b4a'],
    ['upper case', 'INVALID_GRANT'],
    ['a text longer than any code', 'a'.repeat(65)],
    ['a code and a line break', 'invalid_grant\n'],
    ['a list', [ECHOED_TOKEN]],
    ['a number', 400],
    ['true', true],
  ])('never repeats an error that does not look like a code: %s', (_, error) => {
    for (const status of [200, 400, 401]) {
      const classified = answer(status, { error, error_description: ECHOED_TOKEN, refresh_token: ECHOED_TOKEN });
      expect(classified).toEqual({ kind: 'configuration', code: 'unknown_error' });
    }
  });

  it.each(['error', 'error_description', 'error_uri', 'message', 'access_token'])(
    'holds nothing of the body beyond the code: %s',
    (field) => {
      for (const status of [301, 400, 401, 403, 404, 408, 429, 500, 503]) {
        expect(JSON.stringify(answer(status, { [field]: ECHOED_TOKEN }))).not.toContain('ghr_');
        expect(JSON.stringify(answer(status, `${field}=${ECHOED_TOKEN}`, FORM_TYPE))).not.toContain('ghr_');
      }
    },
  );

  it('is ambiguous when the answer is lost, not redeemed when the request was not sent', () => {
    expect(classifyTokenAnswer({ kind: 'lost', code: 'TIMEOUT' })).toEqual({ kind: 'ambiguous', code: 'TIMEOUT' });
    expect(classifyTokenAnswer({ kind: 'not-sent', code: 'ECONNREFUSED' })).toEqual({
      kind: 'not-redeemed',
      code: 'ECONNREFUSED',
    });
  });
});

describe('A page', () => {
  const LINK = 'href="/login?x=1&access_token=stolen&refresh_token=stolen&error=invalid_grant"';
  const PAGES = [
    `<!DOCTYPE html><html><a ${LINK}>Log in</a></html>`,
    `<a ${LINK}>`,
    `\uFEFF\n<a ${LINK}>`,
    `Please follow &access_token=stolen&error=invalid_grant`,
    `x&access_token=stolen<br>`,
    `access_token=stolen\nrefresh_token=stolen`,
    `error=invalid_grant the token is gone`,
    'https://sso.example/login?return=x&access_token=stolen&error=invalid_grant',
    '/login?x&error=invalid_grant',
  ];

  it.each(PAGES)('is no form: %j', (page) => {
    for (const type of [FORM_TYPE, JSON_TYPE, { 'content-type': 'text/html' }]) {
      expect(answer(200, page, type)).toEqual({ kind: 'ambiguous', code: 'UNREADABLE_ANSWER' });
      expect(answer(400, page, type)).toEqual({ kind: 'configuration', code: 'http_400' });
      expect(answer(502, page, type)).toEqual({ kind: 'ambiguous', code: 'http_502' });
    }
  });

  it('ends no grant, whatever the options name', () => {
    const rules = { terminalErrorCodes: ['http_400', 'http_500', 'invalid_grant'] };
    expect(answer(400, '<html>', JSON_TYPE, rules)).toEqual({ kind: 'configuration', code: 'http_400' });
    expect(answer(500, ' <html>', JSON_TYPE, rules)).toEqual({ kind: 'ambiguous', code: 'http_500' });
    const prose = 'Client sent an HTTP request to an HTTPS server.';
    expect(answer(400, prose, JSON_TYPE, rules)).toEqual({ kind: 'configuration', code: 'http_400' });
    expect(answer(500, 'upstream connect error', {}, rules)).toEqual({ kind: 'ambiguous', code: 'http_500' });
  });
});

describe('A code of terminalErrorCodes', () => {
  const rules = { terminalErrorCodes: ['invalid_request', 'http_400', 'http_500', 'TOKEN_GONE', '40029'] };

  it.each<[string, number, unknown, string]>([
    ['an error at 400', 400, { error: 'invalid_request' }, 'invalid_request'],
    ['an error at 401', 401, { error: 'invalid_request' }, 'invalid_request'],
    ['an error in a 200', 200, { error: 'invalid_request' }, 'invalid_request'],
    ['an error that is a number, as WeChat', 400, { error: 40029 }, '40029'],
    ['an error that is no OAuth code', 400, { error: 'TOKEN_GONE' }, 'TOKEN_GONE'],
    ['a 400 without an error, as HubSpot', 400, { status: 'BAD_REFRESH_TOKEN', message: 'x' }, 'http_400'],
    ['a 400 without an error, as Strava', 400, { message: 'Bad Request', errors: [{ code: 'invalid' }] }, 'http_400'],
    ['a 400 without a body', 400, '', 'http_400'],
    ['a 500 that the options name', 500, { message: 'x' }, 'http_500'],
    ['an error at a 500', 500, { error: 'invalid_request' }, 'invalid_request'],
  ])('ends the grant: %s', (_, status, body, code) => {
    expect(answer(status, body, JSON_TYPE, rules)).toEqual({ kind: 'terminal', code });
  });

  it.each<[string, number, unknown, RefreshAnswer]>([
    ['another error at 400', 400, { error: 'invalid_scope' }, { kind: 'configuration', code: 'invalid_scope' }],
    ['a 401 without an error', 401, '', { kind: 'configuration', code: 'http_401' }],
    ['a 502', 502, '', { kind: 'ambiguous', code: 'http_502' }],
    ['a 503 with the error', 503, { error: 'invalid_request' }, { kind: 'not-redeemed', code: 'http_503' }],
    ['a 429 with the error', 429, { error: 'invalid_request' }, { kind: 'not-redeemed', code: 'http_429' }],
    ['a 408 with the error', 408, { error: 'invalid_request' }, { kind: 'ambiguous', code: 'http_408' }],
    ['an error that repeats a token', 400, { error: ECHOED_TOKEN }, { kind: 'configuration', code: 'unknown_error' }],
  ])('does not end it: %s', (_, status, body, expected) => {
    expect(answer(status, body, JSON_TYPE, rules)).toEqual(expected);
  });

  it('leaves the codes that end the grant at every provider', () => {
    expect(answer(400, { error: 'invalid_grant' }, JSON_TYPE, rules)).toMatchObject({ kind: 'terminal' });
    expect(answer(500, { error: 'invalid_grant' }, JSON_TYPE, rules)).toMatchObject({ kind: 'ambiguous' });
    const named = { terminalErrorCodes: ['invalid_grant'] };
    expect(answer(500, { error: 'invalid_grant' }, JSON_TYPE, named)).toMatchObject({ kind: 'terminal' });
  });
});

describe('readAnswer', () => {
  function read(readAnswer: unknown, body: unknown = OK, status = 200): RefreshAnswer {
    return answer(status, body, JSON_TYPE, { readAnswer: readAnswer as ReadAnswer });
  }

  it('puts a nested pair straight', () => {
    const slack = { ok: true, access_token: 'xoxb-bot', authed_user: { access_token: 'xoxe', refresh_token: 'r' } };
    expect(read(({ authed_user }: typeof slack) => authed_user, slack)).toMatchObject({
      kind: 'success',
      tokens: { accessToken: 'xoxe', refreshToken: 'r' },
    });
    const nested = { data: { access_token: 'a', expires_in: '60' } };
    expect(read(({ data }: typeof nested) => data, nested)).toMatchObject({
      kind: 'success',
      tokens: { accessToken: 'a', accessTokenExpiresIn: 60 },
    });
  });

  it('reads a refresh of Slack, whose pair is at the top level, and its login by one function', () => {
    const readAnswer = (fields: Record<string, unknown>) => ({
      ...fields,
      ...(fields.authed_user as object | undefined),
    });
    const pair = { access_token: 'xoxe.xoxp', refresh_token: 'xoxe-1', expires_in: 43200 };
    for (const body of [
      { ok: true, ...pair },
      { ok: true, access_token: 'xoxb', authed_user: pair },
    ]) {
      expect(read(readAnswer, body)).toMatchObject({ kind: 'success', tokens: { accessToken: 'xoxe.xoxp' } });
    }
    expect(read(readAnswer, { ok: false, error: 'invalid_refresh_token' })).toMatchObject({ kind: 'terminal' });
  });

  it('gives a lifetime its usual name', () => {
    const quickBooks = { ...OK, x_refresh_token_expires_in: 8726400 };
    const readAnswer = (fields: typeof quickBooks) => ({
      ...fields,
      refresh_token_expires_in: fields.x_refresh_token_expires_in,
    });
    expect(read(readAnswer, quickBooks)).toMatchObject({ tokens: { refreshTokenExpiresIn: 8726400 } });
  });

  it('reads failures too', () => {
    const hubSpot = { status: 'BAD_REFRESH_TOKEN', message: 'missing or unknown refresh token' };
    const readAnswer = ({ status }: typeof hubSpot) => ({ error: status === 'BAD_REFRESH_TOKEN' && 'invalid_grant' });
    expect(read(readAnswer, hubSpot, 400)).toEqual({ kind: 'terminal', code: 'invalid_grant' });
  });

  it('gets the fields of a form, and nothing of a page', () => {
    const seen: unknown[] = [];
    const readAnswer = (fields: object) => (seen.push(fields), fields);
    expect(read(readAnswer, 'access_token=a&x=1')).toMatchObject({ kind: 'success' });
    expect(read(readAnswer, '<html>')).toMatchObject({ kind: 'ambiguous' });
    expect(seen).toEqual([{ access_token: 'a', x: '1' }]);
  });

  it.each<[string, unknown]>([
    [
      'throws',
      () => {
        throw new Error(ECHOED_TOKEN);
      },
    ],
    ['returns nothing', () => undefined],
    ['returns null', () => null],
    ['returns a text', () => ECHOED_TOKEN],
    ['returns a list', () => [OK]],
    ['returns a promise', () => Promise.resolve(OK)],
    ['returns a promise that rejects', () => Promise.reject(new Error(ECHOED_TOKEN))],
    [
      'returns an object that throws',
      () => ({
        get access_token() {
          throw new Error(ECHOED_TOKEN);
        },
      }),
    ],
  ])('leaves the outcome unknown when it %s', (_, readAnswer) => {
    for (const status of [200, 400, 401]) {
      expect(read(readAnswer, OK, status)).toEqual({ kind: 'ambiguous', code: 'READ_ANSWER_FAILED' });
    }
  });

  it('leaves the outcome unknown when it finds neither a token nor an error', () => {
    expect(read(() => ({}))).toEqual({ kind: 'ambiguous', code: 'UNREADABLE_ANSWER' });
    expect(read(() => ({ access_token: 7 }))).toEqual({ kind: 'ambiguous', code: 'UNREADABLE_ANSWER' });
  });
});

describe('A pause that the provider asks for', () => {
  it.each([
    ['429', 429, '', 'http_429'],
    ['503', 503, '', 'http_503'],
    ['403', 403, '<html>', 'RATE_LIMITED'],
    ['403 with an error', 403, { error: 'invalid_grant' }, 'RATE_LIMITED'],
    ['temporarily_unavailable', 400, { error: 'temporarily_unavailable' }, 'temporarily_unavailable'],
  ])('comes with an answer that leaves the refresh token as it was: %s', (_, status, body, code) => {
    expect(answer(status, body, { ...JSON_TYPE, 'retry-after': '7' })).toEqual({
      kind: 'not-redeemed',
      code,
      retryAfterMs: 7000,
    });
  });

  it('changes nothing in the class of any other answer', () => {
    const headers = { ...JSON_TYPE, 'retry-after': '7' };
    expect(answer(200, OK, headers).kind).toBe('success');
    expect(answer(400, { error: 'invalid_grant' }, headers)).toEqual({ kind: 'terminal', code: 'invalid_grant' });
    expect(answer(500, '', headers)).toEqual({ kind: 'ambiguous', code: 'http_500' });
    expect(answer(404, '', headers)).toEqual({ kind: 'configuration', code: 'http_404' });
  });
});
