/** The longest pause, one hour, because providers send a longer `Retry-After` mostly by mistake. */
export const MAX_RETRY_AFTER_MS = 3_600_000;

/**
 * Returns `Retry-After` in milliseconds, at most one hour, or undefined if there is none. The header has seconds or an
 * HTTP date.
 *
 * @see RFC 9110 section 10.2.3
 */
export function retryAfter(headers: Headers): number | undefined {
  const value = headers.get('retry-after');
  if (!value) return undefined;
  const delayMs = /^\d+$/.test(value)
    ? Number(value) * 1000
    : Date.parse(value) - Date.parse(headers.get('date') ?? new Date().toUTCString());
  return Number.isNaN(delayMs) ? undefined : Math.min(Math.max(delayMs, 0), MAX_RETRY_AFTER_MS);
}
