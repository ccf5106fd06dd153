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

  /** @param query brings the rows of users at one provider, by user id */
  constructor(private readonly query: (users: string[], idp: string) => Promise<ReadonlyMap<string, Row>>) {}

  /** Whether lookups wait or are under way. */
  get isBusy(): boolean {
    return this.#underWay.size > 0 || this.#waiting.length > 0;
  }

  /** Rejects as the statement does that carried the lookup. */
  load(key: AuthTokensKey): Promise<Row | null> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key, resolve, reject });
      if (this.#underWay.size < MAX_UNDER_WAY) this.#schedule();
      else
        this.#patience ??= setTimeout(() => {
          this.#overtake();
        }, PATIENCE_MS);
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

  #overtake(): void {
    this.#underWay.clear();
    this.#send();
  }

  #send(): void {
    this.#isScheduled = false;
    clearTimeout(this.#patience);
    this.#patience = undefined;
    while (this.#waiting.length > 0 && this.#underWay.size < MAX_UNDER_WAY) {
      const share = Math.ceil(this.#waiting.length / (MAX_UNDER_WAY - this.#underWay.size));
      void this.#run(this.#take(Math.min(share, MAX_BATCH)));
    }
  }

  /** Takes lookups at one provider from those that wait, up to a number, the longest waiting first. */
  #take(limit: number): Lookup<Row>[] {
    const idp = this.#waiting[0]?.key.idp;
    if (this.#waiting.every(({ key }) => key.idp === idp)) return this.#waiting.splice(0, limit);
    const taken = new Set(this.#waiting.filter(({ key }) => key.idp === idp).slice(0, limit));
    this.#waiting = this.#waiting.filter((lookup) => !taken.has(lookup));
    return [...taken];
  }

  async #run(lookups: readonly Lookup<Row>[]): Promise<void> {
    const idp = lookups[0]?.key.idp ?? '';
    this.#underWay.add(lookups);
    try {
      const rows = await this.query(
        lookups.map(({ key }) => key.keycloakUserId),
        idp,
      );
      for (const { key, resolve } of lookups) resolve(rows.get(key.keycloakUserId) ?? null);
    } catch (error) {
      for (const { reject } of lookups) reject(error);
    } finally {
      this.#underWay.delete(lookups);
      this.#send();
    }
  }
}
