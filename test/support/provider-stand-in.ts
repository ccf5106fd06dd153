import { randomBytes } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import type { TokenPair } from '../../src/index.js';
import { type Answer, type Dialect, dialectOf, type ProviderStandInSettings } from './provider-dialects.js';

/** One request as it arrived. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

type Question = NonNullable<Dialect['questions']>[number];

/** Answers a request in the place of the provider. The stand-in has checked the form of the request before. */
export type Responder = (response: ServerResponse, request: IncomingMessage) => void;

/** The answer to a client that is not registered, and the answer to the registered client. */
interface Route {
  readonly unknownClient: Answer;
  readonly answer: () => Answer;
}

/**
 * An identity provider in this process that is as strict as its documentation allows. It refuses a request that is not
 * exactly as documented, and records it in {@link violations}. It issues, rotates and revokes tokens as the provider
 * does.
 */
export class ProviderStandIn {
  /** All requests, including refused ones. */
  readonly requests: SeenRequest[] = [];
  /** The faults of the requests. A suite expects no entry. */
  readonly violations: string[] = [];
  /** The access tokens that work at the API of the provider. */
  readonly liveAccessTokens = new Set<string>();
  readonly #grants = new Map<string, string>();
  readonly #responders: Responder[] = [];
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  readonly #dialect: Dialect;
  readonly #settings: Required<
    Pick<ProviderStandInSettings, 'clientId' | 'clientSecret' | 'basePath' | 'refreshParameters'>
  >;

  private constructor(settings: ProviderStandInSettings) {
    const { clientId = 'client-1', clientSecret = 'client-secret-1', basePath = '', refreshParameters = {} } = settings;
    this.#settings = { clientId, clientSecret, basePath, refreshParameters };
    this.#dialect = dialectOf({ ...settings, clientId });
  }

  static async start(settings: ProviderStandInSettings): Promise<ProviderStandIn> {
    const standIn = new ProviderStandIn(settings);
    await new Promise<void>((resolve) => standIn.#server.listen(0, '127.0.0.1', resolve));
    return standIn;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The URL of the service, for the option `baseUrl`. */
  get baseUrl(): string {
    return `http://127.0.0.1:${this.port}${this.#settings.basePath}`;
  }

  /** The registered application, for the options of a provider. */
  get client(): { clientId: string; clientSecret: string } {
    const { clientId, clientSecret } = this.#settings;
    return { clientId, clientSecret };
  }

  /** Issues a new pair, as after a login. */
  issue(): TokenPair {
    const name = randomBytes(16).toString('base64url');
    const { accessToken, refreshToken } = this.#dialect;
    const pair = { accessToken: accessToken + name, refreshToken: refreshToken + name };
    this.liveAccessTokens.add(pair.accessToken);
    this.#grants.set(pair.refreshToken, pair.accessToken);
    return pair;
  }

  /** Whether the provider would redeem a refresh token. */
  isLive(refreshToken: string): boolean {
    return this.#grants.has(refreshToken);
  }

  /** Answers the next correct request by this responder. The provider does not redeem its refresh token. */
  answerNext(responder: Responder): void {
    this.#responders.push(responder);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const { method = '', url: path = '', headers } = request;
    const seen: SeenRequest = { method, path, headers, body: Buffer.concat(chunks).toString('utf8') };
    this.requests.push(seen);

    const check = new RequestCheck(seen, this.#settings);
    const route = this.#route(seen, check);
    this.violations.push(...check.violations);
    if (check.violations.length > 0) {
      respond(response, { status: 400, body: { error: 'invalid_request' } });
    } else if (!check.isClientKnown) {
      respond(response, route.unknownClient);
    } else {
      const responder = this.#responders.shift();
      if (responder) responder(response, request);
      else respond(response, route.answer());
    }
  }

  /** Finds the route of a request and checks the request. */
  #route(request: SeenRequest, check: RequestCheck): Route {
    const { tokenPath, authentication, revocation, unknownClient } = this.#dialect;
    const { basePath, refreshParameters } = this.#settings;
    if (request.path === basePath + tokenPath) {
      const form = check.form(authentication, { grant_type: 'refresh_token', refresh_token: '', ...refreshParameters });
      return { unknownClient, answer: () => this.#redeem(form.get('refresh_token') ?? '') };
    }
    const question = this.#questionAt(request);
    if (question) return this.#askedRoute(question, check);
    if (revocation && request.path === basePath + revocation.path) {
      if (revocation.style === 'github') {
        const accessToken = check.gitHubToken('DELETE');
        return {
          unknownClient: { status: 401, body: { message: 'Bad credentials' } },
          answer: () => ({ status: this.liveAccessTokens.delete(accessToken) ? 204 : 404 }),
        };
      }
      const form = check.form(authentication, { token: '', token_type_hint: '' });
      return {
        unknownClient,
        answer: () => this.#revoke(form.get('token') ?? '', form.get('token_type_hint') ?? ''),
      };
    }
    check.violations.push(`${request.method} ${request.path} does not exist here`);
    return { unknownClient, answer: () => ({ status: 404 }) };
  }

  #questionAt({ method, path }: SeenRequest): Question | undefined {
    const { basePath } = this.#settings;
    return this.#dialect.questions?.find((known) => known.method === method && basePath + known.path === path);
  }

  /** Checks a question about an access token and returns its route. */
  #askedRoute({ style }: Question, check: RequestCheck): Route {
    if (style === 'github') {
      const token = check.gitHubToken('POST');
      const dead: Answer = { status: 404, body: { message: 'Not Found' } };
      return {
        unknownClient: { status: 401, body: { message: 'Bad credentials' } },
        answer: () => (this.liveAccessTokens.has(token) ? { status: 200, body: { id: 1, token } } : dead),
      };
    }
    const { authentication, unknownClient } = this.#dialect;
    if (style === 'bearer') {
      const token = check.bearer();
      const dead: Answer = { status: 401, body: { error: 'invalid_token' } };
      return { unknownClient, answer: () => (this.liveAccessTokens.has(token) ? { status: 200, body: {} } : dead) };
    }
    const token = check.form(authentication, { token: '', token_type_hint: 'access_token' }).get('token') ?? '';
    return { unknownClient, answer: () => ({ status: 200, body: { active: this.liveAccessTokens.has(token) } }) };
  }

  #redeem(refreshToken: string): Answer {
    const accessToken = this.#grants.get(refreshToken);
    const { isReplayable, unknownRefreshToken, success } = this.#dialect;
    if (accessToken === undefined) return unknownRefreshToken;
    if (!isReplayable) {
      this.#grants.delete(refreshToken);
      this.liveAccessTokens.delete(accessToken);
    }
    return { status: 200, body: success(this.issue()) };
  }

  /** Revokes a token. An unknown token is no error. RFC 7009 section 2.2 */
  #revoke(token: string, hint: string): Answer {
    const accessToken = hint === 'refresh_token' ? this.#grants.get(token) : token;
    this.#grants.delete(token);
    if (accessToken !== undefined) this.liveAccessTokens.delete(accessToken);
    return { status: 200, body: {} };
  }
}

/** Collects the faults of one request. */
class RequestCheck {
  readonly violations: string[] = [];
  isClientKnown = true;

  constructor(
    private readonly request: SeenRequest,
    private readonly client: { clientId: string; clientSecret: string },
  ) {}

  /**
   * Checks a form. It must authenticate the client in one way only and have exactly the expected parameters, each once.
   * An empty expected value matches every value that is not empty.
   */
  form(authentication: Dialect['authentication'], expected: Record<string, string>): URLSearchParams {
    const { body, headers } = this.request;
    this.#expect('method', this.request.method, 'POST');
    this.#expect('content type', headers['content-type'], 'application/x-www-form-urlencoded');
    this.#expect('accept', headers.accept, 'application/json');
    const form = new URLSearchParams(body);
    const parameters = { ...expected, ...this.#credentials(authentication) };
    this.#expect('parameters', [...form.keys()].sort().join(), Object.keys(parameters).sort().join());
    for (const [name, value] of Object.entries(expected)) {
      const given = form.get(name);
      if (value ? given !== value : !given) this.violations.push(`${name} is ${JSON.stringify(given)}`);
    }
    if (authentication === 'basic') {
      // The client form-encodes both values and then joins them. RFC 6749 section 2.3.1
      const [id = '', secret = '', ...rest] = this.#basic().split(':');
      if (rest.length > 0) this.violations.push('a colon in the credentials is not encoded');
      this.#identify(formDecode(id), formDecode(secret));
    } else {
      this.#expect('authorization', headers.authorization, undefined);
      const secret = authentication === 'none' ? this.client.clientSecret : form.get('client_secret');
      this.#identify(form.get('client_id'), secret);
    }
    return form;
  }

  /**
   * Checks a request to /applications/{client_id}/token of GitHub's REST API and returns its access token. The
   * credentials are not form-encoded. RFC 7617
   */
  gitHubToken(method: 'POST' | 'DELETE'): string {
    const { headers, body } = this.request;
    this.#expect('method', this.request.method, method);
    this.#expect('content type', headers['content-type'], 'application/json');
    this.#expect('accept', headers.accept, 'application/vnd.github+json');
    if (!headers['user-agent']) this.violations.push('GitHub refuses requests without a user agent');
    const credentials = this.#basic();
    this.#identify(credentials.slice(0, credentials.indexOf(':')), credentials.slice(credentials.indexOf(':') + 1));
    const fields = JSON.parse(body) as Record<string, unknown>;
    this.#expect('fields', Object.keys(fields).join(), 'access_token');
    return String(fields.access_token);
  }

  /** Checks a request with a bearer token and an empty body, and returns the token. RFC 6750 section 2.1 */
  bearer(): string {
    const { headers, body } = this.request;
    this.#expect('accept', headers.accept, 'application/json');
    this.#expect('content type', headers['content-type'], undefined);
    this.#expect('body', body, '');
    const [scheme, token = '', ...rest] = (headers.authorization ?? '').split(' ');
    this.#expect('authorization scheme', scheme, 'Bearer');
    if (token === '' || rest.length > 0) this.violations.push('broken bearer token');
    return token;
  }

  #credentials(authentication: Dialect['authentication']): Record<string, string> {
    if (authentication === 'basic') return {};
    return authentication === 'none' ? { client_id: '' } : { client_id: '', client_secret: '' };
  }

  #basic(): string {
    const [scheme, credentials = '', ...rest] = (this.request.headers.authorization ?? '').split(' ');
    this.#expect('authorization scheme', scheme, 'Basic');
    const decoded = Buffer.from(credentials, 'base64');
    if (rest.length > 0 || decoded.toString('base64') !== credentials) this.violations.push('broken base64');
    return decoded.toString('utf8');
  }

  #identify(clientId: string | null, clientSecret: string | null): void {
    this.isClientKnown = clientId === this.client.clientId && clientSecret === this.client.clientSecret;
  }

  #expect(what: string, given: string | undefined, expected: string | undefined): void {
    if (given !== expected) this.violations.push(`${what}: ${JSON.stringify(given)}, not ${JSON.stringify(expected)}`);
  }
}

function formDecode(value: string): string {
  return new URLSearchParams(`value=${value}`).get('value') ?? '';
}

function respond(response: ServerResponse, { status, body }: Answer): void {
  response.writeHead(
    status,
    body && { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' },
  );
  response.end(body && JSON.stringify(body));
}
