import { redirectUriOf } from '../app.config.js';
import { authorize } from '../support/authorization-code-flow.js';
import { CookieJar } from '../support/cookie-jar.js';
import { TourFailure } from './tour-failure.js';

/** An answer of the application. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** The JSON of the body; null if there is none. */
  readonly json: unknown;
  /** Returns a field of the JSON body. @throws {@link TourFailure} when the field is missing */
  text(field: string): string;
}

/** What a user asks for who connects an account. */
export interface Demand {
  readonly account?: string;
  readonly scopes?: readonly string[];
}

/** A user of the application, with a browser. It calls the application only by HTTP, as the page does. */
export class AppClient {
  readonly #cookies = new CookieJar();
  #keycloakToken = '';

  constructor(private readonly baseUrl: string) {}

  async signIn(userId: string): Promise<void> {
    await this.#succeed(this.send('POST', '/session', { userId }));
  }

  /** Connects an account by a code flow, and fills in the pages of the provider as a user would. */
  async connect(login: string, demand: Demand = {}): Promise<void> {
    const begun = await this.send('POST', '/connections/demo', { ...demand, returnTo: '/?connected' });
    const redirectUri = redirectUriOf(this.baseUrl);
    const callback = await authorize(begun.text('authorizationUrl'), { login, redirectUri });
    const { status, headers } = await this.send('GET', `${callback.pathname}${callback.search}`);
    const location = headers.get('location') ?? 'no other page';
    if (status !== 303 || location !== '/?connected') {
      throw new TourFailure(`the link was answered with ${status}, and the browser was led to ${location}.`);
    }
  }

  /** Logs in at Keycloak, on its pages and those of the provider behind it. Returns the id of the user at Keycloak. */
  async logInAtKeycloak(login: string): Promise<string> {
    const begun = await this.send('GET', '/keycloak/login');
    const callback = await authorize(begun.text('authorizationUrl'), { login });
    const finished = await this.send('GET', `${callback.pathname}${callback.search}`);
    this.#keycloakToken = finished.text('accessToken');
    return finished.text('userId');
  }

  /** Sends a GET that must succeed. @throws {@link TourFailure} when it does not */
  get(path: string): Promise<Answer> {
    return this.#succeed(this.send('GET', path));
  }

  async send(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<Answer> {
    const url = new URL(path, this.baseUrl);
    const headers = new Headers({ cookie: this.#cookies.headerFor(url) });
    if (body) headers.set('content-type', 'application/json');
    if (this.#keycloakToken) headers.set('authorization', `Bearer ${this.#keycloakToken}`);
    const response = await fetch(url, { method, headers, body: body && JSON.stringify(body), redirect: 'manual' });
    this.#cookies.keep(response);
    const json: unknown = await response.json().catch(() => null);
    return {
      status: response.status,
      headers: response.headers,
      json,
      text: (field) => {
        const value: unknown = typeof json === 'object' && json !== null ? Reflect.get(json, field) : undefined;
        if (typeof value === 'string') return value;
        throw new TourFailure(`${path} was answered with ${response.status} and without ${field}.`);
      },
    };
  }

  async #succeed(asked: Promise<Answer>): Promise<Answer> {
    const answer = await asked;
    if (answer.status < 300) return answer;
    throw new TourFailure(`a request was answered with ${answer.status}: ${JSON.stringify(answer.json)}.`);
  }
}
