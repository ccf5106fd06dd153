import { quantile, type Spread, spreadOf } from './statistics.js';

/** One rival of a race. It does the measured work for the user with the number `n`. */
export interface Contestant {
  readonly name: string;
  readonly call: (n: number) => Promise<unknown>;
}

export interface RaceSettings {
  /** Number of concurrent callers. Each has one call under way at all times. */
  readonly callers: number;
  readonly rounds: number;
  /** How long each contestant runs in each round. */
  readonly turnMs: number;
  /** How long each contestant runs before the first round. It is a turn by default. */
  readonly warmUpMs?: number;
  /** Returns the number of the user of the next call. */
  readonly nextUser: () => number;
}

/** The result of one contestant over all rounds. A ratio compares it with the first contestant in the same round. */
export interface Standing {
  readonly name: string;
  readonly perSecond: Spread;
  readonly throughputRatio: Spread;
  /** Median latency of a call in microseconds. */
  readonly latencyUs: Spread;
  readonly latencyRatio: Spread;
  /** Calls per second in each round, for ratios to other contestants than the first. */
  readonly rounds: readonly number[];
}

/** Returns the throughput of one contestant ÷ the throughput of another, over the rounds. */
export function ratioOf({ rounds }: Standing, other: Standing): Spread {
  return spreadOf(rounds.map((perSecond, round) => perSecond / at(other.rounds, round)));
}

interface Turn {
  readonly perSecond: number;
  readonly latencyUs: number;
}

/**
 * Runs the contestants one after the other in each round. Each round begins with another contestant. A ratio compares
 * turns of one round. So the load of the machine cancels out, because it lasts longer than a round.
 */
export async function race(contestants: readonly Contestant[], settings: RaceSettings): Promise<Standing[]> {
  for (const contestant of contestants) await run(contestant, settings, settings.warmUpMs ?? settings.turnMs);
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
        await call(nextUser()); // not timed, because reading the clock for each call would cost the faster rival more
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
