import { authorize } from '../support/authorization-code-flow.js';
import { TourFailure } from './tour-failure.js';

/** An answer of the application. */
export interface Answer {
  readonly status: number;
  /** Returns a field of the JSON body. @throws {@link TourFailure} when the field is missing */
  text(field: string): string;
  readonly cookies: string[];
}

/** A user of the application. It calls the application only by HTTP. */
export class AppClient {
  #sessionToken = '';

  constructor(private readonly baseUrl: string) {}

  async signIn(userId: string): Promise<void> {
    const headers = { 'content-type': 'application/json' };
    const answer = await this.#request('/session', { method: 'POST', body: JSON.stringify({ userId }), headers });
    this.#sessionToken = answer.text('sessionToken');
  }

  /** Links an account by a code flow, and fills in the pages of the provider as a user would. */
  async linkAccount(login: string): Promise<void> {
    const begun = await this.#request('/link');
    const callback = await authorize(begun.text('authorizationUrl'), { login });
    const finished = await this.#finish(begun, callback);
    if (finished.status !== 200) throw new TourFailure(`linking was answered with ${finished.status}.`);
  }

  /** Logs in at Keycloak, on its pages and those of the provider behind it. Returns the id of the user at Keycloak. */
  async logInAtKeycloak(login: string): Promise<string> {
    const begun = await this.#request('/keycloak/login');
    const callback = await authorize(begun.text('authorizationUrl'), { login });
    const finished = await this.#finish(begun, callback);
    this.#sessionToken = finished.text('accessToken');
    return finished.text('userId');
  }

  getKeycloakAccount(): Promise<Answer> {
    return this.#request('/keycloak/me');
  }

  getAccount(): Promise<Answer> {
    return this.#request('/me');
  }

  /** Calls the application with the cookies that it set at the start of the flow. */
  #finish(begun: Answer, callback: URL): Promise<Answer> {
    const cookie = begun.cookies.map((line) => line.split(';')[0]).join('; ');
    return this.#request(`${callback.pathname}${callback.search}`, { headers: { cookie } });
  }

  async #request(path: string, init: RequestInit = {}): Promise<Answer> {
    const headers = new Headers(init.headers);
    if (this.#sessionToken) headers.set('authorization', `Bearer ${this.#sessionToken}`);
    const response = await fetch(`${this.baseUrl}${path}`, { ...init, headers });
    const body: unknown = await response.json();
    return {
      status: response.status,
      cookies: response.headers.getSetCookie(),
      text: (field) => {
        const value: unknown = typeof body === 'object' && body !== null ? Reflect.get(body, field) : undefined;
        if (typeof value === 'string') return value;
        throw new TourFailure(`${path} was answered with ${response.status} and without ${field}.`);
      },
    };
  }
}
