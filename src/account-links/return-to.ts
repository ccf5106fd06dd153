import { InvalidTokenInputError } from '../tokens.errors.js';

/** The longest URL to return to, in characters. */
const MAX_LENGTH = 2048;
/** Control characters, blanks and backslashes. Browsers drop the first ones, and read the last one as a slash. */
const MISREAD = /[\u0000-\u0020\u007f-\u009f\\]/;
/** The origin of no host, to resolve a path. */
const NOWHERE = 'http://host.invalid';
/** Segments that lead to another folder. */
const DOTS = /\/(\.|%2e){1,2}(\/|$)/i;
/** How often servers and proxies may decode a path before one of them redirects. */
const MOST_DECODINGS = 3;

/**
 * Returns the URL to which the host may send a browser: a path of the host with its query and fragment, or an absolute
 * URL that the allow-list has. The result has only ASCII characters, and can be the value of `Location`.
 *
 * @param allowed origins, or URLs with the path below which every path is allowed
 * @throws {@link InvalidTokenInputError} for everything that a browser, a proxy or a server could read as the URL of
 * another host
 */
export function checkReturnTo(returnTo: unknown, allowed: readonly string[]): string {
  if (typeof returnTo !== 'string' || returnTo.length > MAX_LENGTH || MISREAD.test(returnTo)) throw refused();
  const checked = returnTo.startsWith('/') ? pathOf(returnTo) : allowedUrl(returnTo, allowed);
  if (checked === undefined) throw refused();
  return checked;
}

/** Returns the first fault of an allow-list, or undefined. */
export function allowListFault(allowed: unknown): string | undefined {
  const isAllowed = (each: unknown) => {
    if (typeof each !== 'string' || !URL.canParse(each) || MISREAD.test(each)) return false;
    const { protocol, username, password, search, hash } = new URL(each);
    return /^https?:$/.test(protocol) && [username, password, search, hash].every((part) => part === '');
  };
  if (Array.isArray(allowed) && allowed.every(isAllowed)) return undefined;
  return 'must be a list of http or https URLs without credentials, query and fragment';
}

/** Returns the normal form of a path; undefined if it can lead to another host. */
function pathOf(returnTo: string): string | undefined {
  if (!URL.canParse(returnTo, NOWHERE)) return undefined;
  const url = new URL(returnTo, NOWHERE);
  const given = /^[^?#]*/.exec(returnTo)?.[0] ?? '';
  const isOfHost = (path: string) => !path.startsWith('//');
  const isSafe = url.origin === NOWHERE && [given, url.pathname].every((path) => isEachReading(path, isOfHost));
  return isSafe ? url.pathname + url.search + url.hash : undefined;
}

/** Whether each reading of a path is so: as it is and after some decodings, with its dots and without them. */
function isEachReading(path: string, isSo: (path: string) => boolean): boolean {
  let decoded: string | undefined = path;
  for (let decodings = 0; decodings <= MOST_DECODINGS; decodings++) {
    if (decoded === undefined || MISREAD.test(decodings === 0 ? decoded : decoded.replaceAll(' ', ''))) return false;
    if (!isSo(decoded) || !isSo(withoutDots(decoded))) return false;
    // A wrong encoding from the start is refused. Later it may be a text that is encoded no more.
    decoded = decodedOnce(decoded) ?? (decodings === 0 ? undefined : leniently(decoded));
  }
  return true;
}

/** A server that has decoded a `?` or a `#` takes it for a part of the path. */
function withoutDots(path: string): string {
  return new URL(NOWHERE + path.replace(/[?#]/g, encodeURIComponent)).pathname;
}

function decodedOnce(path: string): string | undefined {
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}

/** Decodes as a server does that leaves what it cannot decode. */
function leniently(path: string): string {
  return path.replace(/%([0-7][\da-f])/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
}

function allowedUrl(returnTo: string, allowed: readonly string[]): string | undefined {
  if (!URL.canParse(returnTo)) return undefined;
  const url = new URL(returnTo);
  if (!/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') return undefined;
  // Dots that a server decodes would lead out of an allowed path.
  if (!isEachReading(url.pathname, (path) => !DOTS.test(path))) return undefined;
  const isBelow = (each: string) => {
    const { origin, pathname } = new URL(each);
    const folder = pathname.endsWith('/') ? pathname : `${pathname}/`;
    return url.origin === origin && (url.pathname === pathname || url.pathname.startsWith(folder));
  };
  return allowed.some(isBelow) ? url.href : undefined;
}

function refused(): InvalidTokenInputError {
  return new InvalidTokenInputError(
    'returnTo must be a path of the application, or a URL that accountLinks.allowedReturnTo of the options has. ' +
      'Every other URL could send the user to another host.',
  );
}
