import { quantile } from './statistics.js';

/** The rate of the calls, and how long they go on. */
export interface Pace {
  readonly perSecond: number;
  readonly seconds: number;
}

/** What calls at a fixed rate took. A latency begins when the call was due, not when it started. */
export interface PacedCalls {
  readonly calls: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Calls that started more than 1 ms after they were due. */
  readonly lateStarts: number;
  readonly errors: number;
  /** Calls ÷ seconds from the first due time to the last answer. */
  readonly perSecond: number;
}

/**
 * Starts calls at a fixed rate, however long their answers take. Every millisecond it starts all calls that are due. A
 * call waits for this, half a millisecond on average, and its latency includes the wait.
 */
export async function pace(call: () => Promise<unknown>, { perSecond, seconds }: Pace): Promise<PacedCalls> {
  const latenciesMs = new Float64Array(perSecond * seconds);
  const startedAt = performance.now();
  const dueAt = (index: number) => startedAt + (index * 1000) / perSecond;
  let started = 0;
  let lateStarts = 0;
  let answered = 0;
  let errors = 0;
  await new Promise<void>((resolve) => {
    const start = async (index: number) => {
      if (performance.now() - dueAt(index) > 1) lateStarts++;
      try {
        await call();
      } catch (error) {
        if (errors++ === 0) console.error(error);
      }
      latenciesMs[index] = performance.now() - dueAt(index);
      if (++answered === latenciesMs.length) resolve();
    };
    const timer = setInterval(() => {
      const now = performance.now();
      while (started < latenciesMs.length && dueAt(started) <= now) void start(started++);
      if (started === latenciesMs.length) clearInterval(timer);
    }, 1);
  });
  const tookSeconds = (performance.now() - startedAt) / 1000;
  latenciesMs.sort();
  return {
    calls: latenciesMs.length,
    p50Ms: quantile(latenciesMs, 0.5),
    p99Ms: quantile(latenciesMs, 0.99),
    maxMs: quantile(latenciesMs, 1),
    lateStarts,
    errors,
    perSecond: latenciesMs.length / tookSeconds,
  };
}
