import { isValueRefused } from './driver-error.js';

/**
 * How many statements are under way at most. While the callers of one statement use its rows, PostgreSQL executes the
 * other statement. Measured with 32 and 128 callers, a third statement gains nothing.
 */
const MAX_UNDER_WAY = 2;
const MAX_BATCH = 256;
/** A call waits no longer than this for the statements under way, because their connections may be dead. */
const SLOT_TIMEOUT_MS = 250;
const GATHERED: Promise<void> = Promise.resolve();

interface Call<Request, Row> {
  readonly request: Request;
  readonly resolve: (row: Row | null) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Answers the calls of many callers by few statements. If a slot is free, a call is sent at the end of its tick. While
 * both slots are taken, calls gather, so a statement answers more calls when the load is higher. The class caches
 * nothing. The statement that answers a call is sent after the call.
 */
export class BatchedStatement<Request, Row> {
  #waiting: Call<Request, Row>[] = [];
  readonly #underWay = new Set<readonly Call<Request, Row>[]>();
  #isScheduled = false;
  #slotTimer: NodeJS.Timeout | undefined;

  /** @param query executes the statement for many requests. Each row is at the position of its request. */
  constructor(private readonly query: (requests: readonly Request[]) => Promise<readonly (Row | undefined)[]>) {}

  /** Whether calls wait or are under way. */
  get isBusy(): boolean {
    return this.#underWay.size > 0 || this.#waiting.length > 0;
  }

  /** Returns the row of a request, or null if there is none. Rejects as the statement does that had the request. */
  run(request: Request): Promise<Row | null> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, resolve, reject });
      if (this.#underWay.size < MAX_UNDER_WAY) this.#schedule();
      else this.#startSlotTimer();
    });
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // After the microtasks of this tick, because they may make more calls.
    void GATHERED.then(() => {
      process.nextTick(() => {
        const isAlone = this.#waiting.length === 1 && this.#underWay.size > 0;
        // A call that is alone waits for this turn of the event loop, because calls that arrive at once follow in it.
        if (isAlone) {
          setImmediate(() => {
            this.#send();
          });
        } else this.#send();
      });
    });
  }

  #startSlotTimer(): void {
    this.#slotTimer ??= setTimeout(() => {
      this.#underWay.clear();
      this.#send();
    }, SLOT_TIMEOUT_MS);
  }

  #send(): void {
    this.#isScheduled = false;
    clearTimeout(this.#slotTimer);
    this.#slotTimer = undefined;
    while (this.#waiting.length > 0 && this.#underWay.size < MAX_UNDER_WAY) {
      const share = Math.ceil(this.#waiting.length / (MAX_UNDER_WAY - this.#underWay.size));
      void this.#execute(this.#waiting.splice(0, Math.min(share, MAX_BATCH)));
    }
    if (this.#waiting.length > 0) this.#startSlotTimer();
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

  /** Executes a statement for each call, so that a value that PostgreSQL refuses fails only its own call. */
  #executeEach(calls: readonly Call<Request, Row>[]): void {
    for (const call of calls) void this.#execute([call]);
  }
}
