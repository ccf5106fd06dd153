import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Returns the paths of all documents. */
export async function listDocuments(): Promise<string[]> {
  return [
    ...(await readdir('.')).filter((name) => name.endsWith('.md')),
    ...(await readdir('docs', { recursive: true }))
      .filter((name) => name.endsWith('.md'))
      .map((name) => join('docs', name)),
    'test/README.md',
  ];
}

/** A block of code between two fences. */
export interface CodeBlock {
  readonly language: string;
  readonly code: string;
  /** Line of the document at which the code begins; the first line of the document is 1. */
  readonly line: number;
}

/** Returns the blocks of code of a document. Throws if a fence is not closed. */
export async function codeBlocksOf(document: string): Promise<CodeBlock[]> {
  const lines = (await readFile(document, 'utf8')).split('\n');
  const blocks: CodeBlock[] = [];
  let open: { language: string; line: number } | undefined;
  lines.forEach((text, index) => {
    const fence = /^\s*```(.*)$/.exec(text);
    if (!fence) return;
    if (!open) {
      open = { language: (fence[1] ?? '').trim(), line: index + 2 };
      return;
    }
    blocks.push({ ...open, code: lines.slice(open.line - 1, index).join('\n') });
    open = undefined;
  });
  if (open) throw new Error(`${document}:${open.line} begins a block of code that does not end.`);
  return blocks;
}

/** Returns the rows of the tables of a document, without the heads and without the spaces around a cell. */
export async function tableRowsOf(document: string): Promise<string[][]> {
  const lines = (await readFile(document, 'utf8')).split('\n');
  return lines
    .filter(
      (line, index) => line.startsWith('|') && !/^\|[ |-]+$/.test(line) && !/^\|[ |-]+$/.test(lines[index + 1] ?? ''),
    )
    .map((line) =>
      line
        .slice(1, -1)
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim()),
    );
}
