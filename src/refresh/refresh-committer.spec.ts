import { describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';

import { TokenStoreUnavailableError } from '../tokens.errors.js';
import { RefreshCommitter } from './refresh-committer.js';
import { RefreshDrain } from './refresh-drain.js';
import type { NewTokens, RefreshKind, RefreshTarget } from './refresh-target.js';
import { RefreshSettings } from './refresh.options.js';

/** Commits tokens whose row the host deleted. Returns how often the committer tried to note them for revocation. */
async function triesToDisown(failures: Error[]): Promise<number> {
  const drain = new RefreshDrain(new RefreshSettings());
  const disown = jest.fn(() => {
    const failure = failures.shift();
    return failure ? Promise.reject(failure) : Promise.resolve();
  });
  const target = { leases: { commit: () => Promise.resolve(false) }, load: () => Promise.resolve(null), disown };
  const tokens = { redeemed: { id: '1' }, successor: { redeemedVersion: '1', version: '2' } };
  await new RefreshCommitter(drain).commit(
    // The target and the tokens have only what the committer reads.
    target as unknown as RefreshTarget<RefreshKind>,
    tokens as unknown as NewTokens<RefreshKind>,
    undefined as never,
  );
  await drain.onModuleDestroy();
  return disown.mock.calls.length;
}

describe('tokens whose row was deleted during the refresh', () => {
  it.each([
    ['the server is away', new TokenStoreUnavailableError('PostgreSQL did not answer.')],
    ['the code of the host fails', new Error('the vault is sealed')],
    ['a fault of the program', new TypeError('x is not a function')],
  ])('are noted for revocation also if %s for a moment', async (_, failure) => {
    jest.spyOn(Logger.prototype, 'error').mockReturnValue();
    await expect(triesToDisown([failure, failure])).resolves.toBe(3);
  });

  it('are given up when the server refuses them for good', async () => {
    jest.spyOn(Logger.prototype, 'error').mockReturnValue();
    await expect(triesToDisown([new TokenStoreUnavailableError('no right', '42501')])).resolves.toBe(1);
  });
});
