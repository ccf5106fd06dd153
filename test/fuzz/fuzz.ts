export const FUZZ = { numRuns: Number(process.env.FUZZ_RUNS ?? 10_000) };
