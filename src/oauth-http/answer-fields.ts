/** 300 years: far beyond any lifetime, far below what a bigint of epoch seconds holds. */
const MAX_LIFETIME_SECONDS = 1e10;

/** The fields of an answer, unchecked. */
export type Fields = Record<string, unknown>;

/** Reads JSON or a form by what the body is: labels are wrong at times, and a pair in it would be lost. */
export function parseFields(body: string): Fields | undefined {
  const text = body.replace(/^\uFEFF/, '').trim();
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'object' && parsed !== null ? { ...parsed } : undefined;
  } catch {
    return /(^|&)(access_token|error)=/.test(text) ? Object.fromEntries(new URLSearchParams(text)) : undefined;
  }
}

/** An error code of the provider if it looks like one: anything else could be an echo of what was sent. */
export function oauthErrorCode(value: unknown): string | undefined {
  if (value === undefined || value === null || value === '') return undefined;
  return typeof value === 'string' && /^[a-z][a-z_]{0,63}$/.test(value) ? value : 'unknown_error';
}

/** A text with something in it. */
export function nonEmptyText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** Seconds as a number or, in form-encoded answers, as text; 0 means "does not expire" and is left out. */
export function lifetime(value: unknown): number | undefined {
  const seconds = typeof value === 'string' && value !== '' ? Number(value) : value;
  return typeof seconds === 'number' && Number.isFinite(seconds) && seconds >= 1
    ? Math.min(Math.floor(seconds), MAX_LIFETIME_SECONDS)
    : undefined;
}
