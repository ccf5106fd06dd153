import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { describe, expect, it } from '@jest/globals';

import { listDocuments } from './support/documents.js';
import { testNames } from './support/test-names.js';

const documents = await listDocuments();

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

/** The documents whose promises name their tests, and their sections that promise nothing. */
const PROMISES: [string, string[]][] = [
  ['docs/reference/guarantees.md', ['What it cannot do']],
  ['SECURITY.md', []],
];

/** Reads `path`: "full name", as the documents name a test. */
const NAMED_TEST = /^ {2}- `([\w./-]+)`: "(.+)"$/;

describe.each(PROMISES)('The promises of %s', (document, exceptSections) => {
  it('name tests that exist, by their file and their full name', async () => {
    const lines = (await readFile(document, 'utf8')).split('\n');
    const named = lines.flatMap((line) => {
      const [, path, name] = NAMED_TEST.exec(line) ?? [];
      return path !== undefined && name !== undefined ? [{ path, name }] : [];
    });
    expect(named.length).toBeGreaterThan(20);
    const missing: typeof named = [];
    for (const each of named) {
      const source = existsSync(each.path) ? await readFile(each.path, 'utf8') : '';
      if (!testNames(source).includes(each.name)) missing.push(each);
    }
    expect(missing).toEqual([]);
  });

  it('are each backed by a test', async () => {
    const sections = (await readFile(document, 'utf8')).split(/^(?=## )/m);
    const promises = sections
      .filter((section) => !exceptSections.some((title) => section.startsWith(`## ${title}\n`)))
      // What remains in the memory is no promise.
      .map((section) => section.replace(/^These remain:$[^]*?(?=^#|(?![^]))/m, ''))
      .flatMap((section) => section.split(/^(?=- |#|\n)/m).filter((item) => item.startsWith('- ')));
    expect(promises.length).toBeGreaterThan(10);
    expect(promises.filter((item) => !item.split('\n').some((line) => NAMED_TEST.test(line)))).toEqual([]);
  });
});

describe('The runtime dependencies', () => {
  it('are those that the documents name', async () => {
    const { dependencies } = JSON.parse(await readFile('package.json', 'utf8')) as { dependencies: object };
    const named = (text: string | undefined, pattern: RegExp) =>
      [...(text ?? '').matchAll(pattern)].map(([, name = '']) => name).toSorted();
    const [sentence] =
      /The runtime dependencies are[^]*?\.\n/.exec(await readFile('docs/getting-started.md', 'utf8')) ?? [];
    const [section] = /## What it depends on\n[^]*?\n## /.exec(await readFile('CONTRIBUTING.md', 'utf8')) ?? [];
    expect(named(sentence, /`([^`]+)`/g)).toEqual(Object.keys(dependencies).toSorted());
    expect(named(section, /^\| `([^`]+)`/gm)).toEqual(Object.keys(dependencies).toSorted());
  });
});

describe('The README', () => {
  it('fits in 150 lines', async () => {
    expect((await readFile('README.md', 'utf8')).split('\n').length).toBeLessThanOrEqual(151);
  });

  it('has the figures of the pages that it links to', async () => {
    const readme = await readFile('README.md', 'utf8');
    const reliability = await readFile('docs/reliability.md', 'utf8');
    const performance = await readFile('docs/performance.md', 'utf8');
    const [, tried, recovered, reconnected, lost] =
      /^\| \*\*all\*\* +\| \*\*(\d+)\*\* +\| \*\*(\d+)\*\* +\| \*\*(\d+)\*\* +\| \*\*(\d+)\*\*/m.exec(reliability) ??
      [];
    expect(readme).toContain(`${tried} runs with a fault`);
    expect(readme).toContain(`${lost} rows lost; ${recovered} recover, in ${reconnected} the user connects again`);
    expect(reliability).toMatch(/\| 4 processes × 500 callers find one token expired +\| 1 +\| 0 /);
    expect(readme).toMatch(
      /\| 4 processes × 500 callers find one token expired +\| 1 request to the provider, 0 errors /,
    );
    const [, ratio] = /^\| 32 +\|[^|]+\|[^|]+\| ([\d.]+) /m.exec(performance) ?? [];
    expect(readme).toContain(`${ratio} times as many`);
  });
});
