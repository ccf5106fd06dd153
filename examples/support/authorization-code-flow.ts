import { CookieJar } from './cookie-jar.js';

const MOST_PAGES = 12;

/** The user of the browser. */
export interface BrowserUser {
  login: string;
  /** Default: any text. The authorization server of the demo accepts every password. */
  password?: string;
  /** The redirect URI of a request that was pushed, because its URL does not name it. @see RFC 9126 section 4 */
  redirectUri?: string;
}

/**
 * Opens an authorization URL as a browser would. It logs in and consents on every page of that server, and of a server
 * to which the page redirects the browser. It follows the redirects until one leads back to the client.
 *
 * @returns the URL of this redirect, before a request to it: the redirect URI with `code` and `state`, or with `error`
 */
export async function authorize(authorizationUrl: string | URL, user: BrowserUser): Promise<URL> {
  const start = new URL(authorizationUrl);
  const redirectUri = user.redirectUri ?? start.searchParams.get('redirect_uri');
  if (!redirectUri) throw new Error(`${start.pathname} names no redirect_uri.`);
  const jars = new Map<string, CookieJar>();
  let request: PageRequest = { url: start };
  for (let page = 0; page < MOST_PAGES; page++) {
    const jar = jars.get(request.url.origin) ?? new CookieJar();
    jars.set(request.url.origin, jar);
    const response = await open(request, jar);
    const location = response.headers.get('location');
    if (location) {
      request = { url: new URL(location, request.url) };
      if (request.url.href.startsWith(redirectUri)) return request.url;
    } else {
      request = submission(await response.text(), request.url, response.status, user);
    }
  }
  throw new Error(`${start.origin} did not lead back to the client within ${MOST_PAGES} pages.`);
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

/** Returns the request that a login or consent page gets when the user has filled in its form. */
function submission(html: string, page: URL, status: number, user: BrowserUser): PageRequest {
  const action = /<form[^>]*\baction="([^"]+)"/.exec(html)?.[1]?.replaceAll('&amp;', '&');
  if (!action) throw new Error(`${page.pathname} answered ${status} without a form: ${html.slice(0, 200)}`);
  const form = new URLSearchParams();
  for (const [, name = '', value = ''] of html.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)) {
    form.set(name, value);
  }
  for (const name of ['login', 'username']) {
    if (html.includes(`name="${name}"`)) form.set(name, user.login);
  }
  if (html.includes('name="password"')) form.set('password', user.password ?? 'any password');
  return { url: new URL(action, page), form };
}
