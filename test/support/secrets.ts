import { inspect } from 'node:util';

/** Everything that a log line or a debugger would show of a value: its message, JSON and inspection, causes included. */
export function everythingPrinted(value: unknown): string {
  const error = value instanceof Error ? [value.message, value.stack, json(value.cause)] : [];
  return [...error, String(value), json(value), inspect(value, { depth: 10, showHidden: true })].join('\n');
}

function json(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined; // circular: JSON shows nothing of it
  }
}
