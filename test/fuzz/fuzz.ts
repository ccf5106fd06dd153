import { jest } from '@jest/globals';

const numRuns = Number(process.env.FUZZ_RUNS ?? 10_000);
if (!Number.isInteger(numRuns) || numRuns < 1) throw new Error('FUZZ_RUNS must be a whole number from 1 on.');

/**
 * The parameters of every property in this folder, for `fc.assert`. `FUZZ_RUNS` in the environment sets the number of
 * cases of each property. A failure prints a seed and a path. Add both to the parameters to see the case again.
 */
export const FUZZ = { numRuns };

// A case takes less than a millisecond. A busy machine needs longer.
jest.setTimeout(Math.max(60_000, 10 * FUZZ.numRuns));
