import { MAX_SCOPES_LENGTH, scopeList } from '../scopes.js';

/** About 300 years. No token is valid so long, and a bigint can store the expiry in epoch seconds. */
const MAX_LIFETIME_SECONDS = 1e10;

/** The fields of an answer, unchecked. */
export type Fields = Record<string, unknown>;

/**
 * Reads the fields of a JSON body or of a form. The body itself decides which of them it is, because a `Content-Type`
 * can be wrong, and then the pair in the body would be lost. A form begins with a field, and has no white space and no
 * `<`, because its encoding escapes both. So neither a page with a link to `?access_token=…` nor the link is a form.
 *
 * @see https://url.spec.whatwg.org/#application/x-www-form-urlencoded
 */
export function parseFields(body: string): Fields | undefined {
  const text = textOf(body);
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'object' && parsed !== null ? { ...parsed } : undefined;
  } catch {
    const isForm = /^[\w.~%+*-]+=/.test(text) && /(^|&)(access_token|error)=/.test(text) && !/[<\s]/.test(text);
    return isForm ? Object.fromEntries(new URLSearchParams(text)) : undefined;
  }
}

/** Returns whether a body is a page of HTML or another document with tags. A server in between often sends one. */
export function isPage(body: string): boolean {
  return textOf(body).startsWith('<');
}

function textOf(body: string): string {
  return body.replace(/^\uFEFF/, '').trim();
}

/**
 * Returns the error code of an answer, or undefined if it has none. A value that does not have the form of an error
 * code becomes `unknown_error`, because it could repeat a part of the request.
 */
export function oauthErrorCode(value: unknown): string | undefined {
  if (value === undefined || value === null || value === '') return undefined;
  return typeof value === 'string' && /^[a-z][a-z_]{0,63}$/.test(value) ? value : 'unknown_error';
}

/** Returns the value if it is a text that is not empty. */
export function nonEmptyText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/**
 * Returns a lifetime in whole seconds. The value may be text, because a form has only text. Returns undefined for 0,
 * which means "does not expire", and for everything else that is not at least one second.
 */
export function lifetime(value: unknown): number | undefined {
  const seconds = typeof value === 'string' && value !== '' ? Number(value) : value;
  return typeof seconds === 'number' && Number.isFinite(seconds) && seconds >= 1
    ? Math.min(Math.floor(seconds), MAX_LIFETIME_SECONDS)
    : undefined;
}

/**
 * Returns the scopes that an answer names. Returns nothing if the answer names none, or none that can be stored. An empty
 * text names none, because it is no scope of RFC 6749, and a GitHub App answers so. Twitch has a list, which can be
 * empty. Bitbucket has the name `scopes`.
 *
 * @see RFC 6749 section 3.3
 */
export function scopesIn({ scope, scopes }: Fields): { readonly scopes?: readonly string[] } {
  const named = scope ?? scopes;
  const texts: unknown[] = Array.isArray(named) ? named : [named];
  if (named === '' || !texts.every((text) => typeof text === 'string')) return {};
  const list = scopeList(texts);
  const text = list.join(' ');
  const isStorable = text.length <= MAX_SCOPES_LENGTH && !text.includes('\0') && text.isWellFormed();
  return isStorable ? { scopes: list } : {};
}
