import { CookieJar } from './cookie-jar.js';

const MOST_PAGES = 12;

/** Who sits in front of the browser. */
export interface BrowserUser {
  /** What to log in as; the authorization server takes any name and any password. */
  login: string;
}

/**
 * Opens an authorization URL as a browser would, logs in and consents on the pages of the authorization server, and
 * follows its redirects up to the one that leads back to the client.
 *
 * @returns that URL, not yet requested: the redirect URI with `code` and `state`, or with `error`
 */
export async function authorize(authorizationUrl: string | URL, { login }: BrowserUser): Promise<URL> {
  const jar = new CookieJar();
  let request: PageRequest = { url: new URL(authorizationUrl) };
  const { origin } = request.url;
  for (let page = 0; page < MOST_PAGES; page++) {
    const response = await open(request, jar);
    const location = response.headers.get('location');
    if (location) {
      request = { url: new URL(location, request.url) };
      if (request.url.origin !== origin) return request.url;
    } else {
      request = submission(await response.text(), request.url, response.status, login);
    }
  }
  throw new Error(`${origin} did not lead back to the client within ${MOST_PAGES} pages.`);
}

interface PageRequest {
  readonly url: URL;
  /** The fields of a form; absent = a link or a redirect. */
  readonly form?: URLSearchParams;
}

async function open({ url, form }: PageRequest, jar: CookieJar): Promise<Response> {
  const response = await fetch(url, {
    method: form ? 'POST' : 'GET',
    body: form,
    headers: { cookie: jar.headerFor(url) },
    redirect: 'manual',
  });
  jar.keep(response);
  return response;
}

/** Fills in the form of a login or consent page. */
function submission(html: string, page: URL, status: number, login: string): PageRequest {
  const action = /<form[^>]* action="([^"]+)"/.exec(html)?.[1];
  if (!action) throw new Error(`${page.pathname} answered ${status} without a form: ${html.slice(0, 200)}`);
  const form = new URLSearchParams();
  for (const [, name = '', value = ''] of html.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)) {
    form.set(name, value);
  }
  if (html.includes('name="login"')) form.set('login', login);
  if (html.includes('name="password"')) form.set('password', 'any password');
  return { url: new URL(action, page), form };
}
