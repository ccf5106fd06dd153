import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { moduleReads, seedModule, startModule } from '../rivals/module.js';
import { type BenchServer, query } from '../support/database.js';
import { type Contestant, race } from '../support/race.js';
import { median } from '../support/statistics.js';
import { randomUsers } from '../support/users.js';

const SIZES = [10_000, 100_000, 1_000_000];
const READS = 1_000_000;
const CALLERS = 32;

/** The cost of a read for each table size, the size of a row, and the memory of a process after many reads. */
export interface GrowthResult {
  readonly sizes: readonly {
    readonly rows: number;
    readonly readsPerSecond: number;
    /** Cost of a read ÷ its cost in the smallest table. This is the median over the rounds. */
    readonly costRatio: number;
    /** Bytes of the table and its indexes ÷ rows. */
    readonly bytesPerRow: number;
  }[];
  /** Bytes of table and indexes with 10^8 rows, extrapolated from the largest table. */
  readonly bytesAt100Million: number;
  readonly memory: { readonly reads: number; readonly bytesBefore: number; readonly bytesAfter: number };
}

export async function measureGrowth(server: BenchServer): Promise<GrowthResult> {
  const expiresAt = Math.floor(Date.now() / 1000) + 7 * 24 * 3600;
  const modules = [];
  for (const rows of SIZES) {
    const url = await server.createDatabase(`growth_${rows}`);
    const module = await startModule(url);
    await seedModule(module, url, rows, expiresAt);
    modules.push({ rows, url, module });
  }
  const contestants = modules.map(({ rows, module }): Contestant => {
    const { call } = moduleReads(module);
    const nextUser = randomUsers(rows);
    return { name: String(rows), call: () => call(nextUser()) };
  });
  const settings = { callers: CALLERS, rounds: 9, turnMs: 300, nextUser: () => 0 };
  const standings = await race(contestants, settings);

  const sizes = [];
  for (const [index, { rows, url }] of modules.entries()) {
    const [size] = await query(url, `SELECT pg_total_relation_size('auth_tokens') AS bytes`);
    sizes.push({
      rows,
      readsPerSecond: standings[index]?.perSecond.median ?? NaN,
      costRatio: 1 / (standings[index]?.throughputRatio.median ?? NaN),
      bytesPerRow: Number(size?.bytes) / rows,
    });
  }
  const memory = await readMany(contestants[1]);
  await Promise.all(modules.map(({ module }) => module.app.close()));
  return { sizes, bytesAt100Million: (sizes.at(-1)?.bytesPerRow ?? NaN) * 1e8, memory };
}

/** Returns the bytes in use before and after many reads. */
async function readMany(contestant: Contestant | undefined): Promise<GrowthResult['memory']> {
  if (!contestant) throw new Error('There is no contestant.');
  const read = async (count: number) => {
    let reads = 0;
    const caller = async () => {
      while (reads++ < count) await contestant.call(0);
    };
    await Promise.all(Array.from({ length: CALLERS }, caller));
  };
  await read(READS / 10);
  const bytesBefore = bytesInUse();
  await read(READS);
  return { reads: READS, bytesBefore, bytesAfter: bytesInUse() };
}

/** Returns the bytes of heap and buffers after a garbage collection, as the median of five. */
function bytesInUse(): number {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  return median(
    Array.from({ length: 5 }, () => {
      collectGarbage();
      const { heapUsed, external } = process.memoryUsage();
      return heapUsed + external;
    }),
  );
}
