import { readFile, writeFile } from 'node:fs/promises';

import { format } from 'prettier';

/** What became of a cell. */
export interface CellResult {
  readonly cell: string;
  /** The versions that the suites ran with. They are empty if the cell did not run. */
  readonly versions: Readonly<Record<'node' | 'nest' | 'typeorm' | 'pg' | 'postgres', string>>;
  /** `passed`, `FAILED` or `NOT RUN`, and the reason of the last two. */
  readonly outcome: string;
  readonly suites: string;
  readonly tests: string;
  readonly minutes: string;
}

const HEAD = ['cell', 'Node.js', 'NestJS', 'TypeORM', 'pg', 'PostgreSQL', 'outcome', 'suites', 'tests', 'minutes'];
const BEGIN = '<!-- npm run test:matrix writes from here -->';
const END = '<!-- to here -->';

/** Makes a result. What is not known is empty. */
export function resultOf(cell: string, known: Partial<CellResult>): CellResult {
  const versions = { node: '', nest: '', typeorm: '', pg: '', postgres: '' };
  return { cell, versions, outcome: '', suites: '', tests: '', minutes: '', ...known };
}

/** Returns the rows of a document by the name of their cell. */
export function rowsOf(document: string): Map<string, string> {
  const rows = betweenMarkers(document).table.matchAll(/^\| `([^`]+)`.*$/gm);
  return new Map([...rows].map(([row, cell = '']) => [cell, row]));
}

/** Returns a Markdown table of results. */
export function tableOf(results: readonly CellResult[]): string {
  return [...headLines(), ...results.map(rowOf)].join('\n');
}

/**
 * Puts results into a document. The rows of other cells stay. A cell that never ran gets a row that says so. The rows
 * get the order of `cells`.
 */
export function withResults(document: string, results: readonly CellResult[], cells: readonly string[]): string {
  const { before, after } = betweenMarkers(document);
  const rows = rowsOf(document);
  for (const result of results) rows.set(result.cell, rowOf(result));
  const ordered = cells.map((cell) => rows.get(cell) ?? rowOf(resultOf(cell, { outcome: 'NOT RUN: never yet' })));
  return [before, '', ...headLines(), ...ordered, '', after].join('\n');
}

/** Puts results into the file of a document, as Prettier formats it. */
export async function writeResults(
  path: string,
  results: readonly CellResult[],
  cells: readonly string[],
): Promise<void> {
  const document = withResults(await readFile(path, 'utf8'), results, cells);
  await writeFile(path, await format(document, { parser: 'markdown', printWidth: 120 }));
}

function headLines(): string[] {
  return [`| ${HEAD.join(' | ')} |`, `| ${HEAD.map(() => '---').join(' | ')} |`];
}

function rowOf({ cell, versions, outcome, suites, tests, minutes }: CellResult): string {
  const { node, nest, typeorm, pg, postgres } = versions;
  const texts = [`\`${cell}\``, node, nest, typeorm, pg, postgres, outcome, suites, tests, minutes];
  return `| ${texts.map((text) => text.replaceAll('|', '\\|').replaceAll(/\s+/g, ' ')).join(' | ')} |`;
}

function betweenMarkers(document: string): { before: string; table: string; after: string } {
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`The document has no lines ${BEGIN} and ${END}.`);
  return {
    before: document.slice(0, begin + BEGIN.length),
    table: document.slice(begin + BEGIN.length, end),
    after: document.slice(end),
  };
}
