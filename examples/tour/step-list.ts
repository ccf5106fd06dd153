const LABEL_WIDTH = 34;
const NOTE_WIDTH = 40;

/** Runs steps one after another and lists what each one did and how long it took. */
export class StepList {
  #count = 0;

  /** @param signal once aborted, no further step begins */
  constructor(private readonly signal: AbortSignal) {}

  /**
   * @param work is given a function that sets what the list says of its outcome
   * @throws what `work` throws, and the reason of the signal
   */
  async run<T>(label: string, work: (note: (text: string) => void) => Promise<T>): Promise<T> {
    this.signal.throwIfAborted();
    const startedAt = performance.now();
    let outcome = '';
    process.stdout.write(`${String(++this.#count).padStart(3)}  ${label.padEnd(LABEL_WIDTH)}`);
    try {
      const result = await work((text) => {
        outcome = text;
      });
      const tookMs = Math.round(performance.now() - startedAt);
      process.stdout.write(`${outcome.padEnd(NOTE_WIDTH)}${String(tookMs).padStart(6)} ms\n`);
      return result;
    } catch (error) {
      process.stdout.write('\n');
      throw error;
    }
  }
}
