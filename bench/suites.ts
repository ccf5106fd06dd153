import { measureGrowth } from './suites/growth.js';
import { measureHttp } from './suites/http.js';
import { measureLatency } from './suites/latency.js';
import { measureNeighbour } from './suites/neighbour.js';
import { measureReads } from './suites/reads.js';
import { measureRotation } from './suites/rotation.js';
import { measureSealing } from './suites/sealing.js';
import { measureStores } from './suites/stores.js';
import { measureStorm } from './suites/storm.js';
import type { BenchServer } from './support/database.js';

/** The suites of `npm run bench`, in the order in which it runs them. */
export const SUITES = {
  reads: measureReads,
  stores: measureStores,
  sealing: measureSealing,
  http: measureHttp,
  storm: measureStorm,
  growth: measureGrowth,
  latency: measureLatency,
  neighbour: measureNeighbour,
  rotation: (server: BenchServer) => measureRotation(server),
};

export type SuiteName = keyof typeof SUITES;

/** The results of a run. A suite that did not run has no entry. */
export type Results = { [Name in SuiteName]?: Awaited<ReturnType<(typeof SUITES)[Name]>> };
