import { quantile, type Spread, spreadOf } from './statistics.js';

/** One way of doing the measured thing. */
export interface Contestant {
  readonly name: string;
  readonly call: (n: number) => Promise<unknown>;
}

export interface RaceSettings {
  /** Concurrent callers, each with one call under way at all times. */
  readonly callers: number;
  readonly rounds: number;
  /** How long each contestant runs in each round. */
  readonly turnMs: number;
  /** Which user the next call is about. */
  readonly nextUser: () => number;
}

/** What one contestant reached over all rounds; ratios are to the first contestant of the same round. */
export interface Standing {
  readonly name: string;
  readonly perSecond: Spread;
  readonly throughputRatio: Spread;
  /** Median latency of a call in microseconds. */
  readonly latencyUs: Spread;
  readonly latencyRatio: Spread;
  /** Calls a second of each round, for other ratios than those to the first contestant. */
  readonly rounds: readonly number[];
}

/** Throughput of one contestant over another's, round by round. */
export function ratioOf({ rounds }: Standing, other: Standing): Spread {
  return spreadOf(rounds.map((perSecond, round) => perSecond / at(other.rounds, round)));
}

interface Turn {
  readonly perSecond: number;
  readonly latencyUs: number;
}

/**
 * Lets the contestants run one after the other, round by round, each round beginning with another one. A ratio compares
 * turns of one round, so that the load of the machine, which lasts longer than a round, cancels out.
 */
export async function race(contestants: readonly Contestant[], settings: RaceSettings): Promise<Standing[]> {
  for (const contestant of contestants) await run(contestant, settings, settings.turnMs); // warm-up
  const rounds: Turn[][] = [];
  for (let round = 0; round < settings.rounds; round++) {
    const turns: Turn[] = [];
    for (let position = 0; position < contestants.length; position++) {
      const index = (round + position) % contestants.length;
      turns[index] = await run(at(contestants, index), settings, settings.turnMs);
    }
    rounds.push(turns);
  }
  return contestants.map(({ name }, index) => ({
    name,
    perSecond: spreadOf(rounds.map((turns) => at(turns, index).perSecond)),
    throughputRatio: spreadOf(rounds.map((turns) => at(turns, index).perSecond / at(turns, 0).perSecond)),
    latencyUs: spreadOf(rounds.map((turns) => at(turns, index).latencyUs)),
    latencyRatio: spreadOf(rounds.map((turns) => at(turns, index).latencyUs / at(turns, 0).latencyUs)),
    rounds: rounds.map((turns) => at(turns, index).perSecond),
  }));
}

async function run({ call }: Contestant, { callers, nextUser }: RaceSettings, turnMs: number): Promise<Turn> {
  const latencies: number[] = [];
  let calls = 0;
  let isOver = false;
  const caller = async () => {
    while (!isOver) {
      if (calls++ % callers === 0) {
        const before = performance.now();
        await call(nextUser());
        latencies.push(performance.now() - before);
      } else {
        await call(nextUser()); // not timed: reading the clock for each would cost the faster rival more
      }
    }
  };
  const startedAt = performance.now();
  setTimeout(() => (isOver = true), turnMs);
  await Promise.all(Array.from({ length: callers }, caller));
  const seconds = (performance.now() - startedAt) / 1000;
  latencies.sort((a, b) => a - b);
  return { perSecond: calls / seconds, latencyUs: quantile(latencies, 0.5) * 1000 };
}

function at<T>(values: readonly T[], index: number): T {
  const value = values[index];
  if (value === undefined) throw new Error(`There is no value ${index}.`);
  return value;
}
