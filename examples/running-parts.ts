/** A part that was started and must be stopped. */
export interface Stoppable {
  stop(): Promise<void>;
}

/** The parts that the demo has started. */
export class RunningParts {
  readonly #parts: Stoppable[] = [];

  add<T extends Stoppable>(part: T): T {
    this.#parts.push(part);
    return part;
  }

  /**
   * Stops the parts one after another, the last one first. If one fails to stop, the others are stopped all the same.
   */
  async stop(): Promise<void> {
    const failures: unknown[] = [];
    for (const part of this.#parts.splice(0).reverse()) {
      await part.stop().catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw new AggregateError(failures, 'Not everything could be stopped.');
  }
}
