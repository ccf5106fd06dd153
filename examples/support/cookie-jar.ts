interface Cookie {
  readonly name: string;
  readonly value: string;
  readonly path: string;
}

/** The cookies of one host, by name and path, as a browser keeps them. It ignores domains and future expiry dates. */
export class CookieJar {
  readonly #cookies = new Map<string, Cookie>();

  /** Value of the `Cookie` header for a request. */
  headerFor(url: URL): string {
    return [...this.#cookies.values()]
      .filter(({ path }) => isWithin(url.pathname, path))
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ');
  }

  keep(response: Response): void {
    for (const line of response.headers.getSetCookie()) {
      const [pair = '', ...attributes] = line.split(/;\s*/);
      const [name, value] = split(pair);
      const path = attribute(attributes, 'path') ?? '/';
      const expires = attribute(attributes, 'expires');
      const isOver = value === '' || (expires !== undefined && Date.parse(expires) <= Date.now());
      if (isOver) this.#cookies.delete(`${name};${path}`);
      else this.#cookies.set(`${name};${path}`, { name, value, path });
    }
  }
}

function attribute(attributes: string[], wanted: string): string | undefined {
  return attributes.map(split).find(([name]) => name.toLowerCase() === wanted)?.[1];
}

function split(pair: string): [name: string, value: string] {
  const separator = pair.indexOf('=');
  return separator < 0 ? [pair, ''] : [pair.slice(0, separator), pair.slice(separator + 1)];
}

/** @see RFC 6265 section 5.1.4 */
function isWithin(pathname: string, path: string): boolean {
  return pathname === path || pathname.startsWith(path.endsWith('/') ? path : `${path}/`);
}
