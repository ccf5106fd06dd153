/** An hour: what a provider asks for beyond that is a mistake more often than a wish. */
export const MAX_RETRY_AFTER_MS = 3_600_000;

/** `Retry-After` in milliseconds, from seconds or an HTTP date; at most one hour. @see RFC 9110 section 10.2.3 */
export function retryAfter(headers: Headers): number | undefined {
  const value = headers.get('retry-after');
  if (!value) return undefined;
  const delayMs = /^\d+$/.test(value)
    ? Number(value) * 1000
    : Date.parse(value) - Date.parse(headers.get('date') ?? new Date().toUTCString());
  return Number.isNaN(delayMs) ? undefined : Math.min(Math.max(delayMs, 0), MAX_RETRY_AFTER_MS);
}
