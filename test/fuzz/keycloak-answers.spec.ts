import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
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
const value: fc.Arbitrary<unknown> = fc.oneof(
  text,
  fc.constant(null),
  fc.boolean(),
  fc.double(),
  fc.array(text),
  fc.object(),
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

beforeAll(() => {
  fetches = jest.spyOn(globalThis, 'fetch').mockImplementation((url) => {
    asked.push(url as string);
    const { status, headers, body } = (url as string).includes('.well-known') ? discovery : next;
    const hasNoBody = [204, 205, 304].includes(status);
    return Promise.resolve(new Response(hasNoBody ? null : body, { status, headers }));
  });
});

afterAll(() => {
  fetches.mockRestore();
});

beforeEach(() => {
  asked = [];
  discovery = { status: 200, headers: {}, body: JSON.stringify(METADATA) };
});

function newClient(issuer?: string): KeycloakClient {
  const client = { realm: 'app', clientId: 'backend', clientSecret: 'backend-secret' };
  return new KeycloakClient(
    new KeycloakRealm(Object.assign(new KeycloakSettings(), client, { serverUrl: SERVER, issuer })),
  );
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
  expect(printed).not.toContain(MARK);
  expect(printed).not.toContain('backend-secret');
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
        expect(redemption.kind === 'success').toBe(isIssued);
        if (redemption.kind === 'success') {
          expect(redemption.tokens.accessToken).toBe(known?.access_token);
          expect(redemption.tokens.refreshToken).toBe(
            isNonEmpty(known?.refresh_token) ? known.refresh_token : undefined,
          );
          return;
        }
        if (redemption.kind === 'terminal') {
          expect(isVerdict(answer)).toBe(true);
          expect(known?.error).toBe('invalid_grant');
        }
        if (answer.status >= 500 || isPage(answer)) expect(redemption.kind).not.toBe('terminal');
        // A second request is safe only if Keycloak certainly did not serve the first one.
        if (redemption.kind === 'not-redeemed') {
          expect([425, 429, 503].includes(answer.status) || known?.error === 'temporarily_unavailable').toBe(true);
        }
        expectDiscreet(redemption);
        const failure = await outcomeOf(client.token('refresh_token', { refresh_token: 'token' }));
        expect(failure).toHaveProperty('error');
        if ('error' in failure) {
          expect(failure.error instanceof KeycloakSessionExpiredError).toBe(redemption.kind === 'terminal');
          expectDiscreet(failure.error);
        }
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
        expect('value' in outcome).toBe(isSaid);
        if ('value' in outcome) {
          expect(outcome.value.active).toBe(known?.active);
          return;
        }
        if (outcome.error instanceof KeycloakSessionExpiredError) {
          expect(isVerdict(answer) && known?.error === 'invalid_grant').toBe(true);
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
          expect(answer.status).toBeLessThan(300);
          return;
        }
        const isOver = outcome.error instanceof KeycloakSessionExpiredError;
        if (answer.status >= 500 || isPage(answer)) expect(isOver).toBe(false);
        if (isOver) expect(isVerdict(answer)).toBe(true);
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
          expect(outcome.value !== null).toBe(isStored);
          if (outcome.value === null) {
            expect(isVerdict(answer)).toBe(true);
            return;
          }
          expect(outcome.value.accessToken).toBe(known?.access_token);
          expect(outcome.value.refreshToken).toBe(isNonEmpty(known?.refresh_token) ? known.refresh_token : '');
          for (const time of ['issuedAt', 'accessTokenExpiresAt', 'refreshTokenExpiresAt'] as const) {
            expect(Number.isFinite(outcome.value[time])).toBe(true);
          }
          return;
        }
        expect(isStored).toBe(false);
        const { error } = outcome;
        if (error instanceof ReauthenticationRequiredError) {
          expect(answer.status).toBe(502);
          expect(jsonOf(answer)?.errorMessage).toBe('Unable to refresh token');
        } else if (error instanceof KeycloakSessionExpiredError) {
          expect(isVerdict(answer) && !isPage(answer)).toBe(true);
        } else {
          expect(error instanceof KeycloakUnavailableError || error instanceof KeycloakMisconfiguredError).toBe(true);
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
  const endpoint = fc.oneof(
    path.map((each) => `${PUBLIC_REALM}${each}`),
    path.map((each) => `${SERVER}/realms/app${each}`),
    fc.webUrl(),
    fc.constantFrom('http://keycloak.example/realms/app/token', 'ftp://keycloak.example/', '/relative'),
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

  it('the client secret goes only to an encrypted endpoint, below serverUrl where it is below the issuer', async () => {
    await fc.assert(
      fc.asyncProperty(answersOf(fc.oneof(metadata, metadata, body)), async (answer) => {
        discovery = { ...answer, status: answer.status % 3 === 0 ? answer.status : 200 };
        const client = newClient(PUBLIC_REALM);
        const outcome = await outcomeOf(client.metadata());
        if ('error' in outcome) {
          const { error } = outcome;
          expect(error instanceof KeycloakUnavailableError || error instanceof KeycloakMisconfiguredError).toBe(true);
          expectDiscreet(error);
          return;
        }
        expect(discovery.status).toBe(200);
        next = { status: 503, headers: {}, body: '' };
        asked = [];
        await client.redeem('token');
        expect(asked).toHaveLength(1);
        const sent = new URL(asked[0] ?? '');
        expect(sent.protocol).toBe('https:');
        expect(sent.href.startsWith(`${PUBLIC_REALM}/`)).toBe(false);
        if (sent.origin === SERVER) return;
        // Every other host is one that the metadata name as it is.
        const given = new URL(String(jsonOf(discovery)?.token_endpoint));
        expect(sent.origin).toBe(given.origin);
      }),
      FUZZ,
    );
  });
});

describe('Whatever the keys of the realm are', () => {
  it('old keys are trusted for longer only by a set of keys', async () => {
    const { publicKey, privateKey } = await generateKeyPair('ES256');
    const key = { ...(await exportJWK(publicKey)), kid: 'a', alg: 'ES256', use: 'sig' };
    const good = { status: 200, headers: {}, body: JSON.stringify({ keys: [key] }) };
    const token = await new SignJWT({ typ: 'Bearer', sub: 'ada' })
      .setProtectedHeader({ alg: 'ES256', kid: 'a' })
      .setIssuer(`${SERVER}/realms/app`)
      .setAudience('backend')
      .setExpirationTime('1d')
      .sign(privateKey);
    const sets = fc.oneof(
      body,
      fc
        .array(fc.oneof(fc.constant(key), fc.constant({ ...key, kid: 'b' }), fc.object(), text))
        .map((keys) => JSON.stringify({ keys, note: MARK })),
    );
    const client = newClient();
    await client.metadata();
    const start = performance.now();
    let passed = 0;
    const clock = jest.spyOn(performance, 'now').mockImplementation(() => start + passed);
    try {
      await fc.assert(
        fc.asyncProperty(answersOf(sets), async (answer) => {
          const verifier = new KeycloakTokenVerifier(client);
          passed = 0;
          next = good;
          await verifier.verify(token);
          passed = 3_600_001;
          next = answer;
          const renewed = await outcomeOf(verifier.verify(token));
          const keys = hasBody(answer) && answer.status === 200 ? jsonOf(answer)?.keys : undefined;
          const isSet =
            Array.isArray(keys) &&
            keys.every((each: unknown) => typeof (each as { kty?: unknown } | null)?.kty === 'string');
          if ('value' in renewed) expect(isSet).toBe(true);
          else expectDiscreet(renewed.error);
          // An hour and 6 s after the first keys Keycloak is away: only a renewed set may serve.
          passed += 6000;
          next = { status: 503, headers: {}, body: '' };
          const later = await outcomeOf(verifier.verify(token));
          expect('value' in later).toBe('value' in renewed);
          if ('error' in later && !isSet) expect(later.error).toBeInstanceOf(KeycloakUnavailableError);
        }),
        FUZZ,
      );
    } finally {
      clock.mockRestore();
    }
  });
});

afterEach(() => {
  fetches.mockClear();
});
