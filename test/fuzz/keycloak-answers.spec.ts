import assert from 'node:assert/strict';

import { afterAll, afterEach, beforeAll, beforeEach, describe, it, jest } from '@jest/globals';
import fc from 'fast-check';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';

import {
  KeycloakMisconfiguredError,
  KeycloakSessionExpiredError,
  KeycloakUnavailableError,
  ReauthenticationRequiredError,
} from '../../src/index.js';
import { KeycloakBroker } from '../../src/keycloak/keycloak-broker.js';
import { KeycloakClient } from '../../src/keycloak/keycloak-client.js';
import { KeycloakRealm } from '../../src/keycloak/keycloak-realm.js';
import { KeycloakTokenVerifier } from '../../src/keycloak/keycloak-token-verifier.js';
import { KeycloakSettings } from '../../src/keycloak/keycloak.options.js';
import { everythingPrinted } from '../support/secrets.js';
import { FUZZ } from './fuzz.js';

// The cases use node:assert, because `expect` takes a third of the time of a case.
jest.setTimeout(Math.max(60_000, FUZZ.numRuns * 20));

const SERVER = 'https://keycloak.example';
const PUBLIC_REALM = 'https://login.example/auth/realms/app';
/** The secret that every body contains. No error may quote it. It does not look like an OAuth error code. */
const MARK = 'Hush-Hush';

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

type Json = Record<string, unknown>;

const status = fc.oneof(
  fc.constantFrom(200, 201, 204, 301, 302, 400, 401, 403, 404, 408, 425, 429, 500, 502, 503, 504),
  fc.integer({ min: 200, max: 599 }),
);
const headers = fc.record(
  {
    'content-type': fc.constantFrom('application/json', 'text/html', 'text/plain', 'application/x-www-form-urlencoded'),
    'retry-after': fc.oneof(fc.integer().map(String), fc.constantFrom('soon', 'Wed, 21 Oct 2015 07:28:00 GMT')),
    'www-authenticate': fc.constantFrom('Basic', 'Bearer error="invalid_token"'),
  },
  { requiredKeys: [] },
);
const text = fc.oneof(fc.string(), fc.constantFrom('', MARK, `${MARK}-token`, 'a'.repeat(500)));
/** Small, because an object of fast-check takes longer than a whole case if it may be deep. */
const object = fc.object({ maxDepth: 1, maxKeys: 2 });
const value: fc.Arbitrary<unknown> = fc.oneof(
  text,
  fc.constant(null),
  fc.boolean(),
  fc.double(),
  fc.array(text),
  object,
);
const errorCode = fc.oneof(
  fc.constantFrom('invalid_grant', 'invalid_client', 'unauthorized_client', 'server_error', 'temporarily_unavailable'),
  value,
);
const errorMessage = fc.oneof(
  fc.constantFrom(
    'Unable to refresh token',
    'Invalid token.',
    'No token stored for user ada',
    'User [7] is not associated with identity provider [acme].',
    'Identity Provider [acme] does not support this operation.',
  ),
  value,
);
const fields: fc.Arbitrary<Json> = fc.record(
  {
    access_token: value,
    refresh_token: value,
    expires_in: value,
    accessTokenExpiration: value,
    active: value,
    error: errorCode,
    error_description: fc.oneof(fc.constantFrom('Token is not active', 'Incorrect redirect_uri'), value),
    errorMessage,
    keys: fc.oneof(value, fc.array(fc.record({ kty: value, kid: value, n: value, e: value }, { requiredKeys: [] }))),
    note: fc.constant(MARK),
  },
  { requiredKeys: ['note'] },
);
const formBody = fields.map((each) =>
  new URLSearchParams(
    Object.entries(each).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  ).toString(),
);
const json = fields.map((each) => JSON.stringify(each));
/** A page. It can contain whole answers, as the link of a login form does. */
const page = fc
  .tuple(
    fc.constantFrom('<!DOCTYPE html>', ' \n<html>', '\uFEFF<html>', '<?xml version="1.0"?>'),
    fc.oneof(formBody, json, text),
  )
  .map(([start, inside]) => `${start}<a href="/login?${MARK}&${inside}&error=invalid_grant&access_token=${MARK}&x=">`);
const cut = fc.tuple(fc.oneof(json, formBody), fc.nat(400)).map(([whole, end]) => whole.slice(0, end));
const body = fc.oneof(json, json, formBody, page, cut, text);

function answersOf(bodies: fc.Arbitrary<string>): fc.Arbitrary<Answer> {
  return fc.record({ status, headers, body: bodies });
}

/** The metadata of the realm, as Keycloak names them. */
const METADATA = metadataBelow(`${SERVER}/realms/app`);

function metadataBelow(url: string): Record<string, string> {
  return {
    issuer: url,
    token_endpoint: `${url}/token`,
    userinfo_endpoint: `${url}/userinfo`,
    introspection_endpoint: `${url}/introspect`,
    end_session_endpoint: `${url}/logout`,
    jwks_uri: `${url}/certs`,
  };
}

let next: Answer;
let discovery: Answer;
let asked: string[];
let fetches: jest.SpiedFunction<typeof fetch>;
const { stackTraceLimit } = Error;

beforeAll(() => {
  Error.stackTraceLimit = 0; // Jest maps the stack of every error to its source, and a case can make dozens of errors
  fetches = jest.spyOn(globalThis, 'fetch').mockImplementation((url) => {
    asked.push(url as string);
    const { status, headers, body } = (url as string).includes('.well-known') ? discovery : next;
    const hasNoBody = [204, 205, 304].includes(status);
    return Promise.resolve(new Response(hasNoBody ? null : body, { status, headers }));
  });
});

afterAll(() => {
  Error.stackTraceLimit = stackTraceLimit;
  fetches.mockRestore();
});

beforeEach(() => {
  asked = [];
  discovery = { status: 200, headers: {}, body: JSON.stringify(METADATA) };
});

function newClient(serverUrl = SERVER, issuer?: string): KeycloakClient {
  const client = { realm: 'app', clientId: 'backend', clientSecret: 'backend-secret' };
  return new KeycloakClient(new KeycloakRealm(Object.assign(new KeycloakSettings(), client, { serverUrl, issuer })));
}

async function outcomeOf<T>(call: Promise<T>): Promise<{ value: T } | { error: unknown }> {
  return call.then(
    (resolved) => ({ value: resolved }),
    (error: unknown) => ({ error }),
  );
}

/** The fields of the body, if it is JSON as a whole. */
function jsonOf({ body: whole }: Answer): Json | undefined {
  try {
    const parsed: unknown = JSON.parse(whole.replace(/^\uFEFF/, '').trim());
    return typeof parsed === 'object' && parsed !== null ? (parsed as Json) : undefined;
  } catch {
    return undefined;
  }
}

/** The fields of the body, if it is JSON or a form as a whole. */
function fieldsOf(answer: Answer): Json | undefined {
  if (isPage(answer)) return undefined;
  const parsed = jsonOf(answer);
  if (parsed) return parsed;
  const form = answer.body.replace(/^\uFEFF/, '').trim();
  const isForm = /(^|&)(access_token|error)=/.test(form) && !/[<\s]/.test(form);
  return isForm ? Object.fromEntries(new URLSearchParams(form)) : undefined;
}

function isPage({ body: whole }: Answer): boolean {
  return /^[\uFEFF\s]*</.test(whole);
}

function isNonEmpty(token: unknown): token is string {
  return typeof token === 'string' && token !== '';
}

/** Whether Keycloak itself answered: 2xx, and 4xx that a server in front of it does not send for it. */
function isVerdict({ status: code }: Answer): boolean {
  return code >= 400 && code < 500 && ![408, 425, 429].includes(code);
}

function hasBody({ status: code }: Answer): boolean {
  return ![204, 205, 304].includes(code);
}

function expectDiscreet(error: unknown): void {
  const printed = everythingPrinted(error);
  assert.ok(!printed.includes(MARK), printed);
  assert.ok(!printed.includes('backend-secret'), printed);
}

describe('Whatever the token endpoint answers', () => {
  it('a pair is never dropped, and only a verdict of Keycloak ends a grant', async () => {
    const client = newClient();
    await client.metadata();
    await fc.assert(
      fc.asyncProperty(answersOf(body), async (answer) => {
        next = answer;
        const redemption = await client.redeem('token');
        const known = hasBody(answer) ? fieldsOf(answer) : undefined;
        const isIssued = answer.status < 300 && isNonEmpty(known?.access_token);
        assert.equal(redemption.kind === 'success', isIssued);
        if (redemption.kind === 'success') {
          assert.equal(redemption.tokens.accessToken, known?.access_token);
          const refreshToken = isNonEmpty(known?.refresh_token) ? known.refresh_token : undefined;
          assert.equal(redemption.tokens.refreshToken, refreshToken);
          return;
        }
        if (redemption.kind === 'terminal') {
          assert.equal(isVerdict(answer), true);
          assert.equal(known?.error, 'invalid_grant');
        }
        if (answer.status >= 500 || isPage(answer)) assert.notEqual(redemption.kind, 'terminal');
        // A second request is safe only if Keycloak certainly did not serve the first one.
        if (redemption.kind === 'not-redeemed') {
          assert.equal([425, 429, 503].includes(answer.status) || known?.error === 'temporarily_unavailable', true);
        }
        expectDiscreet(redemption);
        const failure = await outcomeOf(client.token('refresh_token', { refresh_token: 'token' }));
        assert.ok('error' in failure);
        assert.equal(failure.error instanceof KeycloakSessionExpiredError, redemption.kind === 'terminal');
        expectDiscreet(failure.error);
      }),
      FUZZ,
    );
  });
});

describe('Whatever the introspection answers', () => {
  it('a token is active or not only by the word of Keycloak', async () => {
    const client = newClient();
    await client.metadata();
    await fc.assert(
      fc.asyncProperty(answersOf(body), async (answer) => {
        next = answer;
        const outcome = await outcomeOf(client.introspect('token'));
        const known = hasBody(answer) ? fieldsOf(answer) : undefined;
        const isSaid = answer.status < 300 && typeof known?.active === 'boolean';
        assert.equal('value' in outcome, isSaid);
        if ('value' in outcome) {
          assert.equal(outcome.value.active, known?.active);
          return;
        }
        if (outcome.error instanceof KeycloakSessionExpiredError) {
          assert.equal(isVerdict(answer) && known?.error === 'invalid_grant', true);
        }
        expectDiscreet(outcome.error);
      }),
      FUZZ,
    );
  });
});

describe('Whatever the user info answers', () => {
  it('a session is over only by a 401 that is no page', async () => {
    const client = newClient();
    await client.metadata();
    await fc.assert(
      fc.asyncProperty(answersOf(body), async (answer) => {
        next = answer;
        const outcome = await outcomeOf(client.userInfo('token'));
        if ('value' in outcome) {
          assert.ok(answer.status < 300);
          return;
        }
        const isOver = outcome.error instanceof KeycloakSessionExpiredError;
        if (answer.status >= 500 || isPage(answer)) assert.equal(isOver, false);
        if (isOver) assert.equal(isVerdict(answer), true);
        expectDiscreet(outcome.error);
      }),
      FUZZ,
    );
  });
});

describe('Whatever the broker answers', () => {
  it('a pair is never dropped, nothing is invented, and no outage ends a session', async () => {
    const broker = new KeycloakBroker(newClient());
    const key = { keycloakUserId: 'ada', idp: 'acme' };
    await fc.assert(
      fc.asyncProperty(answersOf(body), async (answer) => {
        next = answer;
        const outcome = await outcomeOf(broker.storedTokens(key, 'token'));
        const known = hasBody(answer) ? fieldsOf(answer) : undefined;
        const isStored = answer.status < 300 && isNonEmpty(known?.access_token);
        if ('value' in outcome) {
          assert.equal(outcome.value !== null, isStored);
          if (outcome.value === null) {
            assert.equal(isVerdict(answer), true);
            return;
          }
          assert.equal(outcome.value.accessToken, known?.access_token);
          assert.equal(outcome.value.refreshToken, isNonEmpty(known?.refresh_token) ? known.refresh_token : '');
          for (const time of ['issuedAt', 'accessTokenExpiresAt', 'refreshTokenExpiresAt'] as const) {
            assert.equal(Number.isFinite(outcome.value[time]), true);
          }
          return;
        }
        assert.equal(isStored, false);
        const { error } = outcome;
        if (error instanceof ReauthenticationRequiredError) {
          assert.equal(answer.status, 502);
          assert.equal(jsonOf(answer)?.errorMessage, 'Unable to refresh token');
        } else if (error instanceof KeycloakSessionExpiredError) {
          assert.equal(isVerdict(answer) && !isPage(answer), true);
        } else {
          assert.equal(error instanceof KeycloakUnavailableError || error instanceof KeycloakMisconfiguredError, true);
        }
        expectDiscreet(error);
      }),
      FUZZ,
    );
  });
});

describe('Whatever the metadata are', () => {
  const path = fc.oneof(
    fc.constantFrom(
      '/token',
      '/../other',
      '/%2e%2e/other',
      '/..\\other',
      '//evil.example/',
      '/@evil.example',
      '?a=b',
      '#a',
      '',
    ),
    fc.webPath(),
    text,
  );
  const server = fc.constantFrom(SERVER, 'http://keycloak:8080');
  /** Where an endpoint can be: at the issuer or the server, with other schemes, ports and encodings, and elsewhere. */
  const realm = fc.constantFrom(
    PUBLIC_REALM,
    'http://login.example/auth/realms/app',
    'https://login.example:8443/auth/realms/app',
    'http://login.example:8080/auth/realms/app',
    'https://login.example/%61uth/realms/ap%70',
    'https://user:pass@login.example/auth/realms/app',
    `${SERVER}/realms/app`,
    'http://keycloak.example/realms/app',
    'http://keycloak:8080/realms/app',
    'http://keycloak:8081/realms/app',
    'http://evil.example/auth/realms/app',
    'http://user:pass@keycloak:8080/realms/app',
  );
  const endpoint = fc.oneof(
    fc.tuple(realm, path).map((parts) => parts.join('')),
    fc.webUrl({ validSchemes: ['http', 'https'] }),
    fc.constantFrom('ftp://keycloak.example/', 'ftp://login.example/auth/realms/app/token', '/relative'),
    value,
  );
  const named = fc.record(
    {
      issuer: fc.oneof({ weight: 5, arbitrary: fc.constant<unknown>(PUBLIC_REALM) }, { weight: 1, arbitrary: value }),
      token_endpoint: endpoint,
      userinfo_endpoint: endpoint,
      introspection_endpoint: endpoint,
      end_session_endpoint: endpoint,
      jwks_uri: endpoint,
    },
    { requiredKeys: [] },
  );
  const onlyToken = endpoint.map((each) => ({ ...metadataBelow(PUBLIC_REALM), token_endpoint: each }));
  const metadata = fc.oneof(named, onlyToken, onlyToken).map((each) => JSON.stringify({ ...each, note: MARK }));
  /** One case of each kind of endpoint that gets a request. A run with few cases may make none of a kind. */
  const examples = (['/token', '/token', '/elsewhere'] as const).map((end, position): [string, Answer] => [
    position === 0 ? 'http://keycloak:8080' : SERVER,
    {
      status: 200,
      headers: {},
      body: JSON.stringify({
        ...metadataBelow(PUBLIC_REALM),
        token_endpoint: end === '/token' ? `${PUBLIC_REALM}/token` : 'https://login.example/elsewhere',
      }),
    },
  ]);
  let served: string[];

  it('the client secret goes only below serverUrl, or encrypted to the endpoint that the metadata name', async () => {
    served = [];
    await fc.assert(
      fc.asyncProperty(server, answersOf(fc.oneof(metadata, metadata, body)), async (serverUrl, answer) => {
        discovery = { ...answer, status: answer.status % 3 === 0 ? answer.status : 200 };
        const client = newClient(serverUrl, PUBLIC_REALM);
        const outcome = await outcomeOf(client.metadata());
        if ('error' in outcome) {
          const { error } = outcome;
          assert.equal(error instanceof KeycloakUnavailableError || error instanceof KeycloakMisconfiguredError, true);
          expectDiscreet(error);
          return;
        }
        assert.equal(discovery.status, 200);
        next = { status: 503, headers: {}, body: '' };
        asked = [];
        await client.redeem('token');
        assert.equal(asked.length, 1);
        const sent = new URL(asked[0] ?? '');
        served.push(`${sent.protocol}//${sent.hostname}`);
        assert.equal(sent.username + sent.password, '');
        const given = new URL(String(jsonOf(discovery)?.token_endpoint));
        const isBelowIssuer =
          given.hostname === 'login.example' && /^\/auth\/realms\/app\//.test(decoded(given.pathname));
        if (isBelowIssuer) assert.ok(sent.href.startsWith(`${serverUrl}/realms/app/`), sent.href);
        else assert.equal(sent.href, given.href);
        assert.ok(sent.protocol === 'https:' || sent.origin === serverUrl, sent.href);
      }),
      { ...FUZZ, examples },
    );
    // Each kind of endpoint was there.
    for (const host of ['http://keycloak', 'https://keycloak.example', 'https://login.example']) {
      assert.ok(served.includes(host), host);
    }
  });
});

function decoded(pathname: string): string {
  return pathname
    .split('/')
    .map((segment) => {
      try {
        return decodeURIComponent(segment).replaceAll('/', '%2F');
      } catch {
        return segment;
      }
    })
    .join('/');
}

describe('Whatever the keys of the realm are', () => {
  it('old keys are trusted for longer only by a set with a good key, and every failure is an error of the module', async () => {
    const { publicKey, privateKey } = await generateKeyPair('ES256');
    const key = { ...(await exportJWK(publicKey)), kid: 'a', alg: 'ES256', use: 'sig' };
    const other = { ...key, kid: 'b' };
    const good = { status: 200, headers: {}, body: JSON.stringify({ keys: [key] }) };
    const token = await new SignJWT({ typ: 'Bearer', sub: 'ada' })
      .setProtectedHeader({ alg: 'ES256', kid: 'a' })
      .setIssuer(`${SERVER}/realms/app`)
      .setAudience('backend')
      .setExpirationTime('1d')
      .sign(privateKey);
    // No good key can arise from these values: the coordinates are not of one point, and the moduli are too short.
    const coordinate = fc.constantFrom<unknown>('AAAA', '!!', '', 7, null, [key.y], key.x);
    const broken = fc.record(
      {
        kty: fc.constantFrom<unknown>('EC', 'RSA', 'OKP', 'oct', 'x', 7),
        kid: fc.constant('a'),
        alg: fc.constantFrom('ES256', 'RS256', 'EdDSA', 'HS256'),
        use: fc.constantFrom('sig', 'enc'),
        crv: fc.constantFrom('P-256', 'P-384', 'Ed448'),
        x: coordinate,
        y: coordinate,
        n: coordinate,
        e: coordinate,
        k: coordinate,
        key_ops: fc.constantFrom<unknown>(['verify'], ['sign'], 'verify', []),
        ext: fc.constantFrom<unknown>(true, 'yes'),
      },
      { requiredKeys: ['kty', 'kid'] },
    );
    const member = fc.oneof(fc.constantFrom<unknown>(key, other), broken, broken, object, text);
    const sets = fc.oneof(
      body,
      fc.array(member, { maxLength: 4 }).map((keys) => JSON.stringify({ keys, note: MARK })),
      fc.array(member, { maxLength: 4 }).map((keys) => JSON.stringify({ keys, note: MARK })),
    );
    const client = newClient();
    await client.metadata();
    const start = performance.now();
    let passed = 0;
    const clock = jest.spyOn(performance, 'now').mockImplementation(() => start + passed);
    const seen = { renewed: 0, replaced: 0, kept: 0 };
    try {
      await fc.assert(
        fc.asyncProperty(answersOf(sets), async (given) => {
          const answer = given.status % 3 === 0 ? given : { ...given, status: 200 };
          const verifier = new KeycloakTokenVerifier(client);
          passed = 0;
          next = good;
          await verifier.verify(token);
          passed = 3_600_001;
          next = answer;
          const renewed = await outcomeOf(verifier.verify(token));
          const keys = answer.status === 200 ? jsonOf(answer)?.keys : undefined;
          const members = new Set(Array.isArray(keys) ? keys.map((each) => JSON.stringify(each)) : []);
          const hasKey = members.has(JSON.stringify(key));
          const hasOther = members.has(JSON.stringify(other));
          assert.equal('value' in renewed, hasKey);
          // An hour and 6 s after the first keys Keycloak is away: only a renewed set may serve.
          passed += 6000;
          next = { status: 503, headers: {}, body: '' };
          const later = await outcomeOf(verifier.verify(token));
          assert.equal('value' in later, hasKey);
          seen[hasKey ? 'renewed' : hasOther ? 'replaced' : 'kept']++;
          for (const outcome of [renewed, later]) {
            if ('value' in outcome) continue;
            const { error } = outcome;
            // By another good key the token is not good. Without a good key the verifier does not know.
            const isRefused = answer.status !== 200 && error instanceof KeycloakMisconfiguredError;
            const errorClass = hasOther ? KeycloakSessionExpiredError : KeycloakUnavailableError;
            assert.ok(error instanceof errorClass || isRefused, String(error));
            expectDiscreet(error);
          }
        }),
        FUZZ,
      );
    } finally {
      clock.mockRestore();
    }
    assert.ok(Math.min(...Object.values(seen)) > FUZZ.numRuns / 100, JSON.stringify(seen));
  });
});

afterEach(() => {
  fetches.mockClear();
});
