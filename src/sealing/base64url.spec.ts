import { randomBytes } from 'node:crypto';

import { describe, expect, it } from '@jest/globals';

import { decodeBase64url } from './base64url.js';

const memory = Buffer.alloc(256);

describe('decodeBase64url', () => {
  it('writes the bytes at the position, whatever their number', () => {
    for (let size = 0; size < 70; size++) {
      const bytes = randomBytes(size);
      expect(decodeBase64url(bytes.toString('base64url'), memory, 7)).toBe(size);
      expect(memory.subarray(7, 7 + size)).toEqual(bytes);
    }
  });

  it.each([
    ['padding', 'QUE='],
    ['base64', '+/+/'],
    ['base64 that mixes', '-_+_'],
    ['a space', 'QU E'],
    ['a line break at the end', 'QUFB\n'],
    ['a NUL', 'QU\0B'],
    ['a character of two bytes', 'QUFü'],
    ['a character whose low byte is in the alphabet', 'QU\u0142B'],
    ['a character whose low byte is a plus', 'QU\u012bB'],
    ['a character of three bytes', 'QU\u4e41B'],
    ['a dot', 'QU.B'],
    ['one character beyond a group', 'QUFBQ'],
    ['unused bits of one byte', 'QR'],
    ['unused bits of two bytes', 'QUF'],
  ])('refuses %s', (_, text) => {
    expect(decodeBase64url(text, memory, 0)).toBe(-1);
  });

  it('accepts exactly one spelling of each last character', () => {
    const alphabet = Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_');
    expect(alphabet.filter((last) => decodeBase64url(`A${last}`, memory, 0) === 1)).toEqual(['A', 'Q', 'g', 'w']);
    expect(alphabet.filter((last) => decodeBase64url(`AA${last}`, memory, 0) === 2)).toHaveLength(16);
    expect(alphabet.filter((last) => decodeBase64url(`AAA${last}`, memory, 0) === 3)).toHaveLength(64);
  });
});
