import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';

import {
  KeycloakMisconfiguredError,
  KeycloakSessionExpiredError,
  KeycloakUnavailableError,
  TokensConfigurationError,
} from '../src/index.js';
import { KeycloakClient } from '../src/keycloak/keycloak-client.js';
import { KeycloakRealm } from '../src/keycloak/keycloak-realm.js';
import { KeycloakSettings } from '../src/keycloak/keycloak.options.js';
import { everythingPrinted } from './support/secrets.js';

/** The timeout in the tests that wait until it ends. */
const SHORT_TIMEOUT_MS = 1000;

/** The error that token() throws for each kind of failure. */
const errorClasses = {
  terminal: KeycloakSessionExpiredError,
  configuration: KeycloakMisconfiguredError,
  'not-redeemed': KeycloakUnavailableError,
  ambiguous: KeycloakUnavailableError,
};

type Answer = (response: ServerResponse, request: IncomingMessage) => void;

let server: Server;
let url: string;
let answerToken: Answer;
let answerDiscovery: Answer;
/** The forms that the token endpoint received. */
let forms: Record<string, string>[];

beforeEach(async () => {
  forms = [];
  server = createServer((request, response) => {
    void serve(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  answerDiscovery = json(200, metadata());
});

afterEach(async () => {
  await stop();
});

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  if (request.url !== '/token') {
    answerDiscovery(response, request);
    return;
  }
  forms.push(Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString())));
  answerToken(response, request);
}

async function stop(): Promise<void> {
  if (!server.listening) return;
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}

function metadata(): Record<string, string> {
  return {
    issuer: `${url}/realms/app`,
    token_endpoint: `${url}/token`,
    userinfo_endpoint: `${url}/userinfo`,
    introspection_endpoint: `${url}/introspect`,
    end_session_endpoint: `${url}/logout`,
    jwks_uri: `${url}/certs`,
  };
}

function text(status: number, body: string, headers: Record<string, string> = {}): Answer {
  return (response) => {
    response.writeHead(status, headers).end(body);
  };
}

function json(status: number, body: object, headers: Record<string, string> = {}): Answer {
  return text(status, JSON.stringify(body), { 'content-type': 'application/json', ...headers });
}

function oauthError(error: string, description: string, status = 400): Answer {
  return json(status, { error, error_description: description });
}

function newClient(timeoutMs = 10_000): KeycloakClient {
  const client = { realm: 'app', clientId: 'backend', clientSecret: 'backend-secret' };
  return new KeycloakClient(
    new KeycloakRealm(Object.assign(new KeycloakSettings(), client, { serverUrl: url, timeoutMs })),
  );
}

const hang: Answer = () => undefined;
const reset: Answer = (response) => {
  response.destroy();
};
const cut: Answer = (response) => {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
  response.write('{"access_token":"a","refresh_', () => response.destroy());
};

describe('A redemption', () => {
  it.each([
    [
      { access_token: 'a', refresh_token: 'r', expires_in: 300 },
      { accessToken: 'a', refreshToken: 'r', expiresIn: 300 },
    ],
    [{ access_token: 'a' }, { accessToken: 'a', refreshToken: undefined, expiresIn: undefined }],
    [
      { access_token: 'a', refresh_token: 'r', expires_in: 'soon', token_type: 'odd', error: 'odd' },
      { accessToken: 'a', refreshToken: 'r', expiresIn: undefined },
    ],
  ])('that is answered %j is a success, whatever else the answer says', async (body, tokens) => {
    answerToken = json(200, body);
    const client = newClient();
    await expect(client.redeem('the token')).resolves.toEqual({ kind: 'success', tokens });
    await expect(client.token('refresh_token', { refresh_token: 'the token' })).resolves.toEqual(tokens);
    const form = {
      client_id: 'backend',
      client_secret: 'backend-secret',
      grant_type: 'refresh_token',
      refresh_token: 'the token',
    };
    expect(forms).toEqual([form, form]);
  });

  const page = '<!DOCTYPE html>';
  const broken = expect.stringMatching(/^(UND_ERR_SOCKET|ECONNRESET)$/);
  const unreadable = 'UNREADABLE_ANSWER';
  const failures: [what: string, answer: Answer, kind: keyof typeof errorClasses, expected: object][] = [
    ['an ended session', oauthError('invalid_grant', 'Token is not active'), 'terminal', { code: 'invalid_grant' }],
    [
      'a reused token',
      oauthError('invalid_grant', 'Maximum allowed refresh token reuse exceeded'),
      'terminal',
      { code: 'invalid_grant' },
    ],
    [
      'invalid_grant without a description',
      json(400, { error: 'invalid_grant' }),
      'terminal',
      { code: 'invalid_grant' },
    ],
    ['another issuer', oauthError('invalid_grant', 'Invalid token issuer'), 'configuration', { code: 'invalid_grant' }],
    [
      'another client',
      oauthError('invalid_grant', "Token client and authorized client don't match"),
      'configuration',
      { code: 'invalid_grant' },
    ],
    [
      'a wrong secret',
      oauthError('unauthorized_client', 'Invalid client', 401),
      'configuration',
      { code: 'unauthorized_client' },
    ],
    ['a page that is not there', text(404, page), 'configuration', { code: 'http_404' }],
    ['a redirect', text(302, ''), 'configuration', { code: 'http_302' }],
    [
      'too many requests',
      text(429, '', { 'retry-after': '7' }),
      'not-redeemed',
      { code: 'http_429', retryAfterMs: 7000 },
    ],
    ['a server that is busy', text(503, ''), 'not-redeemed', { code: 'http_503' }],
    ['a server that finds it too early', text(425, ''), 'not-redeemed', { code: 'http_425' }],
    [
      'temporarily_unavailable',
      oauthError('temporarily_unavailable', ''),
      'not-redeemed',
      { code: 'temporarily_unavailable' },
    ],
    ['a connection that breaks', reset, 'ambiguous', { code: broken }],
    ['silence', hang, 'ambiguous', { code: 'TIMEOUT' }],
    ['an answer that is cut off', cut, 'ambiguous', { code: broken }],
    ['a fault of the server', text(500, ''), 'ambiguous', { code: 'http_500' }],
    ['invalid_grant with status 500', oauthError('invalid_grant', '', 500), 'ambiguous', { code: 'http_500' }],
    ['a bad gateway', text(502, ''), 'ambiguous', { code: 'http_502' }],
    ['a gateway that waited in vain', text(504, ''), 'ambiguous', { code: 'http_504' }],
    ['a request timeout', text(408, ''), 'ambiguous', { code: 'http_408' }],
    ['server_error', oauthError('server_error', ''), 'ambiguous', { code: 'server_error' }],
    ['an empty answer', text(200, ''), 'ambiguous', { code: unreadable }],
    ['a page instead of tokens', text(200, page), 'ambiguous', { code: unreadable }],
    ['an error with status 200', oauthError('invalid_grant', '', 200), 'ambiguous', { code: unreadable }],
    ['no access token', json(200, { refresh_token: 'r' }), 'ambiguous', { code: unreadable }],
  ];

  it.each(failures)(
    'that meets %s says so after one request, as token() does by its error',
    async (_, answer, kind, expected) => {
      answerToken = answer;
      const client = newClient(answer === hang ? SHORT_TIMEOUT_MS : undefined);
      await client.metadata();
      const redemption = await client.redeem('secret-refresh-token');
      const error = kind === 'configuration' ? { error: expect.any(KeycloakMisconfiguredError) } : {};
      expect(redemption).toEqual({ kind, ...expected, ...error });
      expect(forms).toHaveLength(1);
      const parameters = { refresh_token: 'secret-refresh-token' };
      const failure = await client.token('refresh_token', parameters).catch((thrown: unknown) => thrown);
      expect(failure).toBeInstanceOf(errorClasses[kind]);
      expect(forms).toHaveLength(2);
      expect(everythingPrinted([redemption, failure])).not.toMatch(/secret-refresh-token|backend-secret/);
    },
  );

  it('that is put off says for how long, also by the error of token()', async () => {
    answerToken = text(429, '', { 'retry-after': '7' });
    await expect(newClient().token('refresh_token', {})).rejects.toMatchObject({ retryAfterMs: 7000 });
  });

  it('that cannot connect is tried a second time, and was not served', async () => {
    const client = newClient();
    await client.metadata();
    await stop();
    const fetches = jest.spyOn(globalThis, 'fetch');
    try {
      await expect(client.redeem('token')).resolves.toEqual({ kind: 'not-redeemed', code: 'ECONNREFUSED' });
      expect(fetches).toHaveBeenCalledTimes(2);
    } finally {
      fetches.mockRestore();
    }
  });
});

describe('Before a token is sent', () => {
  beforeEach(() => {
    answerToken = json(200, { access_token: 'a' });
  });

  it.each<[string, () => Answer, new (...parameters: never[]) => Error]>([
    ['are not there', () => text(404, ''), KeycloakMisconfiguredError],
    ['are refused', () => text(403, ''), KeycloakMisconfiguredError],
    ['are elsewhere', () => text(301, '', { location: 'https://elsewhere.example' }), KeycloakMisconfiguredError],
    [
      'name another issuer',
      () => json(200, { ...metadata(), issuer: 'https://x.example' }),
      KeycloakMisconfiguredError,
    ],
    ['name no token endpoint', () => json(200, { ...metadata(), token_endpoint: '' }), KeycloakMisconfiguredError],
    ['do not come', () => hang, KeycloakUnavailableError],
    ['break off', () => cut, KeycloakUnavailableError],
    ['cannot be read', () => text(200, '<!DOCTYPE html>'), KeycloakUnavailableError],
    ['are put off', () => text(503, ''), KeycloakUnavailableError],
  ])(
    'a redemption rejects when the metadata %s, and the next one asks for them again',
    async (_, answer, errorClass) => {
      answerDiscovery = answer();
      const client = newClient(answerDiscovery === hang ? SHORT_TIMEOUT_MS : undefined);
      await expect(client.redeem('token')).rejects.toThrow(errorClass);
      expect(forms).toEqual([]);
      answerDiscovery = json(200, metadata());
      await expect(client.redeem('token')).resolves.toMatchObject({ kind: 'success' });
    },
  );

  it('a redemption rejects when the options name no realm', async () => {
    await expect(new KeycloakClient(null).redeem('token')).rejects.toThrow(TokensConfigurationError);
  });

  it('a fault of the program is thrown as it is', async () => {
    const client = newClient();
    const fault = new TypeError('x is not a function');
    jest.spyOn(client, 'metadata').mockRejectedValue(fault);
    await expect(client.redeem('token')).rejects.toBe(fault);
  });
});

describe('The deadline of a redemption', () => {
  it('counts from the call, with the time that the metadata took', async () => {
    answerDiscovery = (response, request) => {
      setTimeout(() => {
        json(200, metadata())(response, request);
      }, 1400);
    };
    answerToken = hang;
    const startedAt = performance.now();
    await expect(newClient(2000).redeem('token')).resolves.toEqual({ kind: 'ambiguous', code: 'TIMEOUT' });
    expect(performance.now() - startedAt).toBeLessThan(3000);
  });

  it('that passes before the token is sent keeps it from being sent', async () => {
    const known = await newClient().metadata();
    const client = newClient(50);
    jest.spyOn(client, 'metadata').mockImplementation(() => delay(80, known));
    await expect(client.redeem('token')).resolves.toEqual({ kind: 'not-redeemed', code: 'TIMEOUT' });
    expect(forms).toEqual([]);
  });
});
