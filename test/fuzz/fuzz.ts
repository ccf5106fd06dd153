import { jest } from '@jest/globals';

/**
 * The parameters of every property in this folder, for `fc.assert`. `FUZZ_RUNS` in the environment sets the number of
 * cases of each property. A failure prints a seed and a path. Add both to the parameters to see the case again.
 */
export const FUZZ = { numRuns: Number(process.env.FUZZ_RUNS ?? 10_000) };

// A case takes less than a millisecond. A busy machine needs longer.
jest.setTimeout(Math.max(60_000, 10 * FUZZ.numRuns));
