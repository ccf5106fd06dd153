import { isValueRefused } from './driver-error.js';

/**
 * Two statements share the work of a busy process: while the callers of one use what it brought, PostgreSQL executes
 * the other. Measured with 32 and 128 callers, a third one gains nothing.
 */
const MAX_UNDER_WAY = 2;
const MAX_BATCH = 256;
/** A statement that takes longer no longer keeps others waiting: its connection may be dead. */
const SLOT_TIMEOUT_MS = 250;
const GATHERED: Promise<void> = Promise.resolve();

interface Call<Request, Row> {
  readonly request: Request;
  readonly resolve: (row: Row | null) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Turns the calls of many callers into few statements. A call that finds a free slot is sent at the end of its tick;
 * while both slots are taken calls gather, so that statements grow with the load. Nothing is cached: every call is
 * answered by a statement that was sent after it.
 */
export class BatchedStatement<Request, Row> {
  #waiting: Call<Request, Row>[] = [];
  readonly #underWay = new Set<readonly Call<Request, Row>[]>();
  #isScheduled = false;
  #patience: NodeJS.Timeout | undefined;

  /** @param query executes the statement for many requests; what it brings for each is at the position of the request */
  constructor(private readonly query: (requests: readonly Request[]) => Promise<readonly (Row | undefined)[]>) {}

  /** Whether calls wait or are under way. */
  get isBusy(): boolean {
    return this.#underWay.size > 0 || this.#waiting.length > 0;
  }

  /** What the statement brings for a request, null for nothing; rejects as the statement does that carried it. */
  run(request: Request): Promise<Row | null> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, resolve, reject });
      if (this.#underWay.size < MAX_UNDER_WAY) this.#schedule();
      else this.#bePatient();
    });
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // Behind the microtasks of this tick, which may ask for more.
    void GATHERED.then(() => {
      process.nextTick(() => {
        const isAlone = this.#waiting.length === 1 && this.#underWay.size > 0;
        // One of many requests that arrive at once comes alone too: the others follow in this turn of the event loop.
        if (isAlone) {
          setImmediate(() => {
            this.#send();
          });
        } else this.#send();
      });
    });
  }

  #bePatient(): void {
    this.#patience ??= setTimeout(() => {
      this.#underWay.clear();
      this.#send();
    }, SLOT_TIMEOUT_MS);
  }

  #send(): void {
    this.#isScheduled = false;
    clearTimeout(this.#patience);
    this.#patience = undefined;
    while (this.#waiting.length > 0 && this.#underWay.size < MAX_UNDER_WAY) {
      const share = Math.ceil(this.#waiting.length / (MAX_UNDER_WAY - this.#underWay.size));
      void this.#execute(this.#waiting.splice(0, Math.min(share, MAX_BATCH)));
    }
    if (this.#waiting.length > 0) this.#bePatient();
  }

  async #execute(calls: readonly Call<Request, Row>[]): Promise<void> {
    this.#underWay.add(calls);
    try {
      const rows = await this.query(calls.map(({ request }) => request));
      calls.forEach(({ resolve }, position) => {
        resolve(rows[position] ?? null);
      });
    } catch (error) {
      if (calls.length > 1 && isValueRefused(error)) this.#executeEach(calls);
      else for (const { reject } of calls) reject(error);
    } finally {
      this.#underWay.delete(calls);
      this.#send();
    }
  }

  /** One by one, so that a value that PostgreSQL cannot take fails nobody else. */
  #executeEach(calls: readonly Call<Request, Row>[]): void {
    for (const call of calls) void this.#execute([call]);
  }
}
