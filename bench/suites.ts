import { measureGrowth } from './suites/growth.js';
import { measureHttp } from './suites/http.js';
import { measureReads } from './suites/reads.js';
import { measureStores } from './suites/stores.js';
import { measureStorm } from './suites/storm.js';

/** What `npm run bench` measures, in this order. */
export const SUITES = {
  reads: measureReads,
  stores: measureStores,
  http: measureHttp,
  storm: measureStorm,
  growth: measureGrowth,
};

export type SuiteName = keyof typeof SUITES;

/** The results of a run; a suite that was not asked for is missing. */
export type Results = { [Name in SuiteName]?: Awaited<ReturnType<(typeof SUITES)[Name]>> };
