import { describe, expect, it } from '@jest/globals';

import { printable, renderFields, renderTable, wrap } from './text-layout.js';

describe('The layout', () => {
  it('wraps at blanks, and inside of a word that is too long', () => {
    expect(wrap('one two three', 7, '  ')).toBe('one two\n  three');
    expect(wrap('abcdefghij', 4, ' ')).toBe('abcd\n efg\n hij');
    expect(wrap('short\nalso', 7)).toBe('short\nalso');
  });

  it('aligns a table that fits, with numbers at the right', () => {
    const table = {
      headers: ['name', 'rows'],
      rows: [
        ['a', 5],
        ['bcdef', 1000],
      ],
    };
    expect(renderTable(table, 40)).toBe('name   rows\na         5\nbcdef  1000');
  });

  it('prints a table that is too wide as blocks, without a line that is too long', () => {
    const table = { headers: ['name', 'cause'], rows: [['a'.repeat(30), 'some cause or other']] };
    const lines = renderTable(table, 20).split('\n');
    expect(lines.filter((line) => line.length > 20)).toEqual([]);
    expect(lines[0]).toContain('name:');
  });

  it('shows what would move the cursor or turn the text, and keeps line feeds and letters', () => {
    expect(printable('a\u001b[2Jb\r\u009bc\td\u202ee\nf')).toBe('a\\u001b[2Jb\\u000d\\u009bc\\u0009d\\u202ee\nf');
    expect(printable('Zoë "山" 👩‍💻')).toBe('Zoë "山" 👩‍💻');
  });

  it('never loses a character of a value', () => {
    const value = 'x'.repeat(100);
    expect(renderFields([['label', value]], 20).replace(/[^x]/g, '')).toBe(value);
  });
});
