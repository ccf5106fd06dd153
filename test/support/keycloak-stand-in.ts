import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import { exportJWK, generateKeyPair, SignJWT } from 'jose';

import type { AskableRealm } from './keycloak-answers.js';

interface User {
  readonly id: string;
  readonly email: string;
  /** Id at the brokered provider. It is absent if the user has no account there. */
  readonly acmeId?: string;
  readonly mayReadTokens: boolean;
}

interface Session {
  readonly user: User;
  readonly isOffline: boolean;
  /** The client that started the login. */
  readonly client: string;
  /** The claim `cnf` of its tokens, if they are bound to a key. */
  readonly cnf?: object;
  /** The newest refresh token of the session. It is null before the first one, and after a reuse ended the session. */
  current: string | null;
}

interface Signer {
  readonly kid: string;
  readonly privateKey: Awaited<ReturnType<typeof generateKeyPair>>['privateKey'];
  readonly jwk: object;
}

interface Answer {
  readonly status: number;
  readonly body?: object | string;
  readonly type?: string;
  readonly challenge?: string;
}

const CLIENTS: Record<string, { secret: string; mayViewUsers: boolean }> = {
  backend: { secret: 'backend-secret', mayViewUsers: true },
  other: { secret: 'other-secret', mayViewUsers: false },
};
const INVALID_GRANT = (error_description: string): Answer => ({
  status: 400,
  body: { error: 'invalid_grant', error_description },
});

/** What happens to a request instead of an answer. A number is an HTTP status. */
export type KeycloakFault = 'hang' | 'reset' | 'reset-after-serving' | number;

/**
 * A stand-in for the realm `app` of test/keycloak/realms.json. It answers the requests that the module sends.
 * answers.json has the answers of a real Keycloak, and a test compares them. It refuses what Keycloak refuses. With
 * Revoke Refresh Token on, it ends the session whose refresh token it receives twice.
 */
export class KeycloakStandIn implements AskableRealm {
  url = '';
  /**
   * The public URL of a Keycloak with a fixed hostname. The metadata and the tokens name it, and not the URL by which
   * the stand-in was asked.
   */
  publicUrl: string | undefined;
  /** The URL of the endpoints in the metadata, where it is not that of the issuer. */
  endpointsUrl: string | undefined;
  /** The path of the token endpoint in the metadata, below the URL of the realm. */
  tokenPath = '/protocol/openid-connect/token';
  /** The scopes that the metadata name; undefined if they name none. */
  scopes: string[] | undefined;
  /** Whether every client may introspect every token, as before 26.4.12 and 26.6.2. */
  introspectsForAll = false;
  /** Whether the search for users ignores `idpAlias` and `idpUserId`, as a server does that does not know them. */
  ignoresLinks = false;
  /** The one parameter of a link that the search for users ignores. */
  ignoredParameter: 'idpAlias' | 'idpUserId' | undefined;
  /** Whether something in front of the stand-in hides the links of users. */
  hidesLinks = false;
  /** How many users the realm has, for the search. */
  realmSize = 3;
  /** More attributes of users, by their ids. */
  readonly attributes: Record<string, Record<string, string[]>> = {};
  /** More links of users with accounts at acme, by their ids. */
  readonly links: Record<string, string> = {};
  /** The query of every search for users. */
  readonly searches: string[] = [];
  revokeRefreshToken = false;
  accessTokenLifetime = 300;
  /** The faults of the next requests, one for each request. */
  readonly faults: KeycloakFault[] = [];
  /** Method and path of every request that was served. */
  readonly requests: string[] = [];
  /**
   * Delays the answer to a request until its promise settles. Gets the path of the request and, if the request has one,
   * a space and the grant type.
   */
  beforeAnswering: ((asked: string) => Promise<void>) | undefined;
  /** How many refresh tokens the stand-in has received at its token endpoint, including refused ones. */
  redemptions = 0;
  /** Delays the answer to a refresh until its promise settles. */
  beforeRefreshing: (() => Promise<void>) | undefined;
  /** The pair of ada that the broker has stored. When it has expired, the broker refreshes it. */
  brokered = { accessToken: '', refreshToken: '', expiresAt: 0, lifetime: 10 };
  /** Whether the provider still accepts the refresh token that the broker has stored. */
  isGrantAlive = true;
  readonly users: Record<'ada' | 'local' | 'unreadable', User> = {
    ada: { id: randomUUID(), email: 'ada@example.com', acmeId: randomUUID(), mayReadTokens: true },
    local: { id: randomUUID(), email: 'local@example.com', mayReadTokens: true },
    unreadable: { id: randomUUID(), email: 'unreadable@example.com', mayReadTokens: false },
  };
  readonly #codes = new Map<string, Session>();
  readonly #sessions = new Map<string, Session>();
  readonly #signers: Signer[] = [];
  readonly #server = createServer((request, response) => {
    void this.#serve(request, response);
  });

  async start(port = 0): Promise<void> {
    if (this.#signers.length === 0) await this.rotateKeys();
    this.#server.listen(port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    if (!this.brokered.accessToken) await this.logInAtProvider();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  /** Signs with a new key from now on. The old keys stay published. */
  async rotateKeys(): Promise<void> {
    const { publicKey, privateKey } = await generateKeyPair('RS256');
    const kid = randomUUID();
    this.#signers.unshift({ kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg: 'RS256', use: 'sig' } });
  }

  async logIn(
    user: 'ada' | 'local' | 'unreadable',
    scope = 'openid',
    client = 'backend',
    cnf?: object,
  ): Promise<string> {
    const code = randomUUID();
    const isOffline = scope.includes('offline_access');
    const session: Session = { user: this.users[user], isOffline, client, cnf, current: null };
    this.#codes.set(code, session);
    return Promise.resolve(code);
  }

  /** Gives ada a new pair at the provider, as a login there does. */
  async logInAtProvider(lifetimeSeconds = 10): Promise<void> {
    this.isGrantAlive = true;
    const expiresAt = now() + lifetimeSeconds;
    const claims = { sub: this.users.ada.acmeId, jti: randomUUID() };
    const accessToken = await this.#sign(claims, { issuer: `${this.url}/realms/provider`, expiresAt });
    this.brokered = { accessToken, refreshToken: refreshTokenText(), expiresAt, lifetime: lifetimeSeconds };
  }

  /** Ends the session of ada at the provider. The access token that the broker has stored is expired afterwards. */
  async endSessionAtProvider(): Promise<void> {
    this.isGrantAlive = false;
    this.brokered.expiresAt = now();
    return Promise.resolve();
  }

  /** Ends every session of a user. */
  endSessions(user: User): void {
    for (const [id, session] of this.#sessions) if (session.user === user) this.#sessions.delete(id);
  }

  /** Signs an access token with claims that Keycloak would not issue. It has no expiry if `expiresAt` is null. */
  async forge(
    claims: Record<string, unknown>,
    { issuer = this.#issuer, expiresAt = now() + 300 }: { issuer?: string; expiresAt?: number | null } = {},
  ): Promise<string> {
    return this.#sign({ sub: this.users.ada.id, typ: 'Bearer', aud: 'backend', ...claims }, { issuer, expiresAt });
  }

  get publicJwk(): object {
    return this.#signers[0]?.jwk ?? {};
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const fault = this.faults.shift();
    if (fault === 'reset') return void response.destroy();
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    if (fault === 'hang') return;
    const url = new URL(request.url ?? '/', this.url);
    const form = new URLSearchParams(Buffer.concat(chunks).toString());
    this.requests.push(`${request.method ?? ''} ${url.pathname}`);
    const grantType = form.get('grant_type');
    await this.beforeAnswering?.(grantType === null ? url.pathname : `${url.pathname} ${grantType}`);
    const answer = typeof fault === 'number' ? { status: fault } : await this.#answer(request, url, form);
    if (fault === 'reset-after-serving') return void response.destroy();
    response.statusCode = answer.status;
    if (answer.challenge) response.setHeader('www-authenticate', answer.challenge);
    if (answer.type) response.setHeader('content-type', answer.type);
    if (typeof answer.body === 'object') {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(answer.body));
    } else response.end(answer.body);
  }

  async #answer({ method, headers }: IncomingMessage, url: URL, form: URLSearchParams): Promise<Answer> {
    const bearer = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1] ?? '';
    const oidc = '/realms/app/protocol/openid-connect';
    const isForm = headers['content-type']?.startsWith('application/x-www-form-urlencoded');
    if (method === 'POST' && !isForm) return { status: 415, body: { error: 'HTTP 415 Unsupported Media Type' } };
    switch (`${method ?? ''} ${url.pathname}`) {
      case 'GET /realms/app/.well-known/openid-configuration':
        return { status: 200, body: this.#metadata() };
      case `GET ${oidc}/certs`:
        return { status: 200, body: { keys: this.#signers.map(({ jwk }) => jwk) } };
      case `POST ${oidc}/token`:
        return this.#token(form);
      case `GET ${oidc}/userinfo`:
        return this.#userInfo(bearer);
      case `POST ${oidc}/token/introspect`:
        return this.#introspect(form);
      case `POST ${oidc}/logout`:
        return this.#logout(form);
    }
    const idp = /^\/realms\/app\/broker\/([^/]+)\/token$/.exec(url.pathname)?.[1];
    if (method === 'GET' && idp) return this.#broker(idp, bearer);
    const userPath = /^\/admin\/realms\/app\/users(?:\/([^/]+)(\/federated-identity)?)?$/.exec(url.pathname);
    if (method === 'GET' && userPath) {
      const [, id, links] = userPath;
      return this.#users(bearer, id, url.searchParams, links !== undefined);
    }
    return {
      status: 404,
      body: { error: url.pathname.includes('/realms/app/') ? 'Not found' : 'Realm does not exist' },
    };
  }

  #metadata(): object {
    const realm = this.endpointsUrl === undefined ? this.#issuer : `${this.endpointsUrl}/realms/app`;
    const oidc = `${realm}/protocol/openid-connect`;
    return {
      issuer: this.#issuer,
      scopes_supported: this.scopes,
      authorization_endpoint: `${oidc}/auth`,
      token_endpoint: `${realm}${this.tokenPath}`,
      introspection_endpoint: `${oidc}/token/introspect`,
      userinfo_endpoint: `${oidc}/userinfo`,
      end_session_endpoint: `${oidc}/logout`,
      jwks_uri: `${oidc}/certs`,
    };
  }

  get #issuer(): string {
    return `${this.publicUrl ?? this.url}/realms/app`;
  }

  async #token(form: URLSearchParams): Promise<Answer> {
    const refused = refusedClient(form);
    if (refused) return refused;
    switch (form.get('grant_type')) {
      case 'authorization_code': {
        const session = this.#codes.get(form.get('code') ?? '');
        this.#codes.delete(form.get('code') ?? '');
        if (!session) return INVALID_GRANT('Code not valid');
        if (form.get('redirect_uri') !== 'http://localhost/callback') return INVALID_GRANT('Incorrect redirect_uri');
        const id = randomUUID();
        this.#sessions.set(id, session);
        return this.#issue(id, session);
      }
      case 'refresh_token':
        return this.#refresh(form.get('refresh_token') ?? '');
      case 'client_credentials': {
        const accessToken = await this.forge({ azp: form.get('client_id'), sub: 'service' });
        return {
          status: 200,
          body: { access_token: accessToken, expires_in: 300, refresh_expires_in: 0, token_type: 'Bearer' },
        };
      }
      default:
        return { status: 400, body: { error: 'unsupported_grant_type', error_description: 'Unsupported grant_type' } };
    }
  }

  async #refresh(refreshToken: string): Promise<Answer> {
    this.redemptions++;
    if (this.beforeRefreshing) await this.beforeRefreshing();
    const id = claimsOf(refreshToken).sid ?? '';
    const session = this.#sessions.get(id);
    if (!id) return INVALID_GRANT('Invalid refresh token');
    if (!session) return INVALID_GRANT('Offline user session not found');
    if (session.current === null) return INVALID_GRANT("Session doesn't have required client");
    if (this.revokeRefreshToken && session.current !== refreshToken) {
      session.current = null;
      return INVALID_GRANT('Maximum allowed refresh token reuse exceeded');
    }
    return this.#issue(id, session);
  }

  async #issue(id: string, session: Session): Promise<Answer> {
    const { user, isOffline, client, cnf } = session;
    const claims = { sub: user.id, sid: id, azp: client, aud: client, email: user.email, jti: randomUUID(), cnf };
    const accessToken = await this.#sign({ ...claims, typ: 'Bearer' }, { expiresAt: now() + this.accessTokenLifetime });
    session.current = refreshTokenText({ ...claims, typ: isOffline ? 'Offline' : 'Refresh' });
    return {
      status: 200,
      body: {
        access_token: accessToken,
        expires_in: this.accessTokenLifetime,
        refresh_expires_in: isOffline ? 0 : 1800,
        refresh_token: session.current,
        token_type: 'Bearer',
      },
    };
  }

  #userInfo(bearer: string): Answer {
    const user = this.#userOf(bearer);
    if (user) return { status: 200, body: { sub: user.id, email: user.email } };
    const description = claimsOf(bearer).sid ? 'user_session_not_found' : 'Token verification failed';
    const challenge = `Bearer realm="app", error="invalid_token", error_description="${description}"`;
    return { status: 401, type: 'text/plain;charset=utf-8', challenge };
  }

  #introspect(form: URLSearchParams): Answer {
    if (refusedClient(form)) {
      return { status: 401, body: { error: 'invalid_client', error_description: 'Client authentication failed.' } };
    }
    const token = form.get('token') ?? '';
    const session = this.#sessions.get(claimsOf(token).sid ?? '');
    const isCurrent = session && (this.revokeRefreshToken ? session.current === token : session.current !== null);
    if (form.get('token_type_hint') !== 'refresh_token' || !isCurrent) return { status: 200, body: { active: false } };
    const { client, cnf, isOffline } = session;
    if (client !== form.get('client_id') && !this.introspectsForAll) return { status: 200, body: { active: false } };
    const { id, email } = session.user;
    const tokenType = isOffline ? 'Offline' : 'Refresh';
    return {
      status: 200,
      body: { active: true, sub: id, email, azp: client, client_id: client, token_type: tokenType, cnf },
    };
  }

  #logout(form: URLSearchParams): Answer {
    const refused = refusedClient(form);
    if (refused) return refused;
    const id = claimsOf(form.get('refresh_token') ?? '').sid;
    if (!id) return INVALID_GRANT('Invalid refresh token');
    this.#sessions.delete(id);
    return { status: 204 };
  }

  async #broker(idp: string, bearer: string): Promise<Answer> {
    const user = this.#userOf(bearer);
    if (!user) return { status: 400, body: { errorMessage: 'Invalid token.' } };
    if (!user.mayReadTokens) {
      const errorMessage = `Client [backend] not authorized to retrieve tokens from identity provider [${idp}].`;
      return { status: 403, body: { errorMessage } };
    }
    if (idp !== 'acme') return { status: 502, type: 'text/html;charset=utf-8', body: '<!DOCTYPE html>' };
    if (!user.acmeId) {
      const errorMessage = `User [${user.id}] is not associated with identity provider [acme].`;
      return { status: 400, body: { errorMessage } };
    }
    if (this.brokered.expiresAt <= now()) {
      if (!this.isGrantAlive) return { status: 502, body: { errorMessage: 'Unable to refresh token' } };
      await this.logInAtProvider();
    }
    const { accessToken, refreshToken, expiresAt, lifetime } = this.brokered;
    return {
      status: 200,
      body: {
        access_token: accessToken,
        expires_in: lifetime,
        refresh_expires_in: 1800,
        refresh_token: refreshToken,
        token_type: 'Bearer',
        accessTokenExpiration: expiresAt,
      },
    };
  }

  #users(bearer: string, id: string | undefined, criteria: URLSearchParams, isForLinks: boolean): Answer {
    const client = CLIENTS[claimsOf(bearer).azp ?? ''];
    if (!client) return { status: 401, body: { error: 'HTTP 401 Unauthorized' } };
    if (!client.mayViewUsers) return { status: 403, body: { error: 'HTTP 403 Forbidden' } };
    const everybody = Object.values(this.users).slice(0, this.realmSize);
    const attributesOf = ({ id, acmeId }: User) => this.attributes[id] ?? (acmeId && { acme_id: [acmeId] });
    const linkOf = ({ id, acmeId }: User) => this.links[id] ?? acmeId;
    const represent = (user: User) => {
      const attributes = attributesOf(user);
      return { id: user.id, email: user.email, ...(attributes && { attributes }) };
    };
    if (id !== undefined) {
      const user = everybody.find((each) => each.id === id);
      if (isForLinks && this.hidesLinks) return { status: 404, body: '' };
      if (user && isForLinks) {
        const userId = linkOf(user);
        return { status: 200, body: userId ? [{ identityProvider: 'acme', userId }] : [] };
      }
      return user ? { status: 200, body: represent(user) } : { status: 404, body: { error: 'User not found' } };
    }
    this.searches.push(criteria.toString());
    const attribute = /^"acme_id":"([^"]*)"$/.exec(criteria.get('q') ?? '')?.[1];
    const email = criteria.get('exact') === 'true' ? criteria.get('email')?.toLowerCase() : undefined;
    if (this.ignoredParameter) criteria.delete(this.ignoredParameter);
    const alias = criteria.get('idpAlias');
    const idpUserId = criteria.get('idpUserId');
    const max = Number(criteria.get('max') ?? 100);
    const found = everybody.filter((user) => {
      if (attribute) return (attributesOf(user) || {}).acme_id?.includes(attribute);
      if (email !== undefined) return user.email === email;
      if (this.ignoresLinks || (alias === null && idpUserId === null)) return true;
      const link = linkOf(user);
      return link !== undefined && (alias === null || alias === 'acme') && (idpUserId === null || link === idpUserId);
    });
    return { status: 200, body: found.slice(0, max).map(represent) };
  }

  #userOf(accessToken: string): User | undefined {
    const { sid, exp = 0 } = claimsOf(accessToken);
    return exp > now() ? this.#sessions.get(sid ?? '')?.user : undefined;
  }

  #sign(
    claims: Record<string, unknown>,
    { issuer = this.#issuer, expiresAt }: { issuer?: string; expiresAt: number | null },
  ): Promise<string> {
    const [signer] = this.#signers;
    if (!signer) throw new Error('The stand-in is not started.');
    const token = new SignJWT(claims)
      .setProtectedHeader({ alg: 'RS256', kid: signer.kid, typ: 'JWT' })
      .setIssuer(issuer)
      .setIssuedAt();
    if (expiresAt !== null) token.setExpirationTime(expiresAt);
    return token.sign(signer.privateKey);
  }
}

function refusedClient(form: URLSearchParams): Answer | undefined {
  const client = CLIENTS[form.get('client_id') ?? ''];
  if (client?.secret === form.get('client_secret')) return undefined;
  const error = client ? 'unauthorized_client' : 'invalid_client';
  return { status: 401, body: { error, error_description: 'Invalid client or Invalid client credentials' } };
}

/** Returns a text like a refresh token of Keycloak. Its signature is random, because only Keycloak verifies it. */
function refreshTokenText(claims: object = {}): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'HS512' })}.${part(claims)}.${randomBytes(64).toString('base64url')}`;
}

function claimsOf(token: string): { sid?: string; azp?: string; exp?: number } {
  try {
    return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { sid?: string };
  } catch {
    return {};
  }
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}
