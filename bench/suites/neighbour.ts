import { once } from 'node:events';

import { type RunningScript, startScript } from '../../examples/support/child-process.js';
import { seedModule, startModule } from '../rivals/module.js';
import type { BenchServer } from '../support/database.js';
import { type Spread, spreadOf } from '../support/statistics.js';

const USERS = 100_000;
const CALLERS = 32;
const ROUNDS = 3;

/** The reads per second of one process alone, and of two processes beside each other on the same database. */
export interface NeighbourResult {
  readonly callers: number;
  readonly alonePerSecond: Spread;
  /** The first process and the second, beside each other. */
  readonly each: readonly Share[];
  readonly sum: Share;
}

interface Share {
  readonly perSecond: Spread;
  /** Reads per second ÷ reads per second of the first process alone in the same round. */
  readonly ratio: Spread;
}

export async function measureNeighbour(server: BenchServer): Promise<NeighbourResult> {
  const url = await server.createDatabase('neighbour');
  const module = await startModule(url);
  await seedModule(module, url, USERS, Math.floor(Date.now() / 1000) + 7 * 24 * 3600);
  await module.app.close();
  const first = await startReader(url, 1);
  const second = await startReader(url, 2);

  const rounds: { alone: number; beside: [number, number] }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const isAloneFirst = round % 2 === 0;
    const before = isAloneFirst ? await readsPerSecond(first) : NaN;
    const beside = await Promise.all([readsPerSecond(first), readsPerSecond(second)]);
    const alone = isAloneFirst ? before : await readsPerSecond(first);
    rounds.push({ alone, beside });
  }
  await Promise.all([first.stop(), second.stop()]);
  const share = (perSecondOf: (beside: [number, number]) => number): Share => ({
    perSecond: spreadOf(rounds.map(({ beside }) => perSecondOf(beside))),
    ratio: spreadOf(rounds.map(({ alone, beside }) => perSecondOf(beside) / alone)),
  });
  return {
    callers: CALLERS,
    alonePerSecond: spreadOf(rounds.map(({ alone }) => alone)),
    each: [share(([one]) => one), share(([, two]) => two)],
    sum: share(([one, two]) => one + two),
  };
}

function startReader(url: string, seed: number): Promise<RunningScript<unknown>> {
  const args = [url, USERS, CALLERS, seed].map(String);
  return startScript(new URL('./neighbour-reader.process', import.meta.url), args);
}

/** Lets a process warm up and measure. */
async function readsPerSecond({ child }: RunningScript<unknown>): Promise<number> {
  const gone = new AbortController();
  const abort = () => {
    gone.abort();
  };
  child.once('exit', abort);
  const answer = once(child, 'message', { signal: gone.signal });
  child.send('measure');
  const [{ perSecond }] = (await answer) as [{ perSecond: number }];
  child.off('exit', abort);
  return perSecond;
}
