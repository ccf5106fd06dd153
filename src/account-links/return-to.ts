import { InvalidTokenInputError } from '../tokens.errors.js';

/** The longest URL to return to, in characters. */
const MAX_LENGTH = 2048;
/** Control characters, blanks and backslashes. Browsers drop the first ones, and read the last one as a slash. */
const MISREAD = /[\u0000-\u0020\u007f-\u009f\\]/;
/** The origin of no host, to resolve a path. */
const NOWHERE = 'http://host.invalid';
/** How often a server or a proxy may decode a path before it redirects. */
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
  if (url.origin !== NOWHERE || !isSafe(/^[^?#]*/.exec(returnTo)?.[0] ?? '') || !isSafe(url.pathname)) return undefined;
  return url.pathname + url.search + url.hash;
}

/** Whether a path stays at its host, also if a server in between decodes it. */
function isSafe(path: string): boolean {
  let decoded = path;
  for (let decodings = 0; ; decodings++) {
    if (MISREAD.test(decodings === 0 ? decoded : decoded.replaceAll(' ', ''))) return false;
    const isElsewhere = decoded.startsWith('//') || new URL(`${NOWHERE}${decoded}`).pathname.startsWith('//');
    if (isElsewhere) return false;
    if (decodings === MOST_DECODINGS) return true;
    try {
      decoded = decodeURIComponent(decoded);
    } catch {
      return decodings > 0; // a text that is encoded no more; a wrong encoding from the start is refused
    }
  }
}

function allowedUrl(returnTo: string, allowed: readonly string[]): string | undefined {
  if (!URL.canParse(returnTo)) return undefined;
  const url = new URL(returnTo);
  if (!/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') return undefined;
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
