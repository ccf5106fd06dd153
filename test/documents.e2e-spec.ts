import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { describe, expect, it } from '@jest/globals';

const documents = [
  ...(await readdir('.')).filter((name) => name.endsWith('.md')),
  ...(await readdir('docs', { recursive: true }))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
  'test/README.md',
];

const sources = await Promise.all(
  (await readdir('src', { recursive: true }))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFile(join('src', name), 'utf8')),
);

/** Returns the anchor of a heading, as GitHub makes it. */
function anchorOf(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');
}

async function anchorsOf(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8');
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading));
}

describe.each(documents)('%s', (document) => {
  it('links to files and headings that exist', async () => {
    const text = await readFile(document, 'utf8');
    const broken: string[] = [];
    for (const [, link = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^(https?|mailto):/.test(link)) continue;
      const [file = '', anchor] = link.split('#');
      const path = file === '' ? document : join(dirname(document), file);
      if (!existsSync(path)) broken.push(link);
      else if (anchor !== undefined && path.endsWith('.md') && !(await anchorsOf(path)).includes(anchor))
        broken.push(link);
    }
    expect(broken).toEqual([]);
  });

  it('names files that exist', async () => {
    const text = await readFile(document, 'utf8');
    const named = [...text.matchAll(/`((?:src|test|docs|bench|examples)\/[\w./-]+)`/g)].map(([, path = '']) => path);
    expect(named.filter((path) => !existsSync(path))).toEqual([]);
  });

  it('names methods that exist', async () => {
    const text = await readFile(document, 'utf8');
    const named = [...text.matchAll(/`([A-Z]\w+)\.(\w+)`/g)].map(([, owner = '', member = '']) => ({ owner, member }));
    const missing = named.filter(({ owner, member }) => {
      const declared = sources.find((source) => new RegExp(`class ${owner}\\b`).test(source));
      return declared !== undefined && !new RegExp(`\\b${member}\\b`).test(declared);
    });
    expect(missing).toEqual([]);
  });
});
