/** The width for which a stream gets its lines if it is no terminal. */
export const DEFAULT_COLUMNS = 80;
const GAP = '  ';

/** Characters that move the cursor of a terminal or turn the direction of a text. Line feeds are not among them. */
const CONTROLS = /(?!\n)[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/**
 * Returns a text with the codes of its control characters in their place. The name of an account is from a provider,
 * and must not act on the terminal of the operator.
 */
export function printable(text: string): string {
  return text.replace(CONTROLS, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Wraps a text at blanks, and within a word that is longer than a line. Lines after the first one are indented. */
export function wrap(text: string, columns: number, indent = ''): string {
  return text
    .split('\n')
    .map((line) => wrapLine(line, columns, indent))
    .join('\n');
}

function wrapLine(text: string, columns: number, indent: string): string {
  if (text.length <= columns) return text;
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    let rest = word;
    const isFirst = line === '' || line === indent;
    if (!isFirst && line.length + 1 + rest.length > columns) {
      lines.push(line);
      line = indent;
    }
    for (;;) {
      const start = line === '' || line === indent ? line : `${line} `;
      const room = Math.max(1, columns - start.length);
      if (rest.length <= room) {
        line = start + rest;
        break;
      }
      lines.push(start + rest.slice(0, room));
      rest = rest.slice(room);
      line = indent;
    }
  }
  return [...lines, line].join('\n');
}

/** A table of texts. Numbers are right-aligned. */
export interface TextTable {
  readonly headers: readonly string[];
  readonly rows: readonly (readonly (string | number)[])[];
}

/** Returns a table in columns. If it is too wide, it returns a block for each row, with a line for each cell. */
export function renderTable({ headers, rows }: TextTable, columns: number): string {
  const widths = headers.map((header, position) =>
    Math.max(header.length, ...rows.map((row) => String(row[position] ?? '').length)),
  );
  const total = widths.reduce((sum, width) => sum + width, 0) + GAP.length * (widths.length - 1);
  if (total > columns) return rows.map((row) => block(headers, row, columns)).join('\n');
  const line = (cells: readonly (string | number)[]) =>
    cells
      .map((cell, position) => {
        const width = widths[position] ?? 0;
        return typeof cell === 'number' ? String(cell).padStart(width) : cell.padEnd(width);
      })
      .join(GAP)
      .trimEnd();
  const isNumber = headers.map(
    (_, position) => rows.length > 0 && rows.every((row) => typeof row[position] === 'number'),
  );
  const header = headers.map((each, position) => (isNumber[position] ? each.padStart(widths[position] ?? 0) : each));
  return [line(header), ...rows.map(line)].join('\n');
}

/** Returns lines of a label and a value. */
export function renderFields(
  fields: readonly (readonly [label: string, value: string | number])[],
  columns: number,
): string {
  const width = Math.max(...fields.map(([label]) => label.length));
  return fields
    .map(([label, value]) => wrap(`${label.padEnd(width)}${GAP}${value}`, columns, ' '.repeat(Math.min(width + 2, 8))))
    .join('\n');
}

function block(headers: readonly string[], row: readonly (string | number)[], columns: number): string {
  const [title = '', ...cells] = row;
  const lines = cells.map((cell, position) => wrap(`${GAP}${headers[position + 1] ?? ''}: ${cell}`, columns, '    '));
  return [wrap(`${headers[0] ?? ''}: ${title}`, columns, GAP), ...lines].join('\n');
}
