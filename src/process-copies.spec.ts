import { beforeEach, describe, expect, it, jest } from '@jest/globals';

import { noteCopy } from './process-copies.js';

describe('noteCopy', () => {
  const emitWarning = jest.fn<NodeJS.Process['emitWarning']>();
  const note = (url: string | undefined) => {
    noteCopy(url, { emitWarning } as Pick<NodeJS.Process, 'emitWarning'>);
  };

  beforeEach(() => {
    emitWarning.mockReset();
    Reflect.deleteProperty(globalThis, Symbol.for('nestjs-idp-tokens.copies'));
  });

  it('warns once about another copy, and names the files', () => {
    note('file:///app/a.js');
    note('file:///library/a.js');
    note('file:///library/a.js');
    expect(emitWarning.mock.calls).toEqual([
      [
        expect.stringContaining('more than once: file:///app/a.js and file:///library/a.js.'),
        { type: 'TokensWarning', code: 'NESTJS_IDP_TOKENS_COPIES' },
      ],
    ]);
  });

  it('says nothing when a test runner loads the same file again', () => {
    note('file:///app/a.js');
    note('file:///app/a.js?version=2');
    expect(emitWarning).not.toHaveBeenCalled();
  });

  it('says nothing in a bundle that does not know its file', () => {
    note('file:///app/a.js');
    note(undefined);
    expect(emitWarning).not.toHaveBeenCalled();
  });
});
