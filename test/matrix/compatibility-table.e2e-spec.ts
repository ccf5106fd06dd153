import { readFile } from 'node:fs/promises';

import { describe, expect, it } from '@jest/globals';

import { CELLS } from './cells.js';
import { resultOf, rowsOf, withResults } from './compatibility-table.js';

const names = CELLS.map(({ name }) => name);
const document = await readFile('docs/compatibility.md', 'utf8');

/** Returns the texts of a row without the padding. */
const textsOf = (row = '') => row.split('|').map((text) => text.trim());

describe('docs/compatibility.md', () => {
  it('has a row for each cell of the matrix, in its order, and no other', () => {
    expect([...rowsOf(document).keys()]).toEqual(names);
  });

  it('has a cell for each version that package.json supports', async () => {
    const manifest = JSON.parse(await readFile('package.json', 'utf8')) as {
      engines: { node: string };
      peerDependencies: Record<string, string>;
    };
    expect(manifest.engines.node).toBe('^20.19.0 || ^22.13.0 || >=24.0.0');
    expect(manifest.peerDependencies).toMatchObject({
      '@nestjs/core': '^11.0.0 || ^12.0.0',
      typeorm: '^0.3.15 || ^1.0.0',
    });
    expect(names).toEqual(
      expect.arrayContaining(['node20', 'node22', 'node24', 'nest11-typeorm03', 'nest12-typeorm03', 'nest11-typeorm1']),
    );
    expect(CELLS).toContainEqual(expect.objectContaining({ name: 'node20', node: '20.19.0' }));
    const oldest = CELLS.find(({ name }) => name === 'typeorm03-oldest');
    expect(oldest?.packages).toContain('typeorm@0.3.15');
  });
});

describe('A run of some cells', () => {
  it('writes the rows of these cells and leaves the rows of the others', () => {
    const result = resultOf('pg15', { outcome: 'FAILED: suites', suites: '3 passed, 1 failed' });
    const written = withResults(document, [result], names);
    const [before, after] = [rowsOf(document), rowsOf(written)];
    expect([...after.keys()]).toEqual(names);
    expect(textsOf(after.get('pg15'))).toEqual(expect.arrayContaining(['FAILED: suites', '3 passed, 1 failed']));
    for (const name of names.filter((each) => each !== 'pg15')) {
      expect(textsOf(after.get(name))).toEqual(textsOf(before.get(name)));
    }
    expect(written.replace(/^\|.*\n/gm, '')).toBe(document.replace(/^\|.*\n/gm, ''));
  });

  it('gives a cell that never ran a row that says so', () => {
    const written = withResults(document, [], [...names, 'node99']);
    expect(textsOf(rowsOf(written).get('node99'))).toContain('NOT RUN: never yet');
  });
});
