import { inspect } from 'node:util';

/**
 * Returns everything that a log line or a debugger would show of a value: its message, stack, JSON and inspection, also
 * of its causes.
 */
export function everythingPrinted(value: unknown): string {
  const error = value instanceof Error ? [value.message, value.stack, json(value.cause)] : [];
  return [...error, String(value), json(value), inspect(value, { depth: 10, showHidden: true })].join('\n');
}

function json(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined; // JSON shows nothing of a circular value
  }
}
