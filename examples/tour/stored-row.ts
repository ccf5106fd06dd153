import type { StoredRow } from '../account/stored-rows.service.js';

const SHOWN = 28;

/** Returns a row of a table with one column per line. Sealed texts are shortened. */
export function describeRow(row: StoredRow): string {
  return Object.entries(row)
    .map(([column, value]) => `       ${column.padEnd(26)}${shorten(value ?? 'null')}`)
    .join('\n');
}

function shorten(value: string): string {
  return value.length > 2 * SHOWN ? `${value.slice(0, SHOWN)}… (${value.length} characters)` : value;
}
