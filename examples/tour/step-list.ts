const LABEL_WIDTH = 34;
const NOTE_WIDTH = 40;

/** Runs steps one after another. For each step it prints the outcome and the duration. */
export class StepList {
  #count = 0;

  /** @param signal after its abort no further step begins */
  constructor(private readonly signal: AbortSignal) {}

  /**
   * Runs one step and prints its line.
   *
   * @param work gets a function that sets the outcome on this line
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
