import { TokenStoreUnavailableError } from '../tokens.errors.js';
import type { AuthTokensKey } from './auth-tokens.types.js';

/**
 * Two statements share the work of a busy process: while the callers of one use what it brought, PostgreSQL executes
 * the other. Measured with 32 and 128 callers, a third one gains nothing.
 */
const MAX_UNDER_WAY = 2;
const MAX_BATCH = 256;
/** A statement that takes longer no longer keeps others waiting: its connection may be dead. */
const PATIENCE_MS = 250;
const GATHERED: Promise<void> = Promise.resolve();

interface Lookup<Row> {
  readonly key: AuthTokensKey;
  readonly resolve: (row: Row | null) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Turns the lookups of many callers into few statements. A lookup that finds a free slot is sent at the end of its
 * tick; while both slots are taken lookups gather, so that statements grow with the load. Nothing is cached: every
 * lookup is answered by a statement that was sent after it was asked for.
 */
export class BatchedLookup<Row> {
  #waiting: Lookup<Row>[] = [];
  readonly #underWay = new Set<readonly Lookup<Row>[]>();
  #isScheduled = false;
  #patience: NodeJS.Timeout | undefined;

  /** @param query brings the rows of keys, each at the position of its key */
  constructor(private readonly query: (keys: readonly AuthTokensKey[]) => Promise<readonly (Row | undefined)[]>) {}

  /** Whether lookups wait or are under way. */
  get isBusy(): boolean {
    return this.#underWay.size > 0 || this.#waiting.length > 0;
  }

  /** Rejects as the statement does that carried the lookup. */
  load(key: AuthTokensKey): Promise<Row | null> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key, resolve, reject });
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
    }, PATIENCE_MS);
  }

  #send(): void {
    this.#isScheduled = false;
    clearTimeout(this.#patience);
    this.#patience = undefined;
    while (this.#waiting.length > 0 && this.#underWay.size < MAX_UNDER_WAY) {
      const share = Math.ceil(this.#waiting.length / (MAX_UNDER_WAY - this.#underWay.size));
      void this.#run(this.#waiting.splice(0, Math.min(share, MAX_BATCH)));
    }
    if (this.#waiting.length > 0) this.#bePatient();
  }

  async #run(lookups: readonly Lookup<Row>[]): Promise<void> {
    this.#underWay.add(lookups);
    try {
      const rows = await this.query(lookups.map(({ key }) => key));
      lookups.forEach(({ resolve }, position) => {
        resolve(rows[position] ?? null);
      });
    } catch (error) {
      if (lookups.length > 1 && isAboutAValue(error)) this.#runEach(lookups);
      else for (const { reject } of lookups) reject(error);
    } finally {
      this.#underWay.delete(lookups);
      this.#send();
    }
  }

  /** One by one, so that a key that PostgreSQL cannot take fails nobody else. */
  #runEach(lookups: readonly Lookup<Row>[]): void {
    for (const lookup of lookups) void this.#run([lookup]);
  }
}

/** SQLSTATE class 22: a value is at fault, such as a character that the database's encoding does not have. */
function isAboutAValue(error: unknown): boolean {
  return error instanceof TokenStoreUnavailableError && error.sqlState?.startsWith('22') === true;
}
