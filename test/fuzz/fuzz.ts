import { jest } from '@jest/globals';

const { FUZZ_RUNS } = process.env;
const numRuns = Number(FUZZ_RUNS ?? 10_000);
if (!Number.isInteger(numRuns) || numRuns < 1) throw new Error('FUZZ_RUNS must be a whole number from 1 on.');

/**
 * The parameters of every property in this folder, for `fc.assert`. By default the cases are the same in every run, so
 * that a test that fails has its cause in the change. `FUZZ_RUNS` in the environment sets the number of cases of each
 * property, and these are new in every run. A failure prints a seed and a path. Add both to the parameters to see the
 * case again.
 */
export const FUZZ = FUZZ_RUNS === undefined ? { numRuns, seed: 1 } : { numRuns };

// A case takes less than a millisecond. A busy machine needs longer.
jest.setTimeout(Math.max(60_000, 10 * FUZZ.numRuns));
